// Improves finished codes and scales by the exact layer loss, one coordinate at a time.
#pragma once

#include "lieq/base/context.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

struct RefineOptions {
  int rounds = 4;  // of codes and scales in turn
  int sweeps = 2;  // over the codes in a round
  bool search =
      true;  // grids with new codes, group by group, beside the refit to the codes there are
};

struct RefineReport {
  double before = 0, after = 0;  // trace(E H Eᵀ), E = target - Q
  Index moves = 0;               // codes that changed
};

/// Coordinate descent on the codes in turn with closed-form refits of scales and offsets. Every
/// step lowers the loss or is not taken: `after` <= `before`.
///
/// target  [out, in]: what is approximated
/// h       [in, in], symmetric, both triangles, positive definite
///
/// With G = (W* - Q) H, the best code of column j is the level nearest to q_j + G_j / H_jj, and a
/// change d of the row's group g changes the loss by -2 G_g dᵀ + d H_gg dᵀ (QuantEase,
/// arXiv:2309.01885; CDQuant, arXiv:2406.17542). Rows are independent: same bytes for any number of
/// threads.
[[nodiscard]] RefineReport Refine(View<const double, 2> target, View<const double, 2> h,
                                  const RefineOptions& options, Context& context, QMatrix& q);

}  // namespace lieq
