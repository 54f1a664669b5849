// The part of a device that layers beyond Llama's need: other ways of mixing tokens, norms behind
// blocks, other activations. A device has it whole or not at all.
#pragma once

#include <span>
#include <string_view>

#include "lieq/device/device.h"

namespace lieq {

/// What a mixer keeps of sequences between calls, a row for each. Spans name a sequence by
/// past_keys / capacity. Without one, spans find their pasts among the rows, where theirs begin at
/// past_keys.
struct SequenceState {
  DeviceView<float> rows;
  Index capacity = 0;
};

struct ConvolutionWeights {
  DeviceView<const float>
      weight;                    // [1, channels * kernel]; the last of a kernel is the token's own
  DeviceView<const float> bias;  // [1, channels] or empty
  Index kernel = 0;
  bool swish = false;
};

/// Of the gated delta rule (Yang et al., arXiv:2412.06464). All [1, n]; value head h reads key head
/// h * key_heads / value_heads.
struct DeltaWeights {
  Index key_heads = 0, value_heads = 0;
  Index key_dim = 0, value_dim = 0;
  DeviceView<const float> decay_input, strength_input;  // value_heads * hidden
  DeviceView<const float> decay, shift;                 // value_heads
};

class MixerOps {
 public:
  virtual ~MixerOps() = default;

  /// to += from.
  virtual void Add(DeviceView<const float> from, DeviceView<float> to) = 0;
  /// x *= by, and x *= sigmoid(by).
  virtual void Multiply(DeviceView<float> x, DeviceView<const float> by) = 0;
  virtual void MultiplyBySigmoid(DeviceView<float> x, DeviceView<const float> by) = 0;
  /// gate = gelu(gate) * up, in place, by its approximation with tanh.
  virtual void GeluGlu(DeviceView<float> gate, DeviceView<const float> up) = 0;
  /// x = cap tanh(x / cap).
  virtual void SoftCap(DeviceView<float> x, float cap) = 0;
  /// y: of each channel the sum over the last `kernel` tokens of its sequence, those before the
  /// first being 0. x, y [rows, channels], apart. state: channels * (kernel - 1) columns, which a
  /// span leaves as its last inputs; one without a past begins anew.
  virtual void Convolve(DeviceView<const float> x, const ConvolutionWeights& weights,
                        std::span<const AttentionSpan> spans, const SequenceState& state,
                        DeviceView<float> y) = 0;
  /// Token by token, of each value head with a matrix S [key_dim, value_dim], at first 0:
  ///   S *= exp(-decay softplus(decay_input·normed + shift))
  ///   S += k ((v - Sᵀ k) sigmoid(strength_input·normed))ᵀ,  out = Sᵀ q
  /// where q and k are divided by their lengths, q by sqrt(key_dim) too. qkv [rows, queries, keys,
  /// values of all heads], normed [rows, hidden], out [rows, value_heads * value_dim]. state:
  /// value_heads * key_dim * value_dim columns.
  virtual void GatedDelta(DeviceView<const float> qkv, DeviceView<const float> normed,
                          const DeltaWeights& weights, std::span<const AttentionSpan> spans,
                          const SequenceState& state, DeviceView<float> out) = 0;
  /// x = its nearest within limit of 0.
  virtual void Clip(DeviceView<float> x, float limit) = 0;
  /// The experts that each row goes to: those with the largest of router·normed, the largest first,
  /// of equals the lower one. normed [n, hidden], router [1, experts * hidden]; routes [n, 2 *
  /// used]: which, then how much each counts: softmax over all experts, where `normalised` divided
  /// by the sum of those of the row. Which are chosen does not depend on the other rows.
  virtual void Route(DeviceView<const float> normed, DeviceView<const float> router,
                     bool normalised, DeviceView<float> routes) = 0;
  /// to[i] = from[rows[i]].
  virtual void Gather(DeviceView<const float> from, std::span<const Index> rows,
                      DeviceView<float> to) = 0;
  /// to[i] += sum over j < used of routes[i, used + j] * from[rows[i * used + j]], in this order.
  virtual void AddRouted(DeviceView<const float> from, std::span<const Index> rows,
                         DeviceView<const float> routes, DeviceView<float> to) = 0;
};

/// The part of the device. Throws Error, naming the device and what needs it, where it has none.
[[nodiscard]] MixerOps& RequireMixers(Device& device, std::string_view needed_by);

}  // namespace lieq
