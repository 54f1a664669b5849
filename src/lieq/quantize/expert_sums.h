// What calibration tells about the inputs of a unit of experts: of each by itself.
#pragma once

#include <vector>

#include "lieq/device/device.h"
#include "lieq/device/mixer_ops.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_steps.h"
#include "lieq/model/placed_weights.h"
#include "lieq/quantize/unit_statistics.h"

namespace lieq {

/// Inputs of some tokens of a layer, for experts that few of its tokens go to. [n, hidden]
struct LayerSample {
  DeviceMatrix normed;
  Index rows = 0;
};

class ExpertSums {
 public:
  /// Of a layer with experts; config and device outlive this. judges: some windows are held out.
  ExpertSums(const ModelConfig& config, const LayerStep& unit, Device& device, bool judges);

  /// Adds the unit's input (StepRunner::UnitInput) of tokens that go where `routes` say; fits: to
  /// what is fitted, else to what is held out.
  void Add(DeviceView<const float> input, DeviceView<const float> routes, bool fits);

  /// Experts with fewer rows to fit than inputs.
  [[nodiscard]] std::vector<Index> Thin() const;

  /// Makes up for what is missing of those: by as many average rows of the sample, as if all of it
  /// had gone to the expert. layer: gives what down reads of them.
  void MakeUp(const LayerSample& sample, const PlacedLayer& layer);

  /// [experts]
  [[nodiscard]] std::vector<CalibrationStatistics> Take() && { return std::move(statistics_); }

 private:
  [[nodiscard]] DeviceView<const float> SampleInput(const LayerSample& sample,
                                                    const PlacedLayer& layer, Index expert);

  const ModelConfig& config_;
  const LayerStep unit_;
  Device& device_;
  CalibrationOps& sums_;
  MixerOps& mixers_;
  Index in_;
  std::vector<Index> rows_;  // fitted, of each expert
  std::vector<CalibrationStatistics> statistics_;
  DeviceMatrix gathered_, gate_, up_;
};

}  // namespace lieq
