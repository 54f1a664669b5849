#include "lieq/model/decoder.h"

#include <algorithm>

#include "lieq/model/passes.h"

namespace lieq {

Decoder::Decoder(const Weights& weights, Device& device, Index sequences, Index capacity)
    : forward_(weights, device, capacity, Residency::kAllLayers),
      sequences_(sequences),
      capacity_(capacity) {
  LIEQ_ASSERT(sequences >= 1 && capacity >= 1);
  const ModelConfig& config = weights.config;
  for (Index layer = 0; layer < config.layers; ++layer) {
    caches_.push_back({device.Alloc(sequences * capacity, config.Out(Site::kK)),
                       device.Alloc(sequences * capacity, config.Out(Site::kV))});
  }
}

void Decoder::Append(View<const TokenId, 2> tokens, View<float, 2> logits) {
  LIEQ_ASSERT(tokens.rows() == sequences_ && tokens.cols() >= 1);
  LIEQ_ASSERT(length_ + tokens.cols() <= capacity_);
  // A long prompt goes in pieces, which bounds the memory of activations.
  const Index piece = std::max<Index>(1, kBatchRows / sequences_);
  for (Index begin = 0; begin < tokens.cols(); begin += piece) {
    const Index count = std::min(piece, tokens.cols() - begin);
    const Hidden hidden = Run(tokens.Cols(begin, count));
    length_ += count;
    if (begin + count == tokens.cols()) forward_.LastLogits(hidden, logits);
  }
}

void Decoder::Rewind(Index length) {
  LIEQ_ASSERT(length >= 0 && length <= length_);
  length_ = length;  // what lies behind it in the caches is written over
}

Hidden Decoder::Run(View<const TokenId, 2> tokens) {
  Matrix<TokenId> packed(tokens.rows(), tokens.cols());
  for (Index s = 0; s < tokens.rows(); ++s) {
    std::ranges::copy(tokens.Row(s), packed.view().Row(s).begin());
  }
  Hidden hidden = forward_.Embed(packed.view());
  const std::vector<AttentionSpan> spans =
      WindowSpans(tokens.rows(), tokens.cols(), length_, capacity_);
  for (std::size_t layer = 0; layer < caches_.size(); ++layer) {
    forward_.Layer(static_cast<Index>(layer), hidden.x.view(), spans, &caches_[layer]);
  }
  return hidden;
}

}  // namespace lieq
