#include "lieq/quantize/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/row_fit.h"

namespace lieq {
namespace {

constexpr Index kBlock = 128;  // columns rounded between two products with all earlier errors

/// Columns in the order of rounding.
std::vector<Index> RoundingOrder(std::span<const float> diagonal, Index group, ActOrder kind) {
  std::vector<Index> order(diagonal.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto falling = [&](Index a, Index b) { return diagonal[Size(a)] > diagonal[Size(b)]; };
  if (kind == ActOrder::kStatic) std::stable_sort(order.begin(), order.end(), falling);
  if (kind != ActOrder::kGroup) return order;

  std::vector<std::pair<float, Index>> groups;  // largest H_jj, first column
  for (Index begin = 0; begin < static_cast<Index>(order.size()); begin += group) {
    std::stable_sort(order.begin() + begin, order.begin() + begin + group, falling);
    groups.emplace_back(diagonal[Size(order[Size(begin)])], begin);
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<Index> result;
  for (const auto& [most, begin] : groups) {
    result.insert(result.end(), order.begin() + begin, order.begin() + begin + group);
  }
  return result;
}

/// Rows of values with columns in their own order, once more row by row. [rows, n]
Matrix<float> RowByRow(View<const float, 2> by_column, Index rows) {
  Matrix<float> values(rows, by_column.rows());
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < by_column.rows(); ++c) values(r, c) = by_column(c, r);
  }
  return values;
}

/// Rounds the rows of one task; positions are those of GptqFactor.
class RowRounder {
 public:
  RowRounder(View<const float, 2> target, Index rows, const GptqFactor& factor, const Grid& grid,
             const QuantOptions& options)
      : block(rows, target.rows(), grid),
        target_(target),
        rows_(rows),
        padded_(target.cols()),
        factor_(factor),
        options_(options),
        errors_(target.rows(), target.cols()) {
    // Groups must be fitted before the pass where the order leaves a group and comes back to it,
    // and where there is one group alone, or one super-block holds several.
    fit_on_entry_ = options.act_order != ActOrder::kStatic && block.groups() > 1 && !grid.k_quant;
    importance_.resize(factor.order.size());
    for (std::size_t p = 0; p < importance_.size(); ++p) {
      importance_[Size(factor.order[p])] = factor.pivots[p] * factor.pivots[p];
    }
    if (!fit_on_entry_) FitAll(target);
  }

  void Run() {
    // Feedback widens the spread of what is rounded beyond that of the weights, most in the columns
    // rounded last. So the scales fitted to the weights serve a first pass only, and the real one
    // has scales fitted to the targets that the first one met.
    if (!fit_on_entry_ && options_.clip == Clip::kSearch) {
      targets_seen_ = Matrix<float>(target_.rows(), padded_);
      Pass();
      FitAll(std::as_const(targets_seen_).view());
      targets_seen_ = {};
    }
    sums = {.signal = Signal()};
    Pass();
  }

  CodeBlock block;
  RoundingSums sums;

 private:
  [[nodiscard]] Index n() const noexcept { return target_.rows(); }

  void Pass() {
    const Index step = fit_on_entry_ ? std::max(kBlock, block.group_columns()) : kBlock;
    // Aligned to groups counted from the column rounded first, which has the last position.
    for (Index end = n(); end > 0; end -= std::min(step, end)) {
      RoundBlock(std::max<Index>(0, end - step), end);
    }
  }

  void FitAll(View<const float, 2> values) {
    const Matrix<float> by_row = RowByRow(values, rows_);
    for (Index r = 0; r < rows_; ++r) {
      FitRow(std::as_const(by_row).view().Row(r), importance_, options_.clip, r, block);
    }
  }

  /// Fits the group whose columns are rounded next, on the targets with all feedback so far.
  /// targets [block columns, rows]; the group's columns are positions last - group + 1 .. last.
  void FitOnEntry(View<const float, 2> targets, Index block_begin, Index last) {
    const Index columns = block.group_columns();
    const Index group = factor_.order[Size(last)] / columns;
    std::vector<float> w(Size(columns)), importance(Size(columns));
    for (Index r = 0; r < rows_; ++r) {
      for (Index p = last - columns + 1; p <= last; ++p) {
        const std::size_t i = Size(factor_.order[Size(p)] - group * columns);
        w[i] = targets(p - block_begin, r);
        importance[i] = importance_[Size(factor_.order[Size(p)])];
      }
      block.SetFit(r, group, FitGroup(w, importance, block.grid(), options_.clip));
    }
  }

  void RoundBlock(Index begin, Index end) {
    const Index width = end - begin;
    // Targets of the block with the errors of all columns rounded before: W_K + E B_K.
    Matrix<float> targets(width, padded_);
    for (Index p = begin; p < end; ++p) {
      std::ranges::copy(target_.Row(factor_.order[Size(p)]), targets.view().Row(p - begin).begin());
    }
    if (end < n()) {
      Gemm(1.0f, factor_.feedback.view().Rows(end, n() - end).Cols(begin, width), Transpose::kYes,
           errors_.view().Rows(end, n() - end), Transpose::kNo, 1.0f, targets.view());
    }
    const Index columns = block.group_columns();
    std::vector<double> losses(Size(padded_));
    Matrix<float> levels(1, padded_);
    for (Index p = end - 1; p >= begin; --p) {
      if (fit_on_entry_ && (n() - 1 - p) % columns == 0) {
        FitOnEntry(std::as_const(targets).view(), begin, p);
      }
      const Index column = factor_.order[Size(p)];
      const auto wanted = targets.view().Row(p - begin);
      RoundToLines(wanted.data(), block.Lines(column / columns), padded_,
                   block.codes.view().Row(column).data(), levels.data());
      Count(p, column / columns, wanted.data(), levels.data());
      if (targets_seen_.size() > 0) {
        std::ranges::copy(wanted, targets_seen_.view().Row(column).begin());
      }
      float* errors = errors_.view().Row(p).data();
      const float* weights = target_.Row(column).data();
      for (Index r = 0; r < padded_; ++r) errors[r] = weights[r] - levels(0, r);
      AddMultiples(errors, factor_.feedback.view().Row(p).data() + begin, p - begin, targets.data(),
                   padded_);
    }
  }

  void Count(Index position, Index group, const float* targets, const float* levels) {
    const float pivot = factor_.pivots[Size(position)];
    const float* scale = block.Lines(group).scale;
    float error = 0;
    Index clamped = 0;
    for (Index r = 0; r < rows_; ++r) {
      const float miss = targets[r] - levels[r], weighed = pivot * miss;
      error += weighed * weighed;
      clamped += std::fabs(miss) > 0.50001f * std::fabs(scale[r]) ? 1 : 0;
    }
    sums.error += static_cast<double>(error);
    sums.clamped += clamped;
  }

  /// Sum over rows of w H wᵀ = |w U|², the size that errors are measured against.
  [[nodiscard]] double Signal() const {
    Matrix<float> permuted(n(), padded_);
    for (Index p = 0; p < n(); ++p) {
      std::ranges::copy(target_.Row(factor_.order[Size(p)]), permuted.view().Row(p).begin());
    }
    double total = 0;
    for (Index begin = 0; begin < n(); begin += kBlock) {
      const Index width = std::min(kBlock, n() - begin), below = n() - begin;
      // |w U| by columns: U_kk (w_k + sum of w_j U_jk / U_kk); feedback is 0 on and above the
      // diagonal.
      Matrix<float> sum(width, padded_);
      Gemm(1.0f, factor_.feedback.view().Rows(begin, below).Cols(begin, width), Transpose::kYes,
           permuted.view().Rows(begin, below), Transpose::kNo, 0.0f, sum.view());
      for (Index k = 0; k < width; ++k) {
        float squares = 0;
        for (Index r = 0; r < rows_; ++r) {
          const float value =
              factor_.pivots[Size(begin + k)] * (permuted(begin + k, r) + sum(k, r));
          squares += value * value;
        }
        total += static_cast<double>(squares);
      }
    }
    return total;
  }

  View<const float, 2> target_;  // [n, padded] by column
  Index rows_, padded_;
  const GptqFactor& factor_;
  const QuantOptions& options_;
  Matrix<float> errors_;           // [n, padded] by position: original weight less its level
  std::vector<float> importance_;  // [n] by column: U_kk², what an error of this column costs
  bool fit_on_entry_ = false;
  Matrix<float> targets_seen_;  // [n, padded] by column in a first pass, else empty
};

/// Calls `row` for each of n rows: those of a triangle, so that the last ones, which are the
/// longest, come first. On the pool, where there is one.
template <class Row>
void ForRows(Index n, ThreadPool* pool, const Row& row) {
  constexpr Index kRows = 64;
  const Index tasks = CeilDiv(n, kRows);
  const auto rows = [&](Index task, int) {
    const Index begin = (tasks - 1 - task) * kRows;
    for (Index p = begin; p < std::min(n, begin + kRows); ++p) row(p);
  };
  if (pool != nullptr) {
    pool->ParallelFor(tasks, rows);
  } else {
    for (Index task = 0; task < tasks; ++task) rows(task, 0);
  }
}

/// Takes the factor L of the permuted H apart: pivots, and what is below them in units of them.
void Normalize(View<const double, 2> l, GptqFactor& factor, ThreadPool* pool) {
  const Index n = l.rows();
  factor.feedback = Matrix<float>(n, n);
  std::vector<double> inverse(Size(n));
  factor.pivots.resize(Size(n));
  for (Index p = 0; p < n; ++p) {
    factor.pivots[Size(p)] = static_cast<float>(l(p, p));
    inverse[Size(p)] = 1 / l(p, p);
  }
  ForRows(n, pool, [&](Index p) {
    for (Index q = 0; q < p; ++q) {
      factor.feedback(p, q) = static_cast<float>(l(p, q) * inverse[Size(q)]);
    }
  });
}

}  // namespace

Matrix<float> ColumnsByRows(View<const float, 2> rows) {
  Matrix<float> columns(rows.cols(), PaddedRows(rows.rows()));
  for (Index r = 0; r < rows.rows(); ++r) {
    for (Index c = 0; c < rows.cols(); ++c) columns(c, r) = rows(r, c);
  }
  return columns;
}

namespace {

/// What there is to say of a factor before anything is factorised. diagonal [n]: of the Gram
/// matrix. mean: of its columns that were active.
GptqFactor FactorToBe(std::span<const float> diagonal, const Grid& grid,
                      const QuantOptions& options, double& mean) {
  GptqFactor factor;
  factor.diagonal.assign(diagonal.begin(), diagonal.end());
  const auto n = static_cast<Index>(diagonal.size());
  double trace = 0;
  for (const float value : diagonal) {
    if (value <= 0) ++factor.dead_columns;
    trace += static_cast<double>(value);
  }
  const Index alive = n - factor.dead_columns;
  mean = alive > 0 ? trace / static_cast<double>(alive) : 1.0;
  for (float& value : factor.diagonal) {
    if (value <= 0) value = static_cast<float>(mean);
  }
  factor.order = RoundingOrder(factor.diagonal, GroupColumns(grid, n), options.act_order);
  std::reverse(factor.order.begin(), factor.order.end());
  factor.damping = options.damping;
  return factor;
}

/// Calls `factorizes` with what is added to the diagonal until it says true, damping raised tenfold
/// each time; an empty order says that none helped.
template <class Factorizes>
void Damp(GptqFactor& factor, double mean, const Factorizes& factorizes) {
  while (!factorizes(factor.damping * mean)) {
    if (factor.damping >= 1.0) {
      factor.order.clear();
      return;
    }
    factor.damping = std::max(factor.damping, 1e-6) * 10;
    ++factor.retries;
  }
  for (float& value : factor.diagonal) value += static_cast<float>(factor.damping * mean);
}

}  // namespace

GptqFactor FactorGram(View<const float, 2> gram, const Grid& grid, const QuantOptions& options,
                      ThreadPool* pool) {
  const Index n = gram.rows();
  LIEQ_ASSERT(n == gram.cols() && n > 0);
  std::vector<float> diagonal(Size(n));
  for (Index j = 0; j < n; ++j) diagonal[Size(j)] = gram(j, j);
  double mean = 0;
  GptqFactor factor = FactorToBe(diagonal, grid, options, mean);

  Matrix<double> h(n, n);
  Damp(factor, mean, [&](double added) {
    ForRows(n, pool, [&](Index p) {
      const Index row = factor.order[Size(p)];
      for (Index q = 0; q < p; ++q) {
        const Index col = factor.order[Size(q)];
        h(p, q) = static_cast<double>(row > col ? gram(row, col) : gram(col, row));
      }
      h(p, p) = static_cast<double>(factor.diagonal[Size(row)]) + added;
    });
    return pool != nullptr ? Cholesky(h.view(), *pool) : Cholesky(h.view());
  });
  if (!factor.order.empty()) Normalize(std::as_const(h).view(), factor, pool);
  return factor;
}

PlacedFactor FactorGramOn(RoundingOps& device, const PlacedSums<double>& gram,
                          std::span<const float> diagonal, const Grid& grid,
                          const QuantOptions& options, bool refines) {
  LIEQ_ASSERT(gram.rows() == static_cast<Index>(diagonal.size()));
  PlacedFactor result;
  double mean = 0;
  result.factor = FactorToBe(diagonal, grid, options, mean);
  std::vector<double> damped(diagonal.size());
  Damp(result.factor, mean, [&](double added) {
    std::ranges::transform(result.factor.diagonal, damped.begin(),
                           [&](float value) { return static_cast<double>(value) + added; });
    result.placed = device.Factorize(gram, damped, result.factor.order, refines);
    return result.placed != nullptr;
  });
  return result;
}

void DivideByGram(View<float, 2> b, const GptqFactor& factor) {
  const Index n = b.cols();
  Matrix<float> permuted(b.rows(), n);
  for (Index r = 0; r < b.rows(); ++r) {
    for (Index p = 0; p < n; ++p) permuted(r, p) = b(r, factor.order[Size(p)]);
  }
  // H = F diag(pivots²) Fᵀ, F unit lower triangular: `feedback` with ones on its diagonal.
  DivideByUnitLower(permuted.view(), factor.feedback.view(), Transpose::kYes);
  for (Index r = 0; r < b.rows(); ++r) {
    for (Index p = 0; p < n; ++p) {
      permuted(r, p) /= factor.pivots[Size(p)] * factor.pivots[Size(p)];
    }
  }
  DivideByUnitLower(permuted.view(), factor.feedback.view(), Transpose::kNo);
  for (Index r = 0; r < b.rows(); ++r) {
    for (Index p = 0; p < n; ++p) b(r, factor.order[Size(p)]) = permuted(r, p);
  }
}

CodeBlock RoundByGptq(View<const float, 2> target, Index rows, const GptqFactor& factor,
                      const Grid& grid, const QuantOptions& options, RoundingSums& sums) {
  LIEQ_ASSERT(static_cast<Index>(factor.order.size()) == target.rows());
  LIEQ_ASSERT(target.cols() == PaddedRows(rows) && target.stride() == target.cols());
  RowRounder rounder(target, rows, factor, grid, options);
  rounder.Run();
  sums = rounder.sums;
  return std::move(rounder.block);
}

}  // namespace lieq
