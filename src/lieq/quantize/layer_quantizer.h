// Quantizes a model one layer after another, each linear on the inputs it will really see.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/stage_times.h"
#include "lieq/model/forward.h"
#include "lieq/model/layer_steps.h"
#include "lieq/quantize/expert_sums.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/quantize/streams.h"

namespace lieq {

struct QuantizedLayer {  // in the order of Site
  std::array<std::shared_ptr<const QMatrix>, kSites> matrices;
  std::array<LinearReport, kSites> reports;
};

/// Holds the calibration windows' activations before the next layer: [windows * length, hidden]
/// floats, and while a layer is at work its attention outputs and, up to 1 GiB, its gated products.
class LayerQuantizer {
 public:
  /// weights, device and context outlive this. calibration [windows, length]: may be empty (0
  /// windows) for a quantizer that needs none, and kNoToken may end windows of models without
  /// experts. embedding: what the quantized model looks tokens up
  /// in; null: the model's own. Throws Error for options that cannot work together.
  LayerQuantizer(const Weights& weights, Device& device, const QuantOptions& options,
                 View<const TokenId, 2> calibration, Context& context,
                 std::shared_ptr<const QMatrix> embedding = nullptr);

  /// Quantizes the next layer, unit after unit: inputs of a unit are taken after everything before
  /// it was quantized ("true sequential"), so a layer is run once. grids: in the order of Site,
  /// equal inside a unit. Throws Error naming layer and linear for weights or inputs that are not
  /// finite.
  [[nodiscard]] QuantizedLayer Quantize(std::span<const Grid, kSites> grids);

  /// Passes the next layer with what was made of it before (a resumed run): the activations come
  /// out the same as from Quantize.
  void Skip(const QuantizedLayer& done);

  [[nodiscard]] Index next_layer() const noexcept { return next_; }
  /// Where the time went.
  [[nodiscard]] const StageTimes& times() const noexcept { return times_; }

 private:
  template <class Function>
  void ForBatches(const Function& batch);
  /// What Measure sums up, at 0.
  [[nodiscard]] CalibrationStatistics NoStatistics(const LayerStep& unit) const;
  [[nodiscard]] CalibrationStatistics Measure(const LayerStep& unit, const Grid& grid);
  /// m of UnitStatistics for rows first, first + 1, ... of a unit that adds to the stream: of the
  /// strengths that its grid has, of full strength where that is null. [rows, hidden], valid until
  /// the next call.
  [[nodiscard]] DeviceView<const float> Missing(const LayerStep& unit, DeviceView<const float> x,
                                                DeviceView<const float> u, Index first,
                                                const Grid* grid);
  [[nodiscard]] Index HeldOutRows() const noexcept;
  void QuantizeExperts(const LayerStep& unit, const Grid& grid, QuantizedLayer& result);
  /// Of each expert; `thin` are those of few rows.
  [[nodiscard]] std::vector<CalibrationStatistics> MeasureExperts(const LayerStep& unit,
                                                                  std::vector<Index>& thin);
  void QuantizeUnit(const LayerStep& unit, std::span<const Grid, kSites> grids,
                    CalibrationStatistics measured, QuantizedLayer& result);
  /// Takes up the next layer, in both streams.
  void BeginLayer();
  /// Puts a linear in the place of that of the layer, which the quantized stream goes on with.
  void Replace(Site site, Linear linear);

  const Weights& weights_;
  Device& device_;
  CalibrationOps* sums_ = nullptr;  // where activations are followed
  const QuantOptions options_;
  const Quantizer& quantizer_;
  Context& context_;
  Forward forward_;
  Index next_ = 0;
  StageTimes times_;
  LayerWeights layer_;            // at work, as far as it is quantized
  std::vector<LayerStep> units_;  // its units
  std::optional<ActivationStream> quantized_, reference_;
  DeviceMatrix difference_, missing_;
  LayerSample sample_;  // of the layer at work, where it has experts
};

}  // namespace lieq
