#include "lieq/model/decoder.h"

#include <algorithm>
#include <utility>

#include "lieq/model/passes.h"

namespace lieq {
namespace {

constexpr Index kMostRepeated = 64;  // sequences of a step whose buffers are kept

bool IsPlain(const LayerStep& step) {
  switch (step.kind) {
    case StepKind::kNorm:
    case StepKind::kHeadNorm:
    case StepKind::kRotate:
    case StepKind::kAttend:
    case StepKind::kActivate:
    case StepKind::kScale:
      return true;
    case StepKind::kProducts:
      return !step.experts;
    default:
      return false;
  }
}

void CopyRows(View<const float, 2> from, View<float, 2> to) {
  LIEQ_ASSERT(from.rows() == to.rows() && from.cols() == to.cols());
  for (Index r = 0; r < from.rows(); ++r) std::ranges::copy(from.Row(r), to.Row(r).begin());
}

}  // namespace

Decoder::Decoder(Weights weights, Device& device, Index sequences, Index capacity)
    : weights_(std::move(weights)),
      device_(device),
      forward_(weights_, device, capacity),
      sequences_(sequences),
      capacity_(capacity),
      vocab_(weights_.config.vocab),
      lengths_(Size(sequences)) {
  LIEQ_ASSERT(sequences >= 1 && capacity >= 1);
  forward_.PlaceAll(weights_);
  const ModelConfig& config = weights_.config;
  recurs_ = config.Mixes(Mixer::kGatedDelta) || config.Mixes(Mixer::kShortConv);
  if (recurs_) history_.resize(Size(sequences));
  plain_ = config.logit_cap == 0 && config.attention_cap == 0;
  for (Index layer = 0; layer < config.layers; ++layer) {
    plain_ = plain_ && std::ranges::all_of(forward_.runner().Steps(layer), IsPlain);
  }
  const auto room = [&] {
    return device.AllocCache(sequences * capacity, config.kv_heads, config.head_dim);
  };
  for (Index layer = 0; layer < config.layers; ++layer) {
    const LayerShape shape = config.Shape(layer);
    LayerCache cache{
        .keys = nullptr, .values = nullptr, .conv = {}, .delta = {}, .capacity = capacity};
    if (shape.mixer == Mixer::kAttention) {
      cache.keys = room();
      cache.values = room();
    } else {
      const Index channels = ShapeOf(config, shape, LayerVector::kConv)[0];
      const DeltaShape& delta = config.delta;
      // A kernel of one token keeps nothing; a column is there all the same.
      cache.conv = device.Alloc(sequences, channels * std::max<Index>(1, config.conv_kernel - 1));
      if (shape.mixer == Mixer::kGatedDelta) {
        cache.delta = device.Alloc(sequences, delta.values() * delta.key_dim);
      }
    }
    caches_.push_back(std::move(cache));
  }
}

void Decoder::Append(View<const TokenId, 2> tokens, View<float, 2> logits) {
  CopyRows(Append(tokens), logits);
}

void Decoder::Append(std::span<const SequenceTokens> parts, View<float, 2> logits) {
  CopyRows(Append(parts), logits);
}

View<const float, 2> Decoder::Append(View<const TokenId, 2> tokens) {
  LIEQ_ASSERT(tokens.rows() == sequences_ && tokens.cols() >= 1);
  LIEQ_ASSERT(std::ranges::count(lengths_, lengths_.front()) == sequences_);
  LIEQ_ASSERT(lengths_.front() + tokens.cols() <= capacity_);
  if (tokens.cols() == 1 && Repeats(sequences_)) {
    std::vector<TokenId> one(Size(sequences_));
    for (Index s = 0; s < sequences_; ++s) one[Size(s)] = tokens(s, 0);
    const auto logits = Step(one, WindowSpans(sequences_, 1, lengths_.front(), capacity_));
    for (Index& length : lengths_) ++length;
    return logits;
  }
  const View<float, 2> logits = HostLogits(sequences_);
  // A long prompt goes in pieces, which bounds the memory of activations.
  const Index piece = std::max<Index>(1, kBatchRows / sequences_);
  for (Index begin = 0; begin < tokens.cols(); begin += piece) {
    const Index count = std::min(piece, tokens.cols() - begin);
    const DeviceView<float> hidden =
        Run(tokens.Cols(begin, count), WindowSpans(sequences_, count, lengths_.front(), capacity_));
    for (std::size_t s = 0; s < history_.size(); ++s) {
      const auto added = tokens.Row(static_cast<Index>(s)).subspan(Size(begin), Size(count));
      history_[s].insert(history_[s].end(), added.begin(), added.end());
    }
    for (Index& length : lengths_) length += count;
    if (begin + count < tokens.cols()) continue;
    std::vector<Index> last;
    for (Index s = 0; s < sequences_; ++s) last.push_back((s + 1) * count - 1);
    forward_.LogitsOf(hidden, last, logits);
  }
  return logits;
}

View<const float, 2> Decoder::Append(std::span<const SequenceTokens> parts) {
  const bool single = std::ranges::all_of(
      parts, [](const SequenceTokens& some) { return some.tokens.size() == 1; });
  if (single && Repeats(static_cast<Index>(parts.size()))) {
    std::vector<TokenId> tokens;
    std::vector<AttentionSpan> spans;
    for (const auto& [sequence, added] : parts) {
      const Index length = lengths_[Size(sequence)], first = sequence * capacity_;
      LIEQ_ASSERT(length < capacity_);
      spans.push_back({.begin = static_cast<Index>(tokens.size()),
                       .length = 1,
                       .keys = first + length,
                       .past = length,
                       .past_keys = first});
      tokens.push_back(added.front());
    }
    const auto logits = Step(tokens, spans);
    for (const SequenceTokens& some : parts) ++lengths_[Size(some.sequence)];
    return logits;
  }
  const View<float, 2> logits = HostLogits(static_cast<Index>(parts.size()));
  std::size_t part = 0;
  Index taken = 0;  // of that part
  while (part < parts.size()) {
    std::vector<TokenId> tokens;
    std::vector<AttentionSpan> spans;
    std::vector<Index> last;  // rows of the last tokens of parts that end in this batch
    const std::size_t first_ended = part;
    while (part < parts.size() && static_cast<Index>(tokens.size()) < kBatchRows) {
      const auto& [sequence, added] = parts[part];
      LIEQ_ASSERT(sequence >= 0 && sequence < sequences_ && !added.empty());
      Index& length = lengths_[Size(sequence)];
      const auto begin = static_cast<Index>(tokens.size());
      const Index count = std::min(kBatchRows - begin, static_cast<Index>(added.size()) - taken);
      LIEQ_ASSERT(length + count <= capacity_);
      spans.push_back({.begin = begin,
                       .length = count,
                       .keys = sequence * capacity_ + length,
                       .past = length,
                       .past_keys = sequence * capacity_});
      const auto some = added.subspan(Size(taken), Size(count));
      tokens.insert(tokens.end(), some.begin(), some.end());
      if (recurs_) {
        auto& history = history_[Size(sequence)];
        history.insert(history.end(), some.begin(), some.end());
      }
      length += count;
      taken += count;
      if (taken < static_cast<Index>(added.size())) break;  // the batch is full
      last.push_back(static_cast<Index>(tokens.size()) - 1);
      taken = 0;
      ++part;
    }
    const DeviceView<float> hidden =
        Run({tokens.data(), 1, static_cast<Index>(tokens.size())}, spans);
    if (last.empty()) continue;
    forward_.LogitsOf(
        hidden, last,
        logits.Rows(static_cast<Index>(first_ended), static_cast<Index>(last.size())));
  }
  return logits;
}

void Decoder::Rewind(Index length, Index sequence) {
  LIEQ_ASSERT(length >= 0 && length <= lengths_[Size(sequence)]);
  const bool shorter = length < lengths_[Size(sequence)];
  lengths_[Size(sequence)] = length;  // what lies behind it in the caches is written over
  if (!recurs_ || !shorter) return;
  history_[Size(sequence)].resize(Size(length));
  const std::span<const TokenId> again = history_[Size(sequence)];
  for (Index begin = 0; begin < length; begin += kBatchRows) {
    const Index count = std::min(kBatchRows, length - begin);
    const AttentionSpan span{.begin = 0,
                             .length = count,
                             .keys = sequence * capacity_ + begin,
                             .past = begin,
                             .past_keys = sequence * capacity_};
    (void)Run({again.data() + begin, 1, count}, {&span, 1});
  }
}

bool Decoder::Repeats(Index parts) const {
  return plain_ && parts >= 1 && parts <= kMostRepeated && parts * vocab_ <= kLogitElements;
}

View<float, 2> Decoder::HostLogits(Index rows) {
  if (host_logits_.rows() < rows) host_logits_ = Matrix<float>(sequences_, vocab_);
  return host_logits_.view().Rows(0, rows);
}

View<const float, 2> Decoder::Step(std::span<const TokenId> tokens,
                                   std::span<const AttentionSpan> spans) {
  const auto count = static_cast<Index>(tokens.size());
  forward_.CheckTokens(tokens, 0);
  // As many rows as there may be, so that what is recorded of fewer stays where it is.
  const Index most = std::min(sequences_, kMostRepeated);
  (void)Sized(device_, hidden_, most, weights_.config.hidden);
  if (step_logits_.rows() == 0) {
    step_logits_ = device_.AllocOutside(std::min(most, kLogitElements / vocab_), vocab_);
  }
  const DeviceView<float> hidden = hidden_.Shaped(count, weights_.config.hidden),
                          out = step_logits_.Shaped(count, vocab_);
  if (kept_.empty()) kept_.resize(Size(most));
  device_.Repeat(kept_[Size(count) - 1], tokens, spans, out, [&] {
    forward_.Embed(tokens, hidden);
    for (std::size_t layer = 0; layer < caches_.size(); ++layer) {
      forward_.Layer(static_cast<Index>(layer), hidden, spans, &caches_[layer]);
    }
    forward_.Logits(hidden, out);
  });
  return device_.ReadOutside(out);
}

DeviceView<float> Decoder::Run(View<const TokenId, 2> tokens,
                               std::span<const AttentionSpan> spans) {
  Matrix<TokenId> packed(tokens.rows(), tokens.cols());
  for (Index s = 0; s < tokens.rows(); ++s) {
    forward_.CheckTokens(tokens.Row(s), s);
    std::ranges::copy(tokens.Row(s), packed.view().Row(s).begin());
  }
  const DeviceView<float> hidden = Sized(device_, hidden_, packed.size(), weights_.config.hidden);
  forward_.Embed({packed.data(), Size(packed.size())}, hidden);
  for (std::size_t layer = 0; layer < caches_.size(); ++layer) {
    forward_.Layer(static_cast<Index>(layer), hidden, spans, &caches_[layer]);
  }
  return hidden;
}

}  // namespace lieq
