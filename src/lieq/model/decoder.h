// Runs a model token by token: what attention needs of the tokens before is kept (a KV cache).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lieq/device/device.h"
#include "lieq/model/forward.h"
#include "lieq/model/weights.h"

namespace lieq {

/// Tokens that join a sequence; one at least.
struct SequenceTokens {
  Index sequence = 0;
  std::span<const TokenId> tokens;
};

/// Sequences side by side, each with a length of its own. All layers lie on the device. The cache
/// takes 2 * layers * sequences * capacity * kv_heads * head_dim numbers of the device's type.
class Decoder {
 public:
  /// device outlives this. sequences, capacity (the most tokens of one) >= 1. Weights that were
  /// moved here are let go of as they are placed.
  Decoder(Weights weights, Device& device, Index sequences, Index capacity);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Adds tokens [sequences, n], n >= 1, to the end of each sequence, which have one length;
  /// length() + n <= capacity. logits [sequences, vocab]: of the token after the last one, as the
  /// forward pass over the whole sequence gives them up to rounding. Throws Error for a token
  /// outside the vocabulary.
  void Append(View<const TokenId, 2> tokens, View<float, 2> logits);
  /// The same for some of the sequences, each once, in one batch. logits [parts, vocab].
  void Append(std::span<const SequenceTokens> parts, View<float, 2> logits);
  /// The same; the logits are there until the next call, and of a step of one token of each
  /// sequence nothing copies them.
  [[nodiscard]] View<const float, 2> Append(View<const TokenId, 2> tokens);
  [[nodiscard]] View<const float, 2> Append(std::span<const SequenceTokens> parts);

  /// Forgets all but the first `length` tokens of a sequence; 0 <= length <= length(sequence).
  /// Layers without attention cannot take tokens back: those that stay are run again for them.
  void Rewind(Index length, Index sequence = 0);

  /// Tokens of a sequence so far.
  [[nodiscard]] Index length(Index sequence = 0) const { return lengths_[Size(sequence)]; }
  [[nodiscard]] Index sequences() const noexcept { return sequences_; }
  [[nodiscard]] Index capacity() const noexcept { return capacity_; }
  [[nodiscard]] Index vocab() const noexcept { return vocab_; }

 private:
  /// [tokens, hidden], until the next call.
  DeviceView<float> Run(View<const TokenId, 2> tokens, std::span<const AttentionSpan> spans);
  /// Whether one token of each of so many sequences is a step that devices may repeat.
  [[nodiscard]] bool Repeats(Index parts) const;
  /// One token of each of some sequences; spans: of each.
  [[nodiscard]] View<const float, 2> Step(std::span<const TokenId> tokens,
                                          std::span<const AttentionSpan> spans);
  /// [rows, vocab] of the host, until the next call.
  [[nodiscard]] View<float, 2> HostLogits(Index rows);

  Weights weights_;  // what is left of them
  Device& device_;
  Forward forward_;
  Index sequences_;
  Index capacity_;
  Index vocab_;
  std::vector<Index> lengths_;
  std::vector<LayerCache> caches_;
  bool recurs_;                                // some layer is without attention
  std::vector<std::vector<TokenId>> history_;  // of each sequence, where it recurs
  bool plain_;                                 // all layers' steps are ones that may be repeated
  // Kept, since what is recorded holds as long as no memory is given back.
  DeviceMatrix hidden_;
  DeviceMatrix step_logits_;                         // where the host reads them
  Matrix<float> host_logits_;                        // of prompts
  std::vector<std::unique_ptr<RepeatedStep>> kept_;  // by the number of tokens, less 1
};

}  // namespace lieq
