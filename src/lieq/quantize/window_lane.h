// The calibration windows that one device follows while a model is quantized: all, or its share.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device_team.h"
#include "lieq/model/forward.h"
#include "lieq/model/layer_steps.h"
#include "lieq/quantize/expert_sums.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/streams.h"
#include "lieq/quantize/unit_statistics.h"
#include "lieq/quantize/window_pieces.h"

namespace lieq {

/// What a lane found of a unit's input: sums by piece, fitted windows and windows held out.
struct LaneSums {
  PieceSums<UnitStatistics> fit;
  PieceSums<OutputStatistics> held_out;
};

class WindowLane {
 public:
  /// Of a member of the team; null where no window is its own. Everything but `calibration`
  /// [windows, length] and `embedding` outlives it. options: after WithDefaults. embedding: what
  /// the quantized model looks tokens up in; null: the model's own.
  [[nodiscard]] static std::unique_ptr<WindowLane> Make(
      const Weights& weights, const DeviceTeam& team, Index member, const QuantOptions& options,
      View<const TokenId, 2> calibration, Context& context,
      const std::shared_ptr<const QMatrix>& embedding);
  /// What a lane without windows would find.
  [[nodiscard]] static LaneSums None(const DeviceTeam& team, Index member);

  /// Takes up a layer, in both streams. units: its units, which outlive the work on it.
  void BeginLayer(Index layer, const LayerWeights& weights, const std::vector<LayerStep>& units);
  /// Puts a linear in the place of that of the layer, which the quantized stream goes on with.
  void Replace(Site site, const Linear& linear) { quantized_->Replace(site, linear); }

  /// Sums over the unit's input, added up when this returns. tokens: where windows held out are
  /// kept as they are, what keeps those of all lanes, else null. Units are asked for in order.
  [[nodiscard]] LaneSums Measure(const LayerStep& unit, const Grid& grid, OutputStatistics* tokens,
                                 Context& context);
  /// Of each expert, by a lane that has all windows; `thin` are those of few rows.
  [[nodiscard]] std::vector<CalibrationStatistics> MeasureExperts(const LayerStep& unit,
                                                                  std::vector<Index>& thin,
                                                                  Context& context);
  /// Goes on behind the last unit.
  void Finish(Context& context);
  /// The whole layer at once, in place of Measure and Finish.
  void Pass(Context& context);

  [[nodiscard]] const PlacedLinear& linear(Site site) const noexcept {
    return quantized_->linear(site);
  }

 private:
  struct Run {  // of a piece's windows, rows of the streams
    Index piece;
    bool fits;  // else held out
    Index first, rows;
    Index row_of_tokens;  // of those held out, among the tokens of all
  };
  WindowLane(const Weights& weights, Device& device, const QuantOptions& options,
             std::vector<Run> runs, Index sums_at_once, View<const TokenId, 2> tokens,
             Context& context, const std::shared_ptr<const QMatrix>& embedding);

  /// batch(first row, rows) of a run: whole windows.
  template <class Function>
  void ForBatches(const Run& run, Context& context, const Function& batch);
  /// Sums of a kind of statistics at 0: what the device adds to.
  [[nodiscard]] UnitStatistics NoFit(const LayerStep& unit) const;
  [[nodiscard]] OutputStatistics NoOutputs(const LayerStep& unit) const;
  /// m of UnitStatistics for rows first, first + 1, ... of a unit that adds to the stream: of the
  /// strengths that its grid has, of full strength where that is null. [rows, hidden], valid until
  /// the next call.
  [[nodiscard]] DeviceView<const float> Missing(const LayerStep& unit, DeviceView<const float> x,
                                                DeviceView<const float> u, Index first,
                                                const Grid* grid);
  [[nodiscard]] bool IsLast(const LayerStep& unit) const {
    return unit.unit == units_->back().unit;
  }

  const Weights& weights_;
  Device& device_;
  CalibrationOps& sums_;
  const QuantOptions& options_;
  const std::vector<Run> runs_;
  Forward forward_;
  Index layer_ = 0;
  const std::vector<LayerStep>* units_ = nullptr;
  std::optional<ActivationStream> quantized_, reference_;
  DeviceMatrix difference_, missing_;
  LayerSample sample_;  // of the layer at work, where it has experts
};

}  // namespace lieq
