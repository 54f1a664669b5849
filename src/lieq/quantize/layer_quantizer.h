// Quantizes a model one layer after another, each linear on the inputs it will really see.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/stage_times.h"
#include "lieq/device/device_team.h"
#include "lieq/model/layer_steps.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/quantize/window_lane.h"

namespace lieq {

struct QuantizedLayer {  // in the order of Site
  std::array<std::shared_ptr<const QMatrix>, kSites> matrices;
  std::array<LinearReport, kSites> reports;
};

/// Holds the calibration windows' activations before the next layer: [windows * length, hidden]
/// floats, and while a layer is at work its attention outputs and, up to 1 GiB, its gated products.
/// Several devices share the windows, and the linears of a unit where they round; of a model with
/// experts the first does all.
class LayerQuantizer {
 public:
  /// weights, the team's devices and context outlive this. calibration [windows, length]: may be
  /// empty (0 windows) for a quantizer that needs none, and kNoToken may end windows of models
  /// without experts. embedding: what the quantized model looks
  /// tokens up in; null: the model's own. Throws Error for options that cannot work together.
  LayerQuantizer(const Weights& weights, const DeviceTeam& team, const QuantOptions& options,
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
  /// Whether calibration windows are followed.
  [[nodiscard]] bool follows() const noexcept { return !lanes_.empty(); }
  /// Calls work(lane, context) for every lane, at the same time.
  void ForLanes(const std::function<void(WindowLane& lane, Context& its)>& work);
  [[nodiscard]] CalibrationStatistics Measure(const LayerStep& unit, const Grid& grid);
  /// What keeps the tokens held out where a unit is judged by them, else nothing.
  [[nodiscard]] std::optional<OutputStatistics> Tokens(const LayerStep& unit) const;
  [[nodiscard]] Index HeldOutRows() const noexcept;
  void QuantizeExperts(const LayerStep& unit, const Grid& grid, QuantizedLayer& result);
  void QuantizeUnit(const LayerStep& unit, std::span<const Grid, kSites> grids,
                    CalibrationStatistics measured, QuantizedLayer& result);
  /// The member of the team that rounds each linear of a unit.
  [[nodiscard]] std::vector<Index> Rounders(const LayerStep& unit) const;
  /// Rounds those linears of a unit that are the member's.
  void Round(Index member, const LayerStep& unit, const std::vector<Index>& rounders,
             const Grid& grid, CalibrationStatistics measured, Context& its,
             QuantizedLayer& result);
  /// Takes up the next layer, in all lanes.
  void BeginLayer();
  /// Puts linears in the place of those of the layer, which the quantized streams go on with.
  void Replace(const LayerStep& unit, const QuantizedLayer& with);

  const Weights& weights_;
  const QuantOptions options_;
  const Quantizer& quantizer_;
  const DeviceTeam team_;
  Context& context_;
  const Index windows_, length_;  // of the calibration
  Index next_ = 0;
  StageTimes times_;
  LayerWeights layer_;            // at work, as far as it is quantized
  std::vector<LayerStep> units_;  // its units
  // [members]; null for one without windows. None where nothing is followed.
  std::vector<std::unique_ptr<WindowLane>> lanes_;
};

}  // namespace lieq
