#include "lieq/quantize/refine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/local_group.h"
#include "lieq/quantize/refine_super.h"

namespace lieq {
namespace {

constexpr Index kBlock = 128;

/// How a searched grid differs from the group's own.
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

GroupFit Changed(const GroupFit& fit, const Change& change, const Grid& grid) {
  const float scale = RoundScale(static_cast<float>(
      static_cast<double>(fit.scale) * (change.mirror ? -change.stretch : change.stretch)));
  if (grid.offset != Offset::kFloat) return GroupFit::AtZero(scale, -fit.minimum / fit.scale);
  const double middle = 0.5 * (grid.levels() - 1);
  const double center = static_cast<double>(fit.minimum) + static_cast<double>(fit.scale) * middle;
  const double minimum = center - static_cast<double>(scale) * (middle - change.shift);
  return {scale, RoundMinimum(static_cast<float>(minimum))};
}

class RefinedRows {
 public:
  RefinedRows(View<const float, 2> target, const RefineMetric& metric, CodeBlock& block)
      : target_(target),
        h_(metric.h),
        factors_(metric.factors),
        block_(block),
        gradient_(block.cols(), block.padded()),
        gains_(1, block.padded()) {
    const Matrix<float> errors = Errors();
    Gemm(1.0f, h_, Transpose::kNo, errors.view(), Transpose::kNo, 0.0f, gradient_.view());
  }

  /// By the gradient there is.
  [[nodiscard]] double Loss() const {
    const Matrix<float> errors = Errors();
    double total = 0;
    for (Index c = 0; c < n(); ++c) {
      for (Index r = 0; r < block_.rows(); ++r) {
        total += static_cast<double>(errors(c, r)) * static_cast<double>(gradient_(c, r));
      }
    }
    return total;
  }

  /// All blocks of columns once. Returns by how much the loss fell.
  double Round(bool forward, bool search) {
    std::fill_n(gains_.data(), gains_.size(), 0.0f);
    const Index step = Step(), blocks = CeilDiv(n(), step);
    for (Index i = 0; i < blocks; ++i) {
      const Index begin = (forward ? i : blocks - 1 - i) * step;
      RefineColumns(begin, std::min(step, n() - begin), forward, search);
    }
    for (Index g = 0; g < block_.groups() && IsWide(); ++g) RefitWide(g);
    return std::accumulate(gains_.data(), gains_.data() + block_.rows(), 0.0);
  }

  Index moves = 0;

 private:
  [[nodiscard]] Index n() const noexcept { return target_.rows(); }
  [[nodiscard]] Index padded() const noexcept { return target_.cols(); }
  [[nodiscard]] bool IsWide() const noexcept {
    return !block_.grid().k_quant && block_.group_columns() > kWidestSearched;
  }
  /// Columns that are refined together: whole groups, or super-blocks.
  [[nodiscard]] Index Step() const noexcept {
    if (block_.grid().k_quant) return kSuperColumns;
    const Index columns = block_.group_columns();
    return IsWide() ? kBlock : std::max<Index>(1, kBlock / columns) * columns;
  }

  [[nodiscard]] Matrix<float> Errors() const {
    Matrix<float> errors(n(), padded());
    for (Index c = 0; c < n(); ++c) {
      float* error = errors.view().Row(c).data();
      LevelsOf(block_.codes.view().Row(c).data(), block_.Lines(c / block_.group_columns()),
               padded(), error);
      const float* target = target_.Row(c).data();
      for (Index r = 0; r < padded(); ++r) error[r] = target[r] - error[r];
    }
    return errors;
  }

  void RefineColumns(Index begin, Index width, bool forward, bool search) {
    Matrix<float> change(width, padded());
    Index moved = Sweep(begin, forward, change.view());
    if (moved > 0) moved += Sweep(begin, !forward, change.view());
    moves += moved;
    bool any = moved > 0;
    // In the block at once; elsewhere when it is left.
    const auto apply = [&](View<const float, 2> levels, Index at) {
      any = true;
      Gemm(-1.0f, h_.Rows(begin, width).Cols(at, levels.rows()), Transpose::kNo, levels,
           Transpose::kNo, 1.0f, gradient_.view().Rows(begin, width));
      for (Index k = 0; k < levels.rows(); ++k) {
        const float* from = levels.Row(k).data();
        float* to = change.view().Row(at - begin + k).data();
        for (Index r = 0; r < padded(); ++r) to[r] += from[r];
      }
    };
    const View<float, 2> gradient = gradient_.view().Rows(begin, width);
    if (block_.grid().k_quant) {
      SuperRefit({.h = h_,
                  .factors = factors_,
                  .block = block_,
                  .gradient = gradient,
                  .gains = gains_.data(),
                  .apply = apply})
          .Run(begin / kSuperColumns, search);
    } else if (!IsWide()) {
      const Index columns = block_.group_columns();
      for (Index g = begin / columns; g < (begin + width) / columns; ++g) {
        const View<const float, 2> own = gradient.Rows(g * columns - begin, columns);
        if (factors_[Size(g)].order.empty()) continue;
        RefitGroup(g, own, search, apply);
      }
    }
    if (any) Spread(std::as_const(change).view(), begin);
  }

  /// Coordinate descent over the columns of a block; returns the codes that changed.
  Index Sweep(Index begin, bool forward, View<float, 2> change) {
    const Index width = change.rows();
    Matrix<float> step(1, padded());
    Index moved = 0;
    for (Index i = 0; i < width; ++i) {
      const Index k = forward ? i : width - 1 - i, column = begin + k;
      const Index here =
          MoveCodes(gradient_.view().Row(column).data(), h_(column, column),
                    block_.Lines(column / block_.group_columns()), padded(),
                    block_.codes.view().Row(column).data(), step.data(), gains_.data());
      if (here == 0) continue;
      moved += here;
      float* sum = change.Row(k).data();
      for (Index r = 0; r < padded(); ++r) {
        sum[r] += step(0, r);
        step(0, r) = -step(0, r);
      }
      AddMultiples(step.data(), h_.Row(column).data() + begin, width,
                   gradient_.view().Row(begin).data(), padded());
    }
    return moved;
  }

  /// Q gained `change` in the columns from `begin` on, of which only the block's own know.
  void Spread(View<const float, 2> change, Index begin) {
    const auto to = [&](Index first, Index count) {
      if (count == 0) return;
      Gemm(-1.0f, h_.Rows(begin, change.rows()).Cols(first, count), Transpose::kYes, change,
           Transpose::kNo, 1.0f, gradient_.view().Rows(first, count));
    };
    to(0, begin);
    to(begin + change.rows(), n() - begin - change.rows());
  }

  /// A group's scale and offset by least squares given its codes; and, where `search`, the codes
  /// that error feedback inside the group finds on grids near the group's own.
  template <class Apply>
  void RefitGroup(Index g, View<const float, 2> gradient, bool search, const Apply& apply) {
    const Grid& grid = block_.grid();
    const Index width = block_.group_columns(), rows = block_.rows();
    const float top = static_cast<float>(grid.levels() - 1);
    LocalGroup local(factors_[Size(g)], block_, g, gradient);
    GroupLines best(padded(), top), tried(padded(), top);
    Matrix<float> losses(2, padded());  // the least, and those of what is tried
    float* least = losses.view().Row(0).data();
    float* found = losses.view().Row(1).data();
    Matrix<std::uint8_t> best_codes = local.codes().Clone(), codes(width, padded());
    for (Index r = 0; r < rows; ++r) {
      best.Set(r, block_.Fit(r, g));
      least[r] = local.loss()[r] * (1 - kLeastGain);
    }
    std::vector<std::uint8_t> better(Size(padded()));
    std::vector<bool> improved(Size(rows), false);
    const auto keep = [&](const Matrix<std::uint8_t>& from) {
      bool any = false;
      for (Index r = 0; r < rows; ++r) {
        better[Size(r)] = found[r] < least[r] ? 0xFF : 0;
        if (better[Size(r)] == 0) continue;
        any = improved[Size(r)] = true;
        least[r] = found[r];
        best.Set(r, tried.Fit(r));
      }
      if (!any || &from == &best_codes) return;
      for (Index k = 0; k < width; ++k) {
        const std::uint8_t* now = from.view().Row(k).data();
        std::uint8_t* to = best_codes.view().Row(k).data();
        for (Index r = 0; r < padded(); ++r) {
          to[r] =
              static_cast<std::uint8_t>((now[r] & better[Size(r)]) | (to[r] & ~better[Size(r)]));
        }
      }
    };
    const auto refit = [&] {
      const std::vector<LevelSums> sums = local.SumsOf(best_codes, rows);
      for (Index r = 0; r < rows; ++r) tried.Set(r, FitToCodes(sums[Size(r)], grid, best.Fit(r)));
      local.LossOf(best_codes, tried.view(), found);
      keep(best_codes);
    };
    refit();
    if (search) {
      std::vector<GroupFit> base;
      for (Index r = 0; r < rows; ++r) base.push_back(best.Fit(r));
      for (const Change& change : kChanges) {
        if (!Applies(change, grid.offset)) continue;
        for (Index r = 0; r < rows; ++r) tried.Set(r, Changed(base[Size(r)], change, grid));
        local.Round(tried.view(), codes, found);
        keep(codes);
      }
      refit();
    }
    if (std::ranges::find(improved, true) == improved.end()) return;
    for (Index r = 0; r < rows; ++r) {
      if (!improved[Size(r)]) continue;
      gains_(0, r) += local.loss()[r] - least[r];
      block_.SetFit(r, g, best.Fit(r));
    }
    for (Index k = 0; k < width; ++k) {
      std::ranges::copy(best_codes.view().Row(k), block_.codes.view().Row(g * width + k).begin());
    }
    const Matrix<float> change = local.ChangeTo(best_codes, block_.Lines(g));
    apply(change.view(), g * width);
  }

  /// The same for a group without a factor of its own, by its codes alone.
  void RefitWide(Index g) {
    const Index width = block_.group_columns(), begin = g * width, rows = block_.rows();
    const View<const float, 2> h = h_.Rows(begin, width).Cols(begin, width);
    const View<const float, 2> gradient = std::as_const(gradient_).view().Rows(begin, width);
    Matrix<float> codes(width, padded()), levels(width, padded()), coded(width, padded()),
        product(width, padded());
    for (Index k = 0; k < width; ++k) {
      const auto code = block_.codes.view().Row(begin + k);
      std::ranges::copy(code, codes.view().Row(k).begin());
      LevelsOf(code.data(), block_.Lines(g), padded(), levels.view().Row(k).data());
      std::ranges::copy(gradient.Row(k), product.view().Row(k).begin());
    }
    Gemm(1.0f, h, Transpose::kNo, codes.view(), Transpose::kNo, 0.0f, coded.view());
    Gemm(1.0f, h, Transpose::kNo, levels.view(), Transpose::kNo, 1.0f, product.view());
    std::vector<LevelSums> sums(Size(rows));
    for (Index k = 0; k < width; ++k) {
      double ones = 0;
      for (Index j = 0; j < width; ++j) ones += static_cast<double>(h(k, j));
      for (Index r = 0; r < rows; ++r) {
        LevelSums& sum = sums[Size(r)];
        const auto c = static_cast<double>(codes(k, r));
        sum.cc += c * static_cast<double>(coded(k, r));
        sum.c1 += c * ones;
        sum.one += ones;
        sum.ct += c * static_cast<double>(product(k, r));
        sum.t1 += static_cast<double>(product(k, r));
      }
    }
    // What the change gains, from the change itself: the sums are too coarse for that.
    GroupLines refitted(padded(), static_cast<float>(block_.grid().levels() - 1));
    for (Index r = 0; r < rows; ++r) {
      refitted.Set(r, FitToCodes(sums[Size(r)], block_.grid(), block_.Fit(r, g)));
    }
    Matrix<float> change(width, padded()), changed(width, padded());
    for (Index k = 0; k < width; ++k) {
      float* to = change.view().Row(k).data();
      LevelsOf(block_.codes.view().Row(begin + k).data(), refitted.view(), padded(), to);
      for (Index r = 0; r < padded(); ++r) to[r] = r < rows ? to[r] - levels(k, r) : 0;
    }
    Gemm(1.0f, h, Transpose::kNo, change.view(), Transpose::kNo, 0.0f, changed.view());
    bool any = false;
    for (Index r = 0; r < rows; ++r) {
      double linear = 0, square = 0;
      for (Index k = 0; k < width; ++k) {
        const auto d = static_cast<double>(change(k, r));
        linear += d * static_cast<double>(gradient(k, r));
        square += d * static_cast<double>(changed(k, r));
      }
      const double gain = 2 * linear - square;
      const bool better = gain > static_cast<double>(kLeastGain) * (square + 2 * std::fabs(linear));
      if (better) {
        any = true;
        gains_(0, r) += static_cast<float>(gain);
        block_.SetFit(r, g, refitted.Fit(r));
      }
      for (Index k = 0; k < width && !better; ++k) change(k, r) = 0;
    }
    if (!any) return;
    Gemm(-1.0f, h_.Rows(begin, width), Transpose::kYes, change.view(), Transpose::kNo, 1.0f,
         gradient_.view());
  }

  View<const float, 2> target_;  // [n, padded]
  View<const float, 2> h_;
  const std::vector<GptqFactor>& factors_;
  CodeBlock& block_;
  Matrix<float> gradient_;  // [n, padded]: h times the errors
  Matrix<float> gains_;     // [1, padded]: by how much losses fell in a round
};

}  // namespace

namespace {

/// block(g): h inside the group.
template <class Block>
std::vector<GptqFactor> FactorsOf(Index groups, const Grid& grid, Context& context,
                                  const Block& block) {
  std::vector<GptqFactor> factors(Size(groups));
  context.pool.ParallelFor(groups, [&](Index g, int) {
    factors[Size(g)] = FactorGram(block(g), {.bits = grid.bits, .group_size = 0}, {.damping = 0});
  });
  return factors;
}

}  // namespace

std::vector<GptqFactor> GroupFactors(View<const float, 2> h, const Grid& grid, Context& context) {
  const Index width = GroupColumns(grid, h.rows()), groups = h.rows() / width;
  if (width > kWidestSearched) return std::vector<GptqFactor>(Size(groups));
  return FactorsOf(groups, grid, context,
                   [&](Index g) { return h.Rows(g * width, width).Cols(g * width, width); });
}

std::vector<GptqFactor> GroupFactorsOfBlocks(View<const float, 2> blocks, const Grid& grid,
                                             Context& context) {
  const Index width = blocks.cols();
  return FactorsOf(blocks.rows() / width, grid, context,
                   [&](Index g) { return blocks.Rows(g * width, width); });
}

std::vector<double> Stretches(Offset offset) {
  LIEQ_ASSERT(offset != Offset::kFloat);
  std::vector<double> stretches;
  for (const Change& change : kChanges) {
    if (!Applies(change, offset)) continue;
    stretches.push_back(change.mirror ? -change.stretch : change.stretch);
  }
  return stretches;
}

RefineReport Refine(View<const float, 2> target, const RefineMetric& metric,
                    const RefineOptions& options, CodeBlock& block) {
  LIEQ_ASSERT(target.rows() == block.cols() && target.cols() == block.padded());
  LIEQ_ASSERT(metric.h.rows() == block.cols() && metric.h.cols() == block.cols());
  RefinedRows rows(target, metric, block);
  RefineReport report{.after = rows.Loss()};
  for (int round = 0; round < options.rounds; ++round) {
    const double gain = rows.Round(round % 2 == 0, options.search);
    report.after -= gain;
    if (gain <= options.least_gain * report.after) break;
  }
  report.after = rows.Loss();
  report.moves = rows.moves;
  return report;
}

}  // namespace lieq
