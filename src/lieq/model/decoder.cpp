#include "lieq/model/decoder.h"

#include <algorithm>

#include "lieq/model/passes.h"

namespace lieq {

Decoder::Decoder(const Weights& weights, Device& device, Index sequences, Index capacity)
    : weights_(weights),
      device_(device),
      forward_(weights, device, capacity, Residency::kAllLayers),
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

Hidden Decoder::Run(View<const TokenId, 2> tokens) {
  const ModelConfig& config = weights_.config;
  const Index rows = tokens.size();
  Matrix<TokenId> packed(tokens.rows(), tokens.cols());
  for (Index s = 0; s < tokens.rows(); ++s) {
    std::ranges::copy(tokens.Row(s), packed.view().Row(s).begin());
  }
  Hidden hidden = forward_.Embed(packed.view());
  const DeviceView<float> x = hidden.x.view();
  const auto in = Sized(device_, in_, rows, config.hidden);
  const auto attention = Sized(device_, attention_, rows, config.In(Site::kO));
  const auto gated = Sized(device_, gated_, rows, config.intermediate);
  LayerSteps& steps = forward_.steps();
  for (std::size_t layer = 0; layer < caches_.size(); ++layer) {
    const PlacedLayer& placed = forward_.placed().Layer(static_cast<Index>(layer));
    steps.QkvInput(placed, x, in);
    steps.AttentionOutput(placed, in, tokens.cols(), caches_[layer], length_, attention);
    steps.AddO(placed, attention, x);
    steps.MlpInput(placed, x, in);
    steps.Gated(placed, in, gated);
    steps.AddDown(placed, gated, x);
  }
  return hidden;
}

}  // namespace lieq
