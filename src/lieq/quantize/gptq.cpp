#include "lieq/quantize/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/row_fit.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;
constexpr Index kBlock = 128;  // columns rounded between two products with all earlier errors

/// Columns in the order of rounding.
std::vector<Index> RoundingOrder(std::span<const double> diagonal, Index group, ActOrder kind) {
  std::vector<Index> order(diagonal.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto falling = [&](Index a, Index b) { return diagonal[Size(a)] > diagonal[Size(b)]; };
  if (kind == ActOrder::kStatic) std::stable_sort(order.begin(), order.end(), falling);
  if (kind != ActOrder::kGroup) return order;

  std::vector<std::pair<double, Index>> groups;  // largest H_jj, first column
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

/// Everything one task needs to round its rows; positions are those of GptqFactor.
class RowBlock {
 public:
  RowBlock(View<const float, 2> w, Index first, Index rows, const GptqFactor& factor,
           const Grid& grid, const QuantOptions& options, QMatrix& result)
      : w_(w),
        first_(first),
        rows_(rows),
        factor_(factor),
        grid_(grid),
        options_(options),
        result_(result),
        errors_(rows, w.cols()),
        fits_(Size(rows * result.groups())),
        codes_(rows, w.cols()) {
    // Groups must be fitted before the pass where the order leaves a group and comes back to it,
    // and where there is one group alone, or one super-block holds several.
    fit_on_entry_ = options.act_order != ActOrder::kStatic && result.groups() > 1 && !grid.k_quant;
    importance_.resize(Size(w.cols()));
    for (Index p = 0; p < w.cols(); ++p) {
      const double pivot = factor.pivots[Size(p)];
      importance_[Size(factor.order[Size(p)])] = static_cast<float>(pivot * pivot);
    }
    if (!fit_on_entry_) FitAll(w.Rows(first, rows));
  }

  void Run() {
    // Feedback widens the spread of what is rounded beyond that of the weights, most in the columns
    // rounded last. So the scales fitted to the weights serve a first pass only, and the real one
    // has scales fitted to the targets that the first one met.
    if (!fit_on_entry_ && options_.clip == Clip::kSearch) {
      targets_seen_ = Matrix<float>(rows_, w_.cols());
      Pass();
      FitAll(targets_seen_.view());
      targets_seen_ = {};
      error = 0;
      clamped = 0;
    }
    Pass();
    Store();
  }

  double error = 0;
  Index clamped = 0;

 private:
  void Pass() {
    const Index n = w_.cols();
    const Index block = fit_on_entry_ ? std::max(kBlock, result_.group_columns()) : kBlock;
    // Aligned to groups counted from the column rounded first, which has the last position.
    for (Index end = n; end > 0; end -= std::min(block, end)) {
      const Index begin = std::max<Index>(0, end - block);
      RoundBlock(begin, end);
    }
  }

  void Store() {
    for (Index r = 0; r < rows_; ++r) {
      result_.SetRow(first_ + r, codes_.view().Row(r));
      if (!fit_on_entry_) continue;  // else FitAll wrote them
      for (Index g = 0; g < result_.groups(); ++g) {
        StoreFit(Fit(r, g), first_ + r, g, result_);
      }
    }
  }

  GroupFit& Fit(Index row, Index group) { return fits_[Size(row * result_.groups() + group)]; }

  /// Fits every group on rows of values [rows, n].
  void FitAll(View<const float, 2> values) {
    for (Index r = 0; r < rows_; ++r) {
      FitRow(values.Row(r), importance_, options_.clip, first_ + r, result_);
      for (Index g = 0; g < result_.groups(); ++g) Fit(r, g) = StoredFit(result_, first_ + r, g);
    }
  }

  /// Fits the group whose columns are rounded next, on the targets with all feedback so far.
  /// targets [block columns, rows]; the group's columns are positions last - group + 1 .. last.
  void FitOnEntry(const Matrix<double>& targets, Index block_begin, Index last) {
    const Index columns = result_.group_columns();
    const Index group = factor_.order[Size(last)] / columns;
    std::vector<float> w(Size(columns)), importance(Size(columns));
    for (Index r = 0; r < rows_; ++r) {
      for (Index p = last - columns + 1; p <= last; ++p) {
        const std::size_t i = Size(factor_.order[Size(p)] - group * columns);
        w[i] = static_cast<float>(targets(p - block_begin, r));
        importance[i] = importance_[Size(factor_.order[Size(p)])];
      }
      Fit(r, group) = FitGroup(w, importance, grid_, options_.clip);
    }
  }

  void RoundBlock(Index begin, Index end) {
    const Index n = w_.cols(), width = end - begin;
    // Targets of the block with the errors of all columns rounded before: W_K + E B_K.
    Matrix<double> fed(rows_, width);
    if (end < n) {
      Gemm(1.0, errors_.view().Cols(end, n - end), Transpose::kNo,
           factor_.feedback.view().Rows(end, n - end).Cols(begin, width), Transpose::kNo, 0.0,
           fed.view());
    }
    Matrix<double> targets(width, rows_);  // transposed: rows are the fast index below
    for (Index p = begin; p < end; ++p) {
      const Index column = factor_.order[Size(p)];
      for (Index r = 0; r < rows_; ++r) {
        targets(p - begin, r) = static_cast<double>(w_(first_ + r, column)) + fed(r, p - begin);
      }
    }

    const Index columns = result_.group_columns();
    std::vector<double> errors(Size(rows_));
    for (Index p = end - 1; p >= begin; --p) {
      if (fit_on_entry_ && (n - 1 - p) % columns == 0) FitOnEntry(targets, begin, p);
      RoundColumn(p, {targets.view().Row(p - begin).data(), Size(rows_)}, errors);
      const double* feedback = factor_.feedback.view().Row(p).data();
      for (Index q = begin; q < p; ++q) {
        double* target = targets.view().Row(q - begin).data();
        const double factor = feedback[q];
        for (Index r = 0; r < rows_; ++r) target[r] += factor * errors[Size(r)];
      }
      for (Index r = 0; r < rows_; ++r) errors_(r, p) = errors[Size(r)];
    }
  }

  void RoundColumn(Index position, std::span<const double> targets, std::span<double> errors) {
    const Index column = factor_.order[Size(position)];
    const Index group = column / result_.group_columns();
    const double pivot = factor_.pivots[Size(position)];
    for (Index r = 0; r < rows_; ++r) {
      const GroupFit& fit = Fit(r, group);
      const double target = targets[Size(r)];
      const std::uint8_t code = NearestCode(target, fit, grid_.levels());
      const double level = fit.Level(code);
      const double miss = target - level;
      codes_(r, column) = code;
      if (targets_seen_.size() > 0) targets_seen_(r, column) = static_cast<float>(target);
      errors[Size(r)] = static_cast<double>(w_(first_ + r, column)) - level;
      error += pivot * pivot * miss * miss;
      if (std::fabs(miss) > 0.5 * std::fabs(static_cast<double>(fit.scale)) * (1 + 1e-9)) ++clamped;
    }
  }

  View<const float, 2> w_;
  Index first_, rows_;
  const GptqFactor& factor_;
  const Grid& grid_;
  const QuantOptions& options_;
  QMatrix& result_;
  Matrix<double> errors_;          // [rows, n] by position: original weight less its level
  std::vector<GroupFit> fits_;     // [rows, groups]
  Matrix<std::uint8_t> codes_;     // [rows, n] by column
  std::vector<float> importance_;  // [n] by column: U_kk², what an error of this column costs
  bool fit_on_entry_ = false;
  Matrix<float> targets_seen_;  // [rows, n] by column in a first pass, else empty
};

/// Sum over rows of w H wᵀ = |w U|², the size that errors are measured against.
double Signal(View<const float, 2> w, const GptqFactor& factor, Index first, Index rows) {
  const Index n = w.cols();
  Matrix<double> permuted(rows, n);
  for (Index r = 0; r < rows; ++r) {
    for (Index p = 0; p < n; ++p) {
      permuted(r, p) = static_cast<double>(w(first + r, factor.order[Size(p)]));
    }
  }
  double total = 0;
  for (Index begin = 0; begin < n; begin += kBlock) {
    const Index width = std::min(kBlock, n - begin), below = n - begin;
    // |w U| by columns: U_kk (w_k + sum of w_j U_jk / U_kk); feedback is 0 on and above the
    // diagonal.
    Matrix<double> sums(rows, width);
    Gemm(1.0, permuted.view().Cols(begin, below), Transpose::kNo,
         factor.feedback.view().Rows(begin, below).Cols(begin, width), Transpose::kNo, 0.0,
         sums.view());
    for (Index r = 0; r < rows; ++r) {
      for (Index k = 0; k < width; ++k) {
        const double value = factor.pivots[Size(begin + k)] * (permuted(r, begin + k) + sums(r, k));
        total += value * value;
      }
    }
  }
  return total;
}

}  // namespace

GptqFactor FactorGram(View<const double, 2> gram, const Grid& grid, const QuantOptions& options) {
  const Index n = gram.rows();
  LIEQ_ASSERT(n == gram.cols() && n > 0);
  GptqFactor factor;
  std::vector<double> diagonal(Size(n));
  double trace = 0;
  for (Index j = 0; j < n; ++j) {
    diagonal[Size(j)] = gram(j, j);
    if (gram(j, j) <= 0) ++factor.dead_columns;
    trace += gram(j, j);
  }
  const Index alive = n - factor.dead_columns;
  const double mean = alive > 0 ? trace / static_cast<double>(alive) : 1.0;
  for (double& value : diagonal) {
    if (value <= 0) value = mean;
  }
  factor.order = RoundingOrder(diagonal, GroupColumns(grid, n), options.act_order);
  std::reverse(factor.order.begin(), factor.order.end());

  Matrix<double>& h = factor.feedback;
  h = Matrix<double>(n, n);
  factor.damping = options.damping;
  while (true) {
    for (Index p = 0; p < n; ++p) {
      const Index row = factor.order[Size(p)];
      for (Index q = 0; q < p; ++q) {
        const Index col = factor.order[Size(q)];
        h(p, q) = row > col ? gram(row, col) : gram(col, row);
      }
      h(p, p) = diagonal[Size(row)] + factor.damping * mean;
    }
    if (Cholesky(h.view())) break;
    if (factor.damping >= 1.0) {
      factor.order.clear();
      return factor;
    }
    factor.damping = std::max(factor.damping, 1e-6) * 10;
    ++factor.retries;
  }
  factor.diagonal = diagonal;
  for (double& value : factor.diagonal) value += factor.damping * mean;
  factor.pivots.resize(Size(n));
  for (Index p = 0; p < n; ++p) factor.pivots[Size(p)] = h(p, p);
  for (Index p = 0; p < n; ++p) {
    for (Index q = 0; q < p; ++q) h(p, q) /= factor.pivots[Size(q)];
    for (Index q = p; q < n; ++q) h(p, q) = 0;
  }
  return factor;
}

void DivideByGram(View<double, 2> b, const GptqFactor& factor) {
  const Index n = b.cols();
  Matrix<double> permuted(b.rows(), n);
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

void RoundWithFeedback(View<const double, 2> targets, const GptqFactor& factor,
                       std::span<const GroupFit> fits, int levels, Matrix<std::uint8_t>& codes) {
  const Index rows = targets.rows(), width = targets.cols();
  Matrix<double> fed(width, rows);  // by position
  for (Index p = 0; p < width; ++p) {
    for (Index r = 0; r < rows; ++r) fed(p, r) = targets(r, factor.order[Size(p)]);
  }
  std::vector<double> errors(Size(rows));
  for (Index p = width - 1; p >= 0; --p) {
    const Index column = factor.order[Size(p)];
    for (Index r = 0; r < rows; ++r) {
      const std::uint8_t code = NearestCode(fed(p, r), fits[Size(r)], levels);
      codes(column, r) = code;
      errors[Size(r)] = targets(r, column) - fits[Size(r)].Level(code);
    }
    const double* feedback = factor.feedback.view().Row(p).data();
    for (Index k = 0; k < p; ++k) {
      double* to = fed.view().Row(k).data();
      for (Index r = 0; r < rows; ++r) to[r] += feedback[k] * errors[Size(r)];
    }
  }
}

QMatrix QuantizeGptq(View<const float, 2> w, const GptqFactor& factor, const Grid& grid,
                     const QuantOptions& options, Context& context, LinearReport& report) {
  LIEQ_ASSERT(static_cast<Index>(factor.order.size()) == w.cols());
  QMatrix result(w.rows(), w.cols(), grid);
  struct Sums {
    double error = 0, signal = 0;
    Index clamped = 0;
  };
  const Index tasks = CeilDiv(w.rows(), kRowsPerTask);
  std::vector<Sums> sums(Size(tasks));
  context.pool.ParallelFor(tasks, [&](Index task, int) {
    const Index first = task * kRowsPerTask;
    const Index rows = std::min(kRowsPerTask, w.rows() - first);
    RowBlock block(w, first, rows, factor, grid, options, result);
    block.Run();
    sums[Size(task)] = {block.error, Signal(w, factor, first, rows), block.clamped};
  });
  Index clamped = 0;
  for (const Sums& part : sums) {
    report.error += part.error;
    report.signal += part.signal;
    clamped += part.clamped;
  }
  report.clamped = static_cast<double>(clamped) / static_cast<double>(w.size());
  report.damping = factor.damping;
  report.retries = factor.retries;
  report.dead_columns = factor.dead_columns;
  return result;
}

}  // namespace lieq
