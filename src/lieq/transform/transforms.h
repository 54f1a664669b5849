// The table of transforms: other weights for the same function, easier to round.
//
// To add one: functions on the ends and on a layer, and one row in transforms.cpp. All of it goes
// into weights, norms and biases: nothing is left to do at run time.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/model/float_layer.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/unit_statistics.h"

namespace lieq {

struct TransformOptions {
  std::uint64_t seed = 0;         // of rotations
  DType norm_type = DType::kF32;  // that norms are stored in: factors are those of stored norms
  Clip clip = Clip::kSearch;      // of the rounding by which choices are judged
};

/// What was chosen for the input of a unit, and the output error of its linears rounded to nearest,
/// summed over the tokens that the choice was made on: with nothing chosen, and with the choice.
struct UnitChoice {
  std::string choice;
  double before = 0, after = 0;  // after <= before
};
/// By Unit; of units that have no choice the text is empty.
using LayerChoices = std::array<UnitChoice, kUnits>;

/// What the function of a row is told of a layer.
struct LayerTask {
  const ModelConfig& config;
  const TransformOptions& options;
  Index layer = 0;
  std::span<const Grid, kSites> grids;  // that the linears will have, in the order of Site
  /// Sums of the units' inputs, both triangles: kept in step by a row that changes the inputs.
  /// Empty where no row of the run needs calibration.
  std::array<UnitStatistics, kUnits>& inputs;
  Context& context;
};

struct Transform {
  std::string_view name;
  std::string_view description;  // one line for --help and the documentation
  std::string_view needs;        // a row above that must come first; empty: none
  bool unties;                   // embedding and head part
  bool needs_calibration;
  /// Null where the ends stay as they are.
  void (*ends)(const ModelConfig& config, const TransformOptions& options, FloatEnds& ends,
               Context& context);
  void (*layer)(const LayerTask& task, FloatLayer& layer, LayerChoices& choices);
  bool (*holds)(const ModelConfig& config);  // whether the function stays the same
};

[[nodiscard]] std::span<const Transform> Transforms() noexcept;
/// "fuse, rotate, ...", for help and errors.
[[nodiscard]] const std::string& TransformNames();

using TransformList = std::vector<const Transform*>;

/// The rows named and those that they need, each once, in the order of the table, whatever the
/// order of the names. Throws Error for a name that no row has.
[[nodiscard]] TransformList ResolveTransforms(std::span<const std::string> names);
/// Throws Error naming the first row that would change what the model computes.
void RequireHolding(const TransformList& rows, const ModelConfig& config);
[[nodiscard]] bool Unties(const TransformList& rows) noexcept;
[[nodiscard]] bool NeedsCalibration(const TransformList& rows) noexcept;

}  // namespace lieq
