#include "lieq/quantize/ends.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {
namespace {

constexpr Index kRowStep = 64;  // of the solvers' tasks

/// Those of a linear whose Gram matrix is H.
CalibrationStatistics MetricOf(const EndStatistics& statistics) {
  const Index n = statistics.gram.rows();
  CalibrationStatistics metric;
  Matrix<double> gram(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j <= i; ++j) {
      gram(i, j) = statistics.gram(i, j) / static_cast<double>(statistics.tokens);
    }
    gram(i, i) += statistics.lookup;
  }
  metric.fit.gram = std::move(gram);
  return metric;
}

/// Rows first, first + 1, ... of a matrix of the same columns and grid.
void StoreRows(const QMatrix& block, Index first, QMatrix& matrix) {
  std::ranges::copy(block.words(),
                    matrix.words().subspan(Size(first * matrix.words_per_row())).begin());
  for (Index r = 0; r < block.rows(); ++r) {
    for (Index s = 0; s < block.supers(); ++s) matrix.SetSuper(first + r, s, block.Super(r, s));
    if (block.supers() > 0) continue;
    std::ranges::copy(block.scales().Row(r), matrix.scales().Row(first + r).begin());
    if (block.zeros().size() > 0) {
      std::ranges::copy(block.zeros().Row(r), matrix.zeros().Row(first + r).begin());
    }
    if (block.minima().size() > 0) {
      std::ranges::copy(block.minima().Row(r), matrix.minima().Row(first + r).begin());
    }
  }
}

/// What a block's report adds to the matrix's.
class ReportSum {
 public:
  void Add(const LinearReport& block, View<const float, 2> w) {
    double squares = 0;
    for (Index r = 0; r < w.rows(); ++r) {
      for (const float value : w.Row(r)) {
        squares += static_cast<double>(value) * static_cast<double>(value);
      }
    }
    const auto rows = static_cast<double>(w.rows());
    sum_.error += block.error;
    sum_.signal += block.signal;
    sum_.damping = std::max(sum_.damping, block.damping);
    sum_.retries = std::max(sum_.retries, block.retries);
    sum_.fell_back = sum_.fell_back || block.fell_back;
    sum_.dead_columns = block.dead_columns;
    sum_.clamped += rows * block.clamped;
    sum_.coarse_scales += squares * block.coarse_scales;
    sum_.seconds += block.seconds;
    sum_.start_error += block.start_error;
    sum_.moves += block.moves;
    sum_.held_out_start += block.held_out_start;
    sum_.held_out += block.held_out;
    sum_.kept_rows += rows * block.kept_rows;
    rows_ += rows;
    squares_ += squares;
  }
  [[nodiscard]] LinearReport Whole() const {
    LinearReport whole = sum_;
    whole.clamped /= rows_;
    whole.kept_rows /= rows_;
    if (squares_ > 0) whole.coarse_scales /= squares_;
    return whole;
  }

 private:
  LinearReport sum_;
  double rows_ = 0, squares_ = 0;
};

}  // namespace

QMatrix QuantizeEnd(const AnyMatrix& matrix, const Grid& grid, const EndStatistics* statistics,
                    const QuantOptions& options, Context& context, LinearReport& report) {
  QuantOptions used = options;
  used.drift = used.residual = Strength(0);  // sums are of the float model
  used = WithDefaults(used);
  std::unique_ptr<UnitSolver> solver;
  if (statistics != nullptr) solver = BeginCalibrated(MetricOf(*statistics), used, context);
  const bool wide = HasWideScales(matrix, options);
  const Index rows = Rows(matrix), cols = Cols(matrix);
  const Index step = std::max(kRowStep, kEndBlockFloats / cols / kRowStep * kRowStep);
  QMatrix result(rows, cols, grid);
  ReportSum sum;
  for (Index first = 0; first < rows; first += step) {
    context.ThrowIfStopped();
    const Index count = std::min(step, rows - first);
    Matrix<float> w(count, cols);
    WidenRows(matrix, first, w.view());
    LinearReport part;
    const QMatrix q =
        QuantizeInRange(w.view(), grid, wide, part, [&](const LinearFloats& some, double multiple) {
          return solver ? solver->Quantize(some, grid, multiple, part)
                        : QuantizeRtn(some.host(), {}, grid, used.clip, context, part);
        });
    sum.Add(part, w.view());
    StoreRows(q, first, result);
  }
  report = sum.Whole();
  return result;
}

}  // namespace lieq
