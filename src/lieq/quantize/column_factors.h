// One factor for each input channel, shared by all rows: free precision where something before the
// linear can take it in.
#pragma once

#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// A linear that reads the channels.
struct FactoredLinear {
  View<const double, 2> target;  // [out, in]: W*
  const QMatrix* q = nullptr;    // [out, in]
};

/// The factors f [channels] of least sum over the linears of
/// trace((W* - Q diag(f)) H (W* - Q diag(f))ᵀ): the solution of (H ∘ sum QᵀQ) f = rhs with
/// rhs_j = sum over rows of Q_ij (W* H)_ij. They fold into the norm or the linear whose output the
/// channels are. A ridge of 1e-3 of the mean diagonal pulls them towards 1; a factor that leaves
/// 0.5
/// .. 2 is held at 1, and the others are solved for without it, so the sum never rises. 1
/// everywhere where they cannot be solved for.
///
/// h        [in, in], symmetric, both triangles
/// channel  [in]: the factor that a column takes, 0 .. channels - 1 (columns that share one)
[[nodiscard]] std::vector<double> ColumnFactors(std::span<const FactoredLinear> linears,
                                                View<const double, 2> h,
                                                std::span<const Index> channel, Index channels,
                                                Context& context);

}  // namespace lieq
