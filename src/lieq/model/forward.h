// The forward pass of Llama, Qwen2 and Qwen3 as a layer stepper.
//
// Skipping a layer is not calling Layer; compactness is an observer; GPTQ walks the six steps of a
// layer itself (LayerSteps), quantizing between them; evaluation calls Layer and Nll.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/model/config.h"
#include "lieq/model/placed_weights.h"
#include "lieq/model/rope.h"
#include "lieq/model/weights.h"

namespace lieq {

/// Rows of activations that one batch of a layer takes: enough for products at full speed, few
/// enough that the intermediates of an 8B model stay below a gigabyte.
inline constexpr Index kBatchRows = 2048;

/// Windows of activations, [windows * length, hidden] on the device.
struct Hidden {
  DeviceMatrix x;
  Index windows = 0;
  Index length = 0;
};

/// Sees the input of each unit as a layer runs: [rows, in], valid during the call.
using Observer = std::function<void(Unit unit, DeviceView<const float> input)>;

/// Keys and values of one layer for the tokens that went before, after norms and rotation.
/// [windows * capacity, kv_heads * head_dim] each; of every window the first `past` rows are
/// filled.
struct LayerCache {
  DeviceMatrix keys, values;
};

/// The six steps of one layer on a batch of windows: each is a plain function of its arguments, so
/// that a caller may replace linears between steps.
class LayerSteps {
 public:
  LayerSteps(const ModelConfig& config, Device& device, Index max_length);

  /// in = norm(x): the input of q, k, v. x, in [rows, hidden]
  void QkvInput(const PlacedLayer& layer, DeviceView<const float> x, DeviceView<float> in);
  /// out = attention of q, k, v of `in`: the input of o. in [rows, hidden], out [rows, heads *
  /// head_dim]. The spans fill the rows in order.
  void AttentionOutput(const PlacedLayer& layer, DeviceView<const float> in,
                       std::span<const AttentionSpan> spans, DeviceView<float> out);
  /// The same for windows of one length.
  void AttentionOutput(const PlacedLayer& layer, DeviceView<const float> in, Index length,
                       DeviceView<float> out);
  /// The same for tokens that follow `past` others of their window: their keys and values are added
  /// to the cache, which has room for them.
  void AttentionOutput(const PlacedLayer& layer, DeviceView<const float> in, Index length,
                       LayerCache& cache, Index past, DeviceView<float> out);
  /// x += o(attention)
  void AddO(const PlacedLayer& layer, DeviceView<const float> attention, DeviceView<float> x);
  /// in = norm(x): the input of gate and up.
  void MlpInput(const PlacedLayer& layer, DeviceView<const float> x, DeviceView<float> in);
  /// out = silu(gate(in)) * up(in): the input of down. out [rows, intermediate]
  void Gated(const PlacedLayer& layer, DeviceView<const float> in, DeviceView<float> out);
  /// x += down(gated)
  void AddDown(const PlacedLayer& layer, DeviceView<const float> gated, DeviceView<float> x);

 private:
  struct Heads {
    DeviceView<float> q, k, v;
  };
  /// q, k and v of `in`, normed and rotated: in q_, k_ and v_.
  Heads Project(const PlacedLayer& layer, DeviceView<const float> in,
                std::span<const AttentionSpan> spans);
  [[nodiscard]] AttentionHeads HeadShape() const;
  void RmsNorm(DeviceView<const float> x, const PlacedVector& weight, DeviceView<float> y);

  const ModelConfig& config_;
  Device& device_;
  PlacedRope rope_;
  DeviceMatrix q_, k_, v_, up_;
};

class Forward {
 public:
  /// weights and device outlive this. max_length: the longest window that will be run.
  Forward(const Weights& weights, Device& device, Index max_length,
          Residency residency = Residency::kOneLayer);

  /// tokens [windows, length], each below the vocabulary (throws Error otherwise).
  [[nodiscard]] Hidden Embed(View<const TokenId, 2> tokens);
  /// One layer in place, in batches of whole windows that bound the memory of intermediates.
  /// observer: may be empty; called for every batch in order.
  void Layer(Index layer, Hidden& hidden, const Observer& observer = {});
  /// The same with other weights than the model's: of its shapes, alive during the call.
  void Layer(const LayerWeights& weights, Hidden& hidden, const Observer& observer = {});
  /// One layer on packed sequences, x [rows, hidden] in place. The spans fill the rows in order and
  /// find the keys of their past among them; rows: kBatchRows at most keep memory bounded.
  void Layer(Index layer, DeviceView<float> x, std::span<const AttentionSpan> spans);
  /// nll [windows, length - 1 - first]: minus the log probability of the token after each position
  /// from `first` on, nats. Throws Error naming the window where one is not finite.
  void Nll(const Hidden& hidden, View<const TokenId, 2> tokens, View<double, 2> nll,
           Index first = 0);
  /// logits [x.rows(), vocab] of the tokens after those of x [rows, hidden], any rows of a Hidden.
  void Logits(DeviceView<const float> x, DeviceView<float> logits);
  /// log_probabilities[i]: of picks[i].token to follow row picks[i].row of x [rows, hidden], nats.
  /// Rows of picks do not fall; where they repeat, the head runs once.
  void LogProbabilities(DeviceView<const float> x, std::span<const TokenPick> picks,
                        std::span<double> log_probabilities);
  /// logits [windows, vocab] of the token after the last one of each window.
  void LastLogits(const Hidden& hidden, View<float, 2> logits);

  [[nodiscard]] LayerSteps& steps() noexcept { return steps_; }
  [[nodiscard]] PlacedWeights& placed() noexcept { return placed_; }
  /// Windows of `length` that one batch of Layer takes.
  [[nodiscard]] Index BatchWindows(Index length) const noexcept;

 private:
  void Run(const PlacedLayer& layer, Hidden& hidden, const Observer& observer);
  void Run(const PlacedLayer& layer, DeviceView<float> x, std::span<const AttentionSpan> spans,
           const Observer& observer);

  const Weights& weights_;
  Device& device_;
  PlacedWeights placed_;
  LayerSteps steps_;
  DeviceMatrix in_, attention_, gated_, logits_;
};

}  // namespace lieq
