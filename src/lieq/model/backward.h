// One backward pass of the next-token loss: gradients with respect to activations, none of weights.
//
// Layer by layer from the last to the first, as the pass forward goes the other way. Of a layer
// only the input is kept; what it computes inside is computed again (Chen et al.,
// arXiv:1604.06174).
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/model/config.h"
#include "lieq/model/placed_weights.h"
#include "lieq/model/step_runner.h"
#include "lieq/model/weights.h"

namespace lieq {

class Forward;
struct Hidden;

/// Rows of a layer's intermediates held at once: backward has some twice as many as forward.
inline constexpr Index kGradientRows = 4096;

/// Sees the gradient of the loss with respect to the output y = x Wᵀ + b of each linear as a layer
/// runs backward: dy [rows, out], valid during the call; its first row is row `first` of the layer.
using GradientObserver =
    std::function<void(Site site, Index first, DeviceView<const float> gradient)>;

/// Sees what gradients of weights are made of, as a layer runs backward: what weights read, x, and
/// the gradient with respect to what they gave, dy; both valid during the call.
class WeightObserver {
 public:
  virtual ~WeightObserver() = default;
  /// y = x Wᵀ + b: dW = dyᵀ x, db = the sum of dy. x [rows, in], dy [rows, out].
  virtual void OfLinear(Site site, DeviceView<const float> x, DeviceView<const float> dy) = 0;
  /// y = weight * x / rms(x). Both [rows, columns].
  virtual void OfNorm(LayerVector which, DeviceView<const float> x, DeviceView<const float> dy) = 0;
  /// The same of the norm before the head.
  virtual void OfFinalNorm(DeviceView<const float> x, DeviceView<const float> dy) = 0;
  /// As OfLinear, of the head. x [rows, hidden], dy [rows, vocabulary].
  virtual void OfHead(DeviceView<const float> x, DeviceView<const float> dy) = 0;
};

/// The loss is the sum of the NLL over the scored positions of each window, all but the last, or
/// the sum of the divergence from a reference over all positions: so gradients of a window do not
/// depend on the other ones.
class Backward {
 public:
  /// weights and device outlive this. max_length: the longest window that will be run. Throws Error
  /// where the device has no gradients.
  Backward(const Weights& weights, Device& device, Index max_length);

  /// gradient [windows * length, hidden] with respect to hidden.x after the last layer; 0 for the
  /// last token of each window, which has no target. tokens [windows, length], length >= 2.
  /// Throws Error naming the window where an NLL is not finite, counted from `first_window`.
  void Head(const Hidden& hidden, View<const TokenId, 2> tokens, DeviceView<float> gradient,
            Index first_window = 0);
  /// The same for the divergence: returns its sum, nats. reference: of the same vocabulary, whose
  /// hidden state behind its last layer is `taught`.
  double DivergenceHead(const Hidden& hidden, Forward& reference, const Hidden& taught,
                        DeviceView<float> gradient, WeightObserver* observer = nullptr);
  /// From the gradient with respect to a layer's output to that with respect to its input x, in
  /// place, in batches of whole windows. weights: of the layer. x (which is left as it is) and
  /// gradient [windows * length, hidden].
  void Layer(Index layer, const LayerWeights& weights, DeviceView<float> x, Index length,
             DeviceView<float> gradient, const GradientObserver& observer = {},
             WeightObserver* of_weights = nullptr);

 private:
  struct Batch;
  void Recompute(Batch& batch);
  void KeepUnitInputs(std::size_t last, Batch& batch);
  DeviceView<float> Kept(DeviceView<const float> value, Batch& batch);
  void Back(std::size_t step, Batch& batch, const GradientObserver& observer);
  [[nodiscard]] DeviceView<float> GradientRoom(LayerValue value, Batch& batch);

  const Weights& weights_;
  Device& device_;
  GradientOps& gradients_;
  PlacedWeights placed_;                                 // its ends alone
  StepRunner runner_;                                    // holds the values of a layer
  std::vector<DeviceMatrix> kept_;                       // what steps change and gradients read
  std::array<DeviceMatrix, kLayerValues> gradients_of_;  // of values whose place they cannot take
  DeviceMatrix logits_, reference_logits_;
};

/// weights[layer][unit][token] = mean over the rows of all linears of the unit of (dloss/dy)², the
/// token being one of windows * length, the loss the summed NLL of its window. The weights of the
/// inputs of a unit in GuidedQuant (Kim et al., arXiv:2505.07004), with one group of rows a unit.
/// That of a window's last token is 0: it has no target, and no other token reads it.
struct OutputSensitivity {
  std::vector<std::array<std::vector<float>, kUnits>> weights;
};

/// One pass forward and one backward over the windows, in batches whose inputs of all layers stay
/// within `most_kept` floats (one window at least). tokens [windows, length], length >= 2. Throws
/// Error where an NLL or a gradient is not finite.
[[nodiscard]] OutputSensitivity MeasureOutputSensitivity(const Weights& weights, Device& device,
                                                         View<const TokenId, 2> tokens,
                                                         Context& context,
                                                         Index most_kept = Index{1} << 28);

}  // namespace lieq
