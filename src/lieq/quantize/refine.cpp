#include "lieq/quantize/refine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/refine_super.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;
constexpr Index kBlock = 128;

/// Groups wider than this are refitted with their codes alone: a search costs their width squared.
constexpr Index kWidestSearched = 256;

/// How a searched grid differs from the group's own, before it is refitted to the codes it gives.
struct Change {
  double stretch = 1;   // of the scale, about the middle of the levels
  double shift = 0;     // of the levels, in steps
  bool mirror = false;  // the other sign of the scale
};

constexpr std::array kChanges{
    Change{},       Change{0.94},    Change{1.06},       Change{0.87},         Change{1.13},
    Change{0.78},   Change{1.22},    Change{1, 0, true}, Change{0.9, 0, true}, Change{1.1, 0, true},
    Change{1, 0.3}, Change{1, -0.3},
};

/// Whether a kind of grid has grids that differ so.
bool Applies(const Change& change, Offset offset) {
  if (change.mirror) return offset == Offset::kSymmetric;
  if (change.shift != 0) return offset == Offset::kFloat;
  return true;
}

/// What the loss of a group is made of where its codes c are given: with the local target t (that
/// which the rest of the row leaves to it), loss = tHt - 2 (s cHt + m 1Ht) + s² cHc + 2 s m cH1 +
/// m² 1H1 for levels s c + m.
struct Sums {
  double cc = 0, c1 = 0, one = 0, ct = 0, t1 = 0, tt = 0;

  [[nodiscard]] double Loss(const GroupFit& fit) const {
    const auto s = static_cast<double>(fit.scale), m = static_cast<double>(fit.minimum);
    return tt - 2 * (s * ct + m * t1) + s * s * cc + 2 * s * m * c1 + m * m * one;
  }
  /// What Loss adds up, without signs: a gain of a billionth of it may be rounding.
  [[nodiscard]] double Size(const GroupFit& fit) const {
    const auto s = static_cast<double>(fit.scale), m = static_cast<double>(fit.minimum);
    return tt + s * s * cc + m * m * one;
  }
  /// The best scale where the minimum is -zero times it; 0 where there is none.
  [[nodiscard]] double Scale(double zero) const {
    const double curvature = cc - 2 * zero * c1 + zero * zero * one;
    return curvature > 1e-12 * cc ? (ct - zero * t1) / curvature : 0;
  }
};

void Try(const Sums& sums, const GroupFit& fit, double& loss, GroupFit& best) {
  if (!std::isfinite(fit.scale) || !std::isfinite(fit.minimum)) return;
  const double found = sums.Loss(fit);
  if (!(found < loss)) return;
  loss = found;
  best = fit;
}

/// The best storable fit of a grid to given codes, if it is below `loss`.
void FitToCodes(const Sums& sums, const Grid& grid, const GroupFit& now, double& loss,
                GroupFit& best) {
  const auto at_zero = [&](double zero) {
    const double scale = sums.Scale(zero);
    if (scale == 0) return;
    Try(sums, GroupFit::AtZero(RoundScale(static_cast<float>(scale)), static_cast<float>(zero)),
        loss, best);
  };
  switch (grid.offset) {
    case Offset::kSymmetric:
    case Offset::kHalf:
      at_zero(static_cast<double>(grid.shared_zero()));
      return;
    case Offset::kInteger: {
      const int top = grid.levels() - 1, zero = now.zero();
      const int reach = grid.bits <= 3 ? top : 1;
      for (int z = std::max(0, zero - reach); z <= std::min(top, zero + reach); ++z) at_zero(z);
      return;
    }
    case Offset::kFloat: {
      const double determinant = sums.cc * sums.one - sums.c1 * sums.c1;
      double scale = static_cast<double>(now.scale);
      if (determinant > 1e-12 * sums.cc * sums.one) {
        scale = (sums.ct * sums.one - sums.t1 * sums.c1) / determinant;
      }
      if (scale == 0) return;
      const float stored = RoundScale(static_cast<float>(scale));
      const double minimum = (sums.t1 - static_cast<double>(stored) * sums.c1) / sums.one;
      Try(sums, {stored, RoundMinimum(static_cast<float>(minimum))}, loss, best);
      return;
    }
  }
}

GroupFit Changed(const GroupFit& fit, const Change& change, const Grid& grid) {
  const float scale = RoundScale(static_cast<float>(
      static_cast<double>(fit.scale) * (change.mirror ? -change.stretch : change.stretch)));
  if (grid.offset != Offset::kFloat) return GroupFit::AtZero(scale, -fit.minimum / fit.scale);
  const double middle = 0.5 * (grid.levels() - 1);
  const double center = static_cast<double>(fit.minimum) + static_cast<double>(fit.scale) * middle;
  return {scale, static_cast<float>(center - static_cast<double>(scale) * (middle - change.shift))};
}

class RefinedRows {
 public:
  RefinedRows(View<const double, 2> target, View<const double, 2> h,
              const std::vector<GptqFactor>& factors, Index first, Index rows, QMatrix& q)
      : h_(h),
        factors_(factors),
        first_(first),
        rows_(rows),
        n_(target.cols()),
        q_(q),
        codes_(n_, rows),
        fits_(Size(rows * q.groups())),
        errors_(rows, n_),
        gradient_(rows, n_) {
    std::vector<std::uint8_t> codes(Size(n_));
    const Index columns = q.group_columns();
    for (Index r = 0; r < rows; ++r) {
      q.GetRow(first + r, codes);
      for (Index g = 0; g < q.groups(); ++g) Fit(r, g) = StoredFit(q, first + r, g);
      for (Index b = 0; b < q.supers(); ++b) supers_.push_back(q.Super(first + r, b));
      for (Index c = 0; c < n_; ++c) {
        codes_(c, r) = codes[Size(c)];
        errors_(r, c) = target(first + r, c) - Fit(r, c / columns).Level(codes[Size(c)]);
      }
    }
    Recompute();
  }

  [[nodiscard]] double Loss() const {
    double total = 0;
    for (Index r = 0; r < rows_; ++r) {
      for (Index c = 0; c < n_; ++c) total += errors_(r, c) * gradient_(r, c);
    }
    return total;
  }

  void Recompute() {
    Gemm(1.0, errors_.view(), Transpose::kNo, h_, Transpose::kNo, 0.0, gradient_.view());
  }

  /// One pass over all columns; returns the codes that changed.
  Index Sweep(bool forward) {
    Index moves = 0;
    const Index blocks = CeilDiv(n_, kBlock);
    for (Index i = 0; i < blocks; ++i) {
      const Index begin = (forward ? i : blocks - 1 - i) * kBlock;
      moves += SweepBlock(begin, std::min(kBlock, n_ - begin), forward);
    }
    return moves;
  }

  /// Every group's scale and offset by least squares given its codes; and, where `search`, given
  /// the codes that error feedback inside the group finds on grids near the group's own.
  void RefitGroups(bool search) {
    for (Index g = 0; g < q_.groups() && !q_.grid().k_quant; ++g) RefitGroup(g, search);
    if (!q_.grid().k_quant) return;
    SuperRefit refit(
        {.kind = KQuantOf(q_.grid()),
         .h = h_,
         .factors = factors_,
         .rows = rows_,
         .codes = codes_,
         .fits = fits_,
         .supers = supers_,
         .gradient = gradient_.view(),
         .apply = [&](View<const double, 2> change, Index begin) { Apply(change, begin); }});
    refit.Run(search);
  }

  void Store() {
    std::vector<std::uint8_t> codes(Size(n_));
    for (Index r = 0; r < rows_; ++r) {
      for (Index c = 0; c < n_; ++c) codes[Size(c)] = codes_(c, r);
      q_.SetRow(first_ + r, codes);
      for (Index b = 0; b < q_.supers(); ++b) {
        q_.SetSuper(first_ + r, b, supers_[Size(r * q_.supers() + b)]);
      }
      if (q_.grid().k_quant) continue;
      for (Index g = 0; g < q_.groups(); ++g) {
        StoreFit(Fit(r, g), first_ + r, g, q_);
      }
    }
  }

 private:
  GroupFit& Fit(Index row, Index group) { return fits_[Size(row * q_.groups() + group)]; }

  Index SweepBlock(Index begin, Index width, bool forward) {
    // Transposed, so that rows are the fast index.
    Matrix<double> gradient(width, rows_), change(width, rows_);
    for (Index r = 0; r < rows_; ++r) {
      for (Index k = 0; k < width; ++k) gradient(k, r) = gradient_(r, begin + k);
    }
    Index moves = 0;
    std::vector<double> step(Size(rows_));
    const int levels = q_.grid().levels();
    for (Index i = 0; i < width; ++i) {
      const Index k = forward ? i : width - 1 - i, column = begin + k;
      const Index group = column / q_.group_columns();
      const double inverse = 1.0 / h_(column, column);
      bool any = false;
      for (Index r = 0; r < rows_; ++r) {
        const GroupFit& fit = Fit(r, group);
        const int code = codes_(column, r);
        const double wanted = gradient(k, r) * inverse;  // the step without a grid
        const int best = NearestCode(fit.Level(code) + wanted, fit, levels);
        step[Size(r)] = 0;
        if (best == code) continue;
        const double change_here = fit.Level(best) - fit.Level(code);
        // A tie stays where it is, so that every move lowers the loss.
        if (!(std::fabs(wanted - change_here) < std::fabs(wanted) * (1 - 1e-9))) continue;
        codes_(column, r) = static_cast<std::uint8_t>(best);
        step[Size(r)] = change_here;
        any = true;
        ++moves;
      }
      if (!any) continue;
      for (Index r = 0; r < rows_; ++r) change(k, r) = step[Size(r)];
      for (Index j = 0; j < width; ++j) {
        const double coupling = h_(column, begin + j);
        double* to = gradient.view().Row(j).data();
        for (Index r = 0; r < rows_; ++r) to[r] -= coupling * step[Size(r)];
      }
    }
    if (moves == 0) return 0;
    Matrix<double> by_row(rows_, width);
    for (Index r = 0; r < rows_; ++r) {
      for (Index k = 0; k < width; ++k) by_row(r, k) = change(k, r);
    }
    Apply(by_row.view(), begin);
    return moves;
  }

  /// Q gains `change` in the columns from `begin` on.
  void Apply(View<const double, 2> change, Index begin) {
    Gemm(-1.0, change, Transpose::kNo, h_.Rows(begin, change.cols()), Transpose::kNo, 1.0,
         gradient_.view());
    for (Index r = 0; r < rows_; ++r) {
      for (Index k = 0; k < change.cols(); ++k) errors_(r, begin + k) -= change(r, k);
    }
  }

  void RefitGroup(Index g, bool search) {
    const Grid& grid = q_.grid();
    const Index width = q_.group_columns(), begin = g * width;
    const View<const double, 2> h = h_.Rows(begin, width).Cols(begin, width);
    search = search && width <= kWidestSearched && !factors_[Size(g)].order.empty();

    // levels q, local target t = q + G H⁻¹ and its product t H, all [rows, width]
    Matrix<double> q(rows_, width), target(rows_, width), product(rows_, width);
    for (Index r = 0; r < rows_; ++r) {
      for (Index k = 0; k < width; ++k) {
        q(r, k) = Fit(r, g).Level(codes_(begin + k, r));
        product(r, k) = target(r, k) = gradient_(r, begin + k);
      }
    }
    if (search) DivideByGram(target.view(), factors_[Size(g)]);
    for (Index r = 0; r < rows_; ++r) {
      for (Index k = 0; k < width; ++k) target(r, k) += q(r, k);
    }
    Gemm(1.0, q.view(), Transpose::kNo, h, Transpose::kNo, 1.0, product.view());

    std::vector<double> ones(Size(width));  // 1 H
    double one = 0;
    for (Index i = 0; i < width; ++i) {
      for (Index j = 0; j < width; ++j) ones[Size(i)] += h(i, j);
      one += ones[Size(i)];
    }
    std::vector<Sums> sums(Size(rows_));
    std::vector<double> loss(Size(rows_));
    std::vector<GroupFit> best(Size(rows_));
    std::vector<bool> improved(Size(rows_), false);
    Matrix<std::uint8_t> codes(width, rows_), best_codes(width, rows_);
    for (Index r = 0; r < rows_; ++r) {
      best[Size(r)] = Fit(r, g);
      sums[Size(r)].one = one;
      for (Index k = 0; k < width; ++k) {
        best_codes(k, r) = codes(k, r) = codes_(begin + k, r);
        sums[Size(r)].t1 += product(r, k);
        if (search) sums[Size(r)].tt += target(r, k) * product(r, k);
      }
    }

    Matrix<double> wide(rows_, width), wide_product(rows_, width);
    // Refits the grids to `codes`, keeping what is better than before.
    const auto refit = [&](bool first) {
      for (Index r = 0; r < rows_; ++r) {
        for (Index k = 0; k < width; ++k) wide(r, k) = codes(k, r);
      }
      Gemm(1.0, wide.view(), Transpose::kNo, h, Transpose::kNo, 0.0, wide_product.view());
      for (Index r = 0; r < rows_; ++r) {
        Sums& sum = sums[Size(r)];
        sum.cc = sum.c1 = sum.ct = 0;
        for (Index k = 0; k < width; ++k) {
          sum.cc += wide(r, k) * wide_product(r, k);
          sum.c1 += wide(r, k) * ones[Size(k)];
          sum.ct += wide(r, k) * product(r, k);
        }
        if (first) loss[Size(r)] = sum.Loss(Fit(r, g)) - 1e-9 * sum.Size(Fit(r, g));
        const double before = loss[Size(r)];
        FitToCodes(sum, grid, Fit(r, g), loss[Size(r)], best[Size(r)]);
        if (!(loss[Size(r)] < before)) continue;
        improved[Size(r)] = true;
        for (Index k = 0; k < width; ++k) best_codes(k, r) = codes(k, r);
      }
    };
    refit(true);
    if (search) {
      for (const Change& change : kChanges) {
        if (!Applies(change, grid.offset)) continue;
        RoundGroup(g, change, target.view(), codes);
        refit(false);
      }
    }

    bool any = false;
    for (Index r = 0; r < rows_; ++r) {
      for (Index k = 0; k < width; ++k) {
        q(r, k) = improved[Size(r)] ? best[Size(r)].Level(best_codes(k, r)) - q(r, k) : 0;
        if (improved[Size(r)]) codes_(begin + k, r) = best_codes(k, r);
      }
      if (improved[Size(r)]) Fit(r, g) = best[Size(r)];
      any = any || improved[Size(r)];
    }
    if (any) Apply(q.view(), begin);
  }

  /// codes [width, rows]: what error feedback inside the group makes of the local target on the
  /// changed grids.
  void RoundGroup(Index g, const Change& change, View<const double, 2> target,
                  Matrix<std::uint8_t>& codes) {
    std::vector<GroupFit> fits(Size(rows_));
    for (Index r = 0; r < rows_; ++r) fits[Size(r)] = Changed(Fit(r, g), change, q_.grid());
    RoundWithFeedback(target, factors_[Size(g)], fits, q_.grid().levels(), codes);
  }

  View<const double, 2> h_;
  const std::vector<GptqFactor>& factors_;  // of h inside each group
  Index first_, rows_, n_;
  QMatrix& q_;
  Matrix<std::uint8_t> codes_;      // [n, rows]
  std::vector<GroupFit> fits_;      // [rows, groups]
  std::vector<SuperBlock> supers_;  // [rows, super-blocks] of K-quant grids
  Matrix<double> errors_;           // [rows, n]: target less its level
  Matrix<double> gradient_;         // errors times h
};

}  // namespace

RefineReport Refine(View<const double, 2> target, View<const double, 2> h,
                    const RefineOptions& options, Context& context, QMatrix& q) {
  LIEQ_ASSERT(target.rows() == q.rows() && target.cols() == q.cols());
  LIEQ_ASSERT(h.rows() == q.cols() && h.cols() == q.cols());
  std::vector<GptqFactor> factors(Size(q.groups()));
  if (options.search && q.group_columns() <= kWidestSearched) {
    const Index width = q.group_columns();
    context.pool.ParallelFor(q.groups(), [&](Index g, int) {
      factors[Size(g)] = FactorGram(h.Rows(g * width, width).Cols(g * width, width),
                                    {.bits = q.grid().bits, .group_size = 0}, {.damping = 0});
    });
  }
  const Index tasks = CeilDiv(q.rows(), kRowsPerTask);
  std::vector<RefineReport> parts(Size(tasks));
  context.pool.ParallelFor(tasks, [&](Index task, int) {
    const Index first = task * kRowsPerTask, rows = std::min(kRowsPerTask, q.rows() - first);
    RefinedRows block(target, h, factors, first, rows, q);
    RefineReport& report = parts[Size(task)];
    report.before = block.Loss();
    for (int round = 0; round < options.rounds; ++round) {
      for (int sweep = 0; sweep < options.sweeps; ++sweep) {
        const Index moves = block.Sweep(sweep % 2 == 0);
        report.moves += moves;
        if (moves == 0) break;
      }
      block.RefitGroups(options.search);
    }
    block.Recompute();
    report.after = block.Loss();
    block.Store();
  });
  RefineReport total;
  for (const RefineReport& part : parts) {
    total.before += part.before;
    total.after += part.after;
    total.moves += part.moves;
  }
  return total;
}

}  // namespace lieq
