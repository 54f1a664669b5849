// Which transforms help a model: found by short runs, judged on calibration windows that those runs
// did not see.
#pragma once

#include <filesystem>

#include "lieq/cli/arguments.h"
#include "lieq/cli/session.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/text/windows.h"
#include "lieq/transform/transforms.h"

namespace lieq {

/// The rows that `auto` may try: that of the method; those that leave a tied head tied, since a
/// head of its own would be paid for in bytes; those that are named.
[[nodiscard]] TransformList AllowedTransforms(const Arguments& arguments,
                                              const ModelConfig& config);

struct TransformChoice {
  TransformList rows;
  Record record;  // what was tried, with its figures (docs/transforms.md)
};

/// Quantizes the model as it is and under each allowed row, on kDraws disjoint shares of the
/// calibration windows, by the run's own method with at most kMostRounds rounds of refinement; and
/// measures KL(float model || quantized one) on the last windows, which no run sees. Rows whose
/// gain is above kErrors times its standard error (by windows, paired, and by draws) are tried
/// together too. What has the least divergence of those wins.
///
/// grids: that the linears will have. windows: those of the run. folder: for trials, removed behind
/// each. Throws Error where there are fewer than kLeastWindows windows.
[[nodiscard]] TransformChoice ChooseTransforms(const ModelFolder& source,
                                               const Arguments& arguments, const LayerGrids& grids,
                                               const Windows& windows,
                                               const std::filesystem::path& folder,
                                               Session& session);

}  // namespace lieq
