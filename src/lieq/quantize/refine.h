// Refinement of rounded rows: coordinate descent on the codes and refits of their grids.
#pragma once

#include <vector>

#include "lieq/quantize/code_block.h"
#include "lieq/quantize/gptq.h"
#include "lieq/tensor/view.h"

namespace lieq {

struct RefineOptions {
  int rounds = 4;      // at most
  bool search = true;  // grids with new codes, group by group, beside refits to the codes there are
  double least_gain = 2e-3;  // share of the loss: a round that gains less is the last one
};

struct RefineReport {
  double after = 0;  // trace(E H Eᵀ), E = target - Q
  Index moves = 0;   // codes that changed
};

/// What rows of one unit share.
struct RefineMetric {
  View<const float, 2> h;                  // [n, n], symmetric, both triangles, positive definite
  const std::vector<GptqFactor>& factors;  // of h inside each group (GroupFactors)
};

/// Factors of h inside each group of a grid, for RefineMetric; empty ones of groups that are too
/// wide for a search, which costs their width squared.
[[nodiscard]] std::vector<GptqFactor> GroupFactors(View<const float, 2> h, const Grid& grid,
                                                   Context& context);

/// The same of what h is inside each group, one after another. blocks [n, group columns]: as wide
/// as a search takes.
[[nodiscard]] std::vector<GptqFactor> GroupFactorsOfBlocks(View<const float, 2> blocks,
                                                           const Grid& grid, Context& context);
/// Groups wider than this are refitted with their codes alone.
inline constexpr Index kWidestSearched = 256;
/// What a search multiplies a group's scale by, where levels have a zero.
[[nodiscard]] std::vector<double> Stretches(Offset offset);

/// Coordinate descent on the codes in turn with refits of scales and offsets, block by block of
/// columns: both inside a block, then one product tells all other columns. A step that does not
/// lower the loss is not taken; what float rounds of that is tested to be below 1e-5 of the loss.
///
/// target  [n, padded rows]: what is approximated, as CodeBlock has it
///
/// With G = (W* - Q) H, the best code of column j is the level nearest to q_j + G_j / H_jj, and a
/// change d of the row's group g changes the loss by -2 G_g dᵀ + d H_gg dᵀ (QuantEase,
/// arXiv:2309.01885; CDQuant, arXiv:2406.17542). Rows are independent of one another, except that
/// those of a block stop together.
[[nodiscard]] RefineReport Refine(View<const float, 2> target, const RefineMetric& metric,
                                  const RefineOptions& options, CodeBlock& block);

}  // namespace lieq
