// The forward pass as a layer stepper.
//
// Skipping a layer is not calling Layer; compactness is an observer; GPTQ walks the steps of a
// layer itself (quantize/streams.h), quantizing between them; evaluation calls Layer and Nll.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/model/config.h"
#include "lieq/model/placed_weights.h"
#include "lieq/model/step_runner.h"
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

/// Sees the input of each unit as a layer runs: [rows, in], valid during the call. The unit's
/// products read what it leaves there.
using Observer = std::function<void(Unit unit, DeviceView<float> input)>;

class Forward {
 public:
  /// weights and device outlive this. max_length: the longest window that will be run.
  Forward(const Weights& weights, Device& device, Index max_length);
  /// As PlacedWeights::PlaceAll, of the weights that this was made with.
  void PlaceAll(Weights& weights) { placed_.PlaceAll(weights); }

  /// tokens [windows, length], each below the vocabulary (throws Error otherwise).
  [[nodiscard]] Hidden Embed(View<const TokenId, 2> tokens);
  /// The same into x [tokens, hidden], of tokens that CheckTokens has passed.
  void Embed(std::span<const TokenId> tokens, DeviceView<float> x);
  /// Throws Error, naming the window, for one outside the vocabulary.
  void CheckTokens(std::span<const TokenId> tokens, Index window) const;
  /// One layer in place, in batches of whole windows that bound the memory of intermediates.
  /// observer: may be empty; called for every batch in order.
  void Layer(Index layer, Hidden& hidden, const Observer& observer = {});
  /// The same with other weights than the model's: of its shapes, alive during the call.
  void Layer(Index layer, const LayerWeights& weights, Hidden& hidden,
             const Observer& observer = {});
  /// One layer on packed sequences, x [rows, hidden] in place. The spans fill the rows in order.
  /// They find the keys of their past among the rows or, where there is a cache, in that, which has
  /// room for those of the rows. rows: kBatchRows at most keep memory bounded.
  void Layer(Index layer, DeviceView<float> x, std::span<const AttentionSpan> spans,
             LayerCache* cache = nullptr);
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
  /// logits [rows.size(), vocab] of the tokens after those rows of x [n, hidden].
  void LogitsOf(DeviceView<const float> x, std::span<const Index> rows, View<float, 2> logits);

  /// Where the tokens of the batch go that an observer sees an input of, of a layer with experts.
  /// [tokens, 2 * used]
  [[nodiscard]] DeviceView<const float> Routes(Index layer, Index tokens) {
    return runner_.Own(LayerValue::kRoutes, tokens, weights_.config.Shape(layer));
  }

  [[nodiscard]] StepRunner& runner() noexcept { return runner_; }
  /// Windows of `length` that one batch of Layer takes.
  [[nodiscard]] Index BatchWindows(Index length) const noexcept;

 private:
  void Run(Index layer, const PlacedLayer& placed, Hidden& hidden, const Observer& observer);
  void Run(Index layer, const StepContext& context, DeviceView<float> x, const Observer& observer);
  /// Of normed rows, by the head, with what the model does to logits.
  void HeadLogits(DeviceView<const float> normed, DeviceView<float> logits);
  /// [rows, hidden], for the norm before the head.
  DeviceView<float> Normed(Index rows) { return runner_.Own(LayerValue::kNormed, rows); }

  const Weights& weights_;
  Device& device_;
  PlacedWeights placed_;
  StepRunner runner_;
  DeviceMatrix logits_;
};

}  // namespace lieq
