// GPTQ: rounding with error feedback (Frantar et al., arXiv:2210.17323).
#pragma once

#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/quantize/code_block.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// The factorisation that all linears with one input share.
///
/// Columns are held in reverse order of rounding, so that one lower Cholesky factor serves:
/// position p is the column order[p], and the last position is rounded first. Factorised in double
/// and held in float: what float rounds there is far below the damping (docs/numerics.md).
struct GptqFactor {
  Matrix<float> feedback;       // [n, n], strictly lower: U_jk / U_kk at (position j, position k)
  std::vector<float> pivots;    // [n]: U_kk by position
  std::vector<Index> order;     // [n]: column by position
  std::vector<float> diagonal;  // [n]: H_jj with all damping, by column
  double damping = 0;           // relative to the mean of diag(H)
  int retries = 0;
  Index dead_columns = 0;
};

/// Factorises. gram [n, n]: of xᵀx the lower triangle, finite. Columns that were never active get
/// the mean diagonal, so that they are rounded to nearest and feed nothing. Where the factorisation
/// fails, damping is raised tenfold up to the size of the mean diagonal; an empty `order` says that
/// even that did not help. pool: what the work is spread over, null for the calling thread alone;
/// same bytes either way.
[[nodiscard]] GptqFactor FactorGram(View<const float, 2> gram, const Grid& grid,
                                    const QuantOptions& options, ThreadPool* pool = nullptr);

/// The same on a device, whose factor has no feedback and no pivots here. diagonal [n]: that of
/// `gram` [n, n], of which the lower triangle counts. refines: H with all damping is kept there
/// too. Null in place of the placed factor where no damping helped.
struct PlacedFactor {
  GptqFactor factor;
  PlacedGptqFactor placed;
};
[[nodiscard]] PlacedFactor FactorGramOn(RoundingOps& device, const PlacedSums<double>& gram,
                                        std::span<const float> diagonal, const Grid& grid,
                                        const QuantOptions& options, bool refines);

/// b = b (H + damping)⁻¹ in place. b [m, n], columns in their own order.
void DivideByGram(View<float, 2> b, const GptqFactor& factor);

/// What rounding some rows cost, in the metric of the damped H.
struct RoundingSums {
  double error = 0, signal = 0;  // as of LinearReport
  Index clamped = 0;             // weights pushed beyond the outermost level
};

/// Rounds some rows by that factor (not empty).
///
/// target  [n, padded rows]: rows of weights, as CodeBlock has them; those of the padding are 0
/// rows    how many of them count
///
/// Scales are fitted with each column's error weighted by U_kk², which is what it costs: where the
/// order allows it before the pass, on the targets t of a pass made for that purpose
/// (Clip::kSearch; else on the weights), and otherwise when a group is reached, on its targets.
[[nodiscard]] CodeBlock RoundByGptq(View<const float, 2> target, Index rows,
                                    const GptqFactor& factor, const Grid& grid,
                                    const QuantOptions& options, RoundingSums& sums);

/// Some rows of a matrix as CodeBlock has them. [cols, padded rows]
[[nodiscard]] Matrix<float> ColumnsByRows(View<const float, 2> rows);

/// Round to nearest, each row by FitRow. importance [n] or empty: it weighs the reported error too.
[[nodiscard]] QMatrix QuantizeRtn(View<const float, 2> w, std::span<const float> importance,
                                  const Grid& grid, Clip clip, Context& context,
                                  LinearReport& report);

}  // namespace lieq
