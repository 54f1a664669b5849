#include "lieq/diagnose/importance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/device/device.h"
#include "lieq/model/forward.h"
#include "lieq/model/layer_steps.h"
#include "lieq/model/padding.h"

namespace lieq {
namespace {

void RequireFinite(const std::vector<double>& squares, Index layer, Unit unit) {
  const auto bad = std::ranges::find_if_not(squares, [](double sum) { return std::isfinite(sum); });
  if (bad == squares.end()) return;
  throw Error({.what = "inputs of a projection are not finite",
               .where = "layer " + std::to_string(layer) + ", " + std::string(Name(unit)) +
                        ", channel " + std::to_string(bad - squares.begin()),
               .expected = "finite activations that can be squared and added up",
               .hint = "the checkpoint is damaged, or a layer before this one overflows"});
}

}  // namespace

Importance MeasureImportance(const Weights& weights, Device& device, View<const TokenId, 2> windows,
                             Context& context) {
  const ModelConfig& config = weights.config;
  const Padding padding(windows);
  LIEQ_ASSERT(padding.empty() || !config.HasExperts());
  Importance result{.tokens = windows.size() - padding.rows(), .squares = {}};
  CalibrationOps& sums = RequireCalibration(device);
  Forward forward(weights, device, windows.cols());
  Hidden hidden = EmbedPadded(forward, device, windows);
  Stage stage(context.progress, "importance", "layer", config.layers);
  for (Index layer = 0; layer < config.layers; ++layer) {
    context.ThrowIfStopped();
    auto& squares = result.squares.emplace_back();
    const std::vector<LayerStep> units = UnitsOf(config, layer);
    for (const LayerStep& unit : units) {
      squares[static_cast<std::size_t>(unit.unit)].resize(
          Size(config.In(layer, unit.linears.front().site)));
    }
    std::array<Index, kUnits> seen{};  // rows
    forward.Layer(layer, hidden, [&](Unit unit, DeviceView<float> input) {
      const auto index = static_cast<std::size_t>(unit);
      padding.Clear(device, input, seen[index]);
      seen[index] += input.rows();
      sums.ColumnSquares(input, squares[index]);
    });
    device.Sync();
    for (const LayerStep& unit : units) {
      RequireFinite(squares[static_cast<std::size_t>(unit.unit)], layer, unit.unit);
    }
    weights.ReleaseLayer(layer);
    stage.Done();
  }
  return result;
}

}  // namespace lieq
