// Allocation: from scores and a budget to widths.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/diagnose/diagnosis.h"
#include "lieq/model/config.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/rankings.h"

namespace lieq {

/// What is asked for: two grids mixed to an average of their widths.
struct Budget {
  double bits = 2.25;   // code bits per weight of the decoder's linears; low <= bits <= high
  Grid low{.bits = 2};  // both of kWidths, low narrower than high
  Grid high{.bits = 4};
  Rounding rounding{};
};

/// The layers that get the wider width, by the top-m rule (exact form in docs/plans.md): with
/// f = (bits - low) / (high - low), the m = floor(f L) layers of highest score where all hold as
/// many weights, else the longest run of layers by falling score that holds at most f of all
/// weights. By the paper's rounding (Xiao et al., LieQ, arXiv:2508.03332) m = floor(f L + 1/2),
/// else the shortest run that holds at least f. Equal scores: the lower layer first.
///
/// scores   [layers], finite
/// weights  [layers], quantizable weights of each, >= 1
///
/// Ascending. Throws Error for a budget or widths out of range (saying what is possible), or a
/// score that is not finite (naming the layer).
[[nodiscard]] std::vector<Index> TopLayers(std::span<const double> scores,
                                           std::span<const std::int64_t> weights,
                                           const Budget& budget);

/// A plan by the top-m rule, all units of a layer on its grid. CodeBits never exceeds budget.bits,
/// and equal layers make it fall short by less than (high - low) / L; by the paper's rounding it
/// misses by up to half of that either way. Throws Error as TopLayers, and where scores are not of
/// this model (their number is not config.layers).
[[nodiscard]] Plan Allocate(std::vector<double> scores, std::string ranking, const Budget& budget,
                            const ModelConfig& config);

/// The `count` layers of highest score; equal scores: the lower layer first. Ascending. Throws
/// Error for a score that is not finite, or count beyond the layers.
[[nodiscard]] std::vector<Index> HighestLayers(std::span<const double> scores, Index count);

/// The plan that raises these layers from low to high, scores and ranking left empty.
[[nodiscard]] Plan RaiseLayers(std::span<const Index> layers, const Grid& low, const Grid& high,
                               const ModelConfig& config);

/// Layers by falling score under a ceiling: each is raised where `cost` of the plan with it stays
/// at most `budget`; one that does not fit is passed over, since a smaller one behind it may. The
/// budget so holds always, and is used up to the last layer that fits.
///
/// cost  of a whole plan, in whatever the budget is in; rises with widths
///
/// Throws Error naming `option` where even `low` everywhere costs more.
[[nodiscard]] std::vector<Index> LayersWithin(std::span<const double> scores, const Grid& low,
                                              const Grid& high, const ModelConfig& config,
                                              const std::function<std::int64_t(const Plan&)>& cost,
                                              std::int64_t budget, const std::string& option);

/// Every unit on one grid. Throws Error where its width is not one of kWidths.
[[nodiscard]] Plan UniformPlan(const Grid& grid, const ModelConfig& config);

}  // namespace lieq
