// Who holds the numbers of a model while they are trained: the host, or a device that can.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/stage_times.h"
#include "lieq/device/device.h"
#include "lieq/model/forward.h"
#include "lieq/model/weights.h"
#include "lieq/tensor/view.h"
#include "lieq/tune/adam.h"
#include "lieq/tune/tune.h"
#include "lieq/tune/tuned_model.h"

namespace lieq {

class Trainer {
 public:
  virtual ~Trainer() = default;

  /// Adds the gradients of the sum of the divergence over all positions of the windows; returns
  /// that sum. windows [count, length].
  virtual double AddGradients(View<const TokenId, 2> windows) = 0;
  virtual void ClearGradients() = 0;
  [[nodiscard]] virtual double GradientSquares() = 0;
  /// Moves all numbers. The model has them after Apply.
  virtual void Step(const AdamSteps& steps) = 0;
  virtual void Apply() = 0;
  /// The sum of the divergence over all positions of the windows, of what was applied.
  [[nodiscard]] virtual double Divergence(View<const TokenId, 2> windows) = 0;

  /// As those of TunedModel; Arrays with the moments, all being what they are now.
  virtual void Keep() = 0;
  virtual void Restore() = 0;
  [[nodiscard]] virtual std::vector<TunedArray> Arrays() = 0;
  /// Takes what was read into the arrays.
  virtual void TakeArrays() = 0;
  /// Whether Arrays costs time: everything is copied from a device.
  [[nodiscard]] virtual bool far() const noexcept = 0;

  /// Where the seconds of AddGradients went: a device is waited for between the parts.
  [[nodiscard]] StageTimes& times() noexcept { return times_; }

 private:
  StageTimes times_;
};

/// Parts of a step, by the names that times have.
namespace step {
inline constexpr std::string_view kTeacher = "float model", kForward = "forward", kHead = "head",
                                  kBackward = "backward", kUpdate = "update", kChecks = "checks",
                                  kState = "writing the state";
}  // namespace step

/// Whether the device can hold the numbers of this model: it has what it takes, and no matrix is of
/// a K-quant.
[[nodiscard]] bool TrainsOn(Device& device, const Weights& model);

/// Of the options what is held at once. All but them outlive it. length: of windows.
[[nodiscard]] std::unique_ptr<Trainer> MakeHostTrainer(const Weights& reference, TunedModel& model,
                                                       Index length, const TuneOptions& options,
                                                       Device& device, Context& context);
/// The model was made with `on_device`.
[[nodiscard]] std::unique_ptr<Trainer> MakeDeviceTrainer(const Weights& reference,
                                                         TunedModel& model, Index length,
                                                         const TuneOptions& options, Device& device,
                                                         Context& context);

/// The state of a model after its last layer.
[[nodiscard]] Hidden Through(Forward& forward, View<const TokenId, 2> tokens, Index layers,
                             Context& context);
/// Windows that a pass holds the inputs of all layers of.
[[nodiscard]] Index WindowsAtOnce(const ModelConfig& config, Index length, Index most_kept);

}  // namespace lieq
