// One backward pass of the next-token loss: gradients with respect to activations, none of weights.
//
// Layer by layer from the last to the first, as the pass forward goes the other way. Of a layer
// only the input need be kept: what it computes inside is computed again (Chen et al.,
// arXiv:1604.06174), or was saved on the way forward. Either gives the same bits.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_places.h"
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
  /// y = x Wᵀ + b: dW = dyᵀ x, db = the sum of dy. x [rows, in], dy [rows, out]. Gives where dW
  /// goes once it has returned.
  virtual WeightSums OfLinear(Site site, DeviceView<const float> x, DeviceView<const float> dy) = 0;
  /// y = weight * x / rms(x). Both [rows, columns].
  virtual void OfNorm(LayerVector which, DeviceView<const float> x, DeviceView<const float> dy) = 0;
  /// The same of the norm before the head.
  virtual void OfFinalNorm(DeviceView<const float> x, DeviceView<const float> dy) = 0;
  /// As OfLinear, of the head. x [rows, hidden], dy [rows, vocabulary].
  virtual void OfHead(DeviceView<const float> x, DeviceView<const float> dy) = 0;
};

/// What a layer computed on its way forward, as far as its way back reads it. Memory is taken when
/// it is first saved to, and again only for more tokens. Dies before the device.
class SavedActivations {
 public:
  /// Floats of the device's memory that it holds.
  [[nodiscard]] Index floats() const noexcept { return memory_.rows() * memory_.cols(); }

 private:
  friend class Backward;
  DeviceMatrix memory_;
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
  /// gradient [windows * length, hidden]. The layer runs forward once more.
  void Layer(Index layer, const LayerWeights& weights, DeviceView<float> x, Index length,
             DeviceView<float> gradient, const GradientObserver& observer = {},
             WeightObserver* of_weights = nullptr);

  /// The pass forward: y = layer(x), in the batches of Layer, so that a layer whose activations are
  /// saved and one that runs again get the same bits. x (which is left as it is) and y
  /// [windows * length, hidden], apart. saved: takes what LayerBack reads; null: nothing is saved.
  void LayerForward(Index layer, const LayerWeights& weights, DeviceView<float> x, Index length,
                    DeviceView<float> y, SavedActivations* saved);
  /// As Layer, from what LayerForward saved of the same layer, weights, x and length, which is
  /// spoilt.
  void LayerBack(Index layer, const LayerWeights& weights, DeviceView<float> x, Index length,
                 SavedActivations& saved, DeviceView<float> gradient,
                 const GradientObserver& observer = {}, WeightObserver* of_weights = nullptr);
  /// Floats that LayerForward saves of so many windows; those of one batch are also what Layer
  /// takes for itself, and again as many at most for gradients.
  [[nodiscard]] Index SavedFloats(Index layer, Index windows, Index length) const;
  /// Windows of a batch.
  [[nodiscard]] static Index BatchWindows(Index length) noexcept;

 private:
  struct Batch;
  struct LayerCall;
  template <class Use>
  void ForBatches(const LayerCall& call, SavedActivations* saved, const Use& use);
  [[nodiscard]] std::vector<DeviceView<float>> Lay(const LayerPlaces& places, const LayerCall& call,
                                                   Index first, Index rows,
                                                   DeviceView<float> memory);
  void Forth(std::size_t steps, Batch& batch);
  void Back(Batch& batch, const GradientObserver& observer, WeightObserver* of_weights);
  void Back(std::size_t step, Batch& batch, const GradientObserver& observer,
            WeightObserver* of_weights);
  [[nodiscard]] DeviceView<float> GradientRoom(LayerValue value, Batch& batch);
  [[nodiscard]] const LayerPlaces& PlacesOf(Index layer, bool inputs) const;

  const Weights& weights_;
  Device& device_;
  GradientOps& gradients_;
  PlacedWeights placed_;  // its ends alone
  StepRunner runner_;     // holds what no gradient reads, and on the way back gradients
  std::array<std::vector<LayerPlaces>, 2> places_;  // of layers; without inputs of products, with
  SavedActivations own_;                            // of a batch that runs again
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
