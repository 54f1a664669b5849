// Runs a model token by token: what attention needs of the tokens before is kept (a KV cache).
#pragma once

#include <vector>

#include "lieq/device/device.h"
#include "lieq/model/forward.h"
#include "lieq/model/weights.h"

namespace lieq {

/// Sequences of equal length, side by side. All layers lie on the device. The cache takes 2 *
/// layers * sequences * capacity * kv_heads * head_dim floats.
class Decoder {
 public:
  /// weights and device outlive this. sequences, capacity (the most tokens of one) >= 1.
  Decoder(const Weights& weights, Device& device, Index sequences, Index capacity);

  /// Adds tokens [sequences, n], n >= 1, to the end of each sequence; length() + n <= capacity.
  /// logits [sequences, vocab]: of the token after the last one, as the forward pass over the whole
  /// sequence gives them up to rounding. Throws Error for a token outside the vocabulary.
  void Append(View<const TokenId, 2> tokens, View<float, 2> logits);

  /// Forgets all but the first `length` tokens of each sequence; 0 <= length <= length().
  void Rewind(Index length);

  /// Tokens of each sequence so far.
  [[nodiscard]] Index length() const noexcept { return length_; }

 private:
  [[nodiscard]] Hidden Run(View<const TokenId, 2> tokens);

  Forward forward_;
  Index sequences_;
  Index capacity_;
  Index length_ = 0;
  std::vector<LayerCache> caches_;
};

}  // namespace lieq
