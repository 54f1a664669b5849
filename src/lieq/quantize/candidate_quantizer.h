// Codes of every candidate grid of every unit, for choosing among them.
//
// Unlike LayerQuantizer, units are quantized on the inputs of the float model, whatever was chosen
// for the others: one pass over the calibration text and one factorisation for each unit serve all
// candidates, and any choice of one candidate for each unit is a model.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device_team.h"
#include "lieq/model/forward.h"
#include "lieq/model/padding.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/quantize/window_pieces.h"

namespace lieq {

/// Whether the grid's groups divide the rows of the unit's linears.
[[nodiscard]] bool Fits(const Grid& grid, const ModelConfig& config, Unit unit) noexcept;

/// The options that candidates are made with: inputs are those of the float model, so that nothing
/// drifts.
[[nodiscard]] QuantOptions FloatInputs(QuantOptions options);

class CandidateQuantizer {
 public:
  /// weights, the team's devices and context outlive this. calibration [windows, length]: may have
  /// 0 windows for a quantizer that needs none. Holds [windows * length, hidden] floats of
  /// activations. Several devices share the windows, and layers that come together; of a model with
  /// experts the first does all.
  CandidateQuantizer(const Weights& weights, const DeviceTeam& team, const QuantOptions& options,
                     View<const TokenId, 2> calibration, Context& context);

  /// Quantizes the next layer on each grid; matrices are null, and reports empty, for linears that
  /// a grid does not fit. Errors of all candidates of a linear are traces with one and the same
  /// matrix (the Gram matrix plus the options' damping), so they compare. Throws Error naming layer
  /// and linear for weights or inputs that are not finite.
  [[nodiscard]] std::vector<QuantizedLayer> Quantize(std::span<const Grid> candidates);
  /// Passes the next layer.
  void Skip();
  /// The next layers, [layers] lists of candidates, at most together() of them; no candidates: the
  /// layer is passed. done: called for each of the others, by several threads at once.
  void Quantize(std::span<const std::vector<Grid>> candidates,
                const std::function<void(Index layer, std::vector<QuantizedLayer>)>& done);

  [[nodiscard]] Index next_layer() const noexcept { return next_; }
  /// Layers that are rounded at the same time.
  [[nodiscard]] Index together() const noexcept { return team_.size(); }

 private:
  /// The calibration windows of a device, piece by piece.
  struct Lane {
    Lane(const Weights& weights, Device& device, Index length) : forward(weights, device, length) {}
    struct Part {
      WindowPiece piece;
      Hidden hidden;
      Padding padding;  // of its rows
    };
    Forward forward;
    std::vector<Part> pieces;
  };
  using UnitSums = std::array<PieceSums<UnitStatistics>, kUnits>;
  using UnitTotals = std::array<UnitStatistics, kUnits>;

  /// Passes a layer with the windows of a member, and sums up the inputs of its units.
  [[nodiscard]] UnitSums Measure(Index member, Index layer, Context& its);
  [[nodiscard]] std::vector<QuantizedLayer> Round(Index member, Index layer, UnitTotals measured,
                                                  std::span<const Grid> candidates, Context& its);
  [[nodiscard]] std::vector<QuantizedLayer> QuantizeExperts(std::span<const Grid> candidates);
  void RoundUnit(Device& device, Index layer, const LayerStep& unit, UnitStatistics measured,
                 std::span<const Grid> candidates, Context& its,
                 std::vector<QuantizedLayer>& result);

  const Weights& weights_;
  const QuantOptions options_;
  const Quantizer& quantizer_;
  const DeviceTeam team_;
  Context& context_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // [members]; none where no windows are followed
  Index next_ = 0;
};

}  // namespace lieq
