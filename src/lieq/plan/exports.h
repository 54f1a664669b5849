// Plans in the words of other quantizers: the widths are LieQ's, the rounding is theirs.
//
// To add one: a function and a row in exports.cpp; the tests of every row run on it unasked.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/model/config.h"
#include "lieq/plan/plan.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

struct PlanExport {
  std::string_view name;         // "llama-quantize"
  std::string_view description;  // what the file is, one line
  /// The file's text; names every linear of every layer exactly once. One grid for each of
  /// config.layers. Throws Error naming layer and linear where the tool has no such grid.
  std::string (*text)(const LayerGrids& grids, const ModelConfig& config);
};

[[nodiscard]] std::span<const PlanExport> PlanExports() noexcept;
/// "llama-quantize, gptqmodel, ...", for messages and help.
[[nodiscard]] std::string_view PlanExportNames();
/// Throws Error naming the rows there are.
[[nodiscard]] const PlanExport& FindPlanExport(std::string_view name);

}  // namespace lieq
