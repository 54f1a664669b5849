// GPTQ (Frantar et al., arXiv:2210.17323) in the form without an inverse, equal to LDLQ (Chee et
// al., arXiv:2307.13304).
//
// Let H be the Gram matrix of a linear's inputs plus damping, columns in the order of rounding, and
// U the upper triangular matrix with U Uᵀ = H. With E = W - Q the loss trace(E H Eᵀ) is the sum
// over columns k of U_kk² |t_k - q_k|², where t_k = w_k + sum over j < k of e_j U_jk / U_kk. So
// columns are rounded one after another, each to the level nearest to t_k: the textbook algorithm,
// with the original weights left alone and the loss known exactly, clipping included.
#pragma once

#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// The factorisation that all linears with one input share.
///
/// Columns are held in reverse order of rounding, so that one lower Cholesky factor serves:
/// position p is the column order[p], and the last position is rounded first.
struct GptqFactor {
  Matrix<double> feedback;       // [n, n], strictly lower: U_jk / U_kk at (position j, position k)
  std::vector<double> pivots;    // [n]: U_kk by position
  std::vector<Index> order;      // [n]: column by position
  std::vector<double> diagonal;  // [n]: H_jj with all damping, by column
  double damping = 0;            // relative to the mean of diag(H)
  int retries = 0;
  Index dead_columns = 0;
};

/// Factorises. gram [n, n]: lower triangle of xᵀx, finite. Columns that were never active get the
/// mean diagonal, so that they are rounded to nearest and feed nothing. Where the factorisation
/// fails, damping is raised tenfold up to the size of the mean diagonal; an empty `order` says that
/// even that did not help.
[[nodiscard]] GptqFactor FactorGram(View<const double, 2> gram, const Grid& grid,
                                    const QuantOptions& options);

/// b = b (H + damping)⁻¹ in place. b [m, n], columns in their own order.
void DivideByGram(View<double, 2> b, const GptqFactor& factor);

/// codes [n, m]: error feedback alone, each row of targets [m, n] on one grid of its own; fits [m].
/// For n that is small: no blocks.
void RoundWithFeedback(View<const double, 2> targets, const GptqFactor& factor,
                       std::span<const GroupFit> fits, int levels, Matrix<std::uint8_t>& codes);

/// Rounds w [m, n] by that factor (not empty). Same bytes for any number of threads.
///
/// Scales are fitted with each column's error weighted by U_kk², which is what it costs: where the
/// order allows it before the pass, on the targets t of a pass made for that purpose
/// (Clip::kSearch; else on the weights), and otherwise when a group is reached, on its targets.
[[nodiscard]] QMatrix QuantizeGptq(View<const float, 2> w, const GptqFactor& factor,
                                   const Grid& grid, const QuantOptions& options, Context& context,
                                   LinearReport& report);

/// Round to nearest, each row by FitRow. importance [n] or empty: it weighs the reported error too.
[[nodiscard]] QMatrix QuantizeRtn(View<const float, 2> w, std::span<const float> importance,
                                  const Grid& grid, Clip clip, Context& context,
                                  LinearReport& report);

}  // namespace lieq
