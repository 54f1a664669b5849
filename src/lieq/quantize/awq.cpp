#include "lieq/quantize/awq.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/grid_fit.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 64;
constexpr int kClips = 29;  // shares 1, 0.975 .. 0.3 of the range
constexpr double kClipStep = 0.025;

/// The same number for every group of a matrix, so that rows are judged side by side.
std::vector<GroupFit> Candidates(std::span<const float> w, std::span<const float> importance,
                                 const Grid& grid) {
  std::vector<GroupFit> fits{FitGroup(w, {}, grid, Clip::kSearch),
                             FitGroup(w, importance, grid, Clip::kSearch)};
  const GroupFit widest = FitGroup(w, {}, grid, Clip::kNone);
  const auto middle = static_cast<float>(grid.levels() - 1) / 2;
  const auto [low, high] = std::ranges::minmax(w);
  const bool shared = grid.symmetric() || grid.offset == Offset::kHalf;
  const float zero = shared                            ? grid.shared_zero()
                     : grid.offset == Offset::kInteger ? static_cast<float>(widest.zero())
                                                       : 0.0F;
  // Of what is rounded to 8 bits once: a scale rounded before it is shrunk is another one.
  const float range = shared ? std::max(std::fabs(low), std::fabs(high)) / zero : widest.scale;
  for (int clip = 0; clip < kClips; ++clip) {
    const float scale = RoundScale(static_cast<float>(1 - kClipStep * clip) * range);
    if (grid.offset == Offset::kFloat) {  // the middle stays where it is
      const float center = widest.scale * middle + widest.minimum;
      fits.push_back({scale, RoundMinimum(center - scale * middle)});
      continue;
    }
    fits.push_back(GroupFit::AtZero(scale, zero));
    if (grid.symmetric()) fits.push_back(GroupFit::AtZero(-scale, zero));
  }
  return fits;
}

void ClipGroups(View<const float, 2> w, View<const float, 2> h, Index first, QMatrix& q) {
  const Index rows = std::min(kRowsPerTask, w.rows() - first), columns = q.group_columns();
  const int levels = q.grid().levels();
  Matrix<std::uint8_t> codes(rows, w.cols());
  Matrix<float> error(rows, columns), product(rows, columns);
  std::vector<std::vector<GroupFit>> fits(Size(rows));
  for (Index g = 0; g < q.groups(); ++g) {
    const Index begin = g * columns;
    std::vector<float> importance;
    for (Index j = begin; j < begin + columns; ++j) {
      importance.push_back(h(j, j));
    }
    const View<const float, 2> block = h.Rows(begin, columns).Cols(begin, columns);
    for (Index r = 0; r < rows; ++r) {
      fits[Size(r)] =
          Candidates(w.Row(first + r).subspan(Size(begin), Size(columns)), importance, q.grid());
    }
    std::vector<double> least(Size(rows), std::numeric_limits<double>::infinity());
    std::vector<std::size_t> best(Size(rows));
    for (std::size_t i = 0; i < fits.front().size(); ++i) {
      for (Index r = 0; r < rows; ++r) {
        const GroupFit& fit = fits[Size(r)][i];
        for (Index c = 0; c < columns; ++c) {
          const auto value = static_cast<double>(w(first + r, begin + c));
          error(r, c) = static_cast<float>(value - fit.Level(NearestCode(value, fit, levels)));
        }
      }
      Gemm(1.0f, error.view(), Transpose::kNo, block, Transpose::kNo, 0.0f, product.view());
      for (Index r = 0; r < rows; ++r) {
        const auto e = error.view().Row(r), p = product.view().Row(r);
        const double loss = std::inner_product(
            e.begin(), e.end(), p.begin(), 0.0, std::plus<>{},
            [](float x, float y) { return static_cast<double>(x) * static_cast<double>(y); });
        if (!(loss < least[Size(r)])) continue;
        least[Size(r)] = loss;
        best[Size(r)] = i;
      }
    }
    for (Index r = 0; r < rows; ++r) {
      const GroupFit& fit = fits[Size(r)][best[Size(r)]];
      StoreFit(fit, first + r, g, q);
      for (Index c = 0; c < columns; ++c) {
        codes(r, begin + c) =
            NearestCode(static_cast<double>(w(first + r, begin + c)), fit, levels);
      }
    }
  }
  for (Index r = 0; r < rows; ++r) q.SetRow(first + r, codes.view().Row(r));
}

class AwqSolver : public UnitSolver {
 public:
  AwqSolver(const UnitStatistics& statistics, Clip clip, Context& context)
      : inputs_(OutputStatisticsOf(statistics)), clip_(clip), context_(context) {}

  QMatrix Quantize(const LinearFloats& weights, const Grid& grid, double multiple,
                   LinearReport& report) override {
    const View<const float, 2> w = weights.host();
    const auto start = std::chrono::steady_clock::now();
    LinearReport plain;
    QMatrix q = QuantizeRtn(w, {}, grid, clip_, context_, plain);
    std::vector<double> errors = OutputErrors(w, q, inputs_, context_, multiple);
    if (clip_ == Clip::kSearch && !grid.k_quant) {  // those have a search of their own
      QMatrix clipped(w.rows(), w.cols(), grid);
      context_.pool.ParallelFor(CeilDiv(w.rows(), kRowsPerTask), [&](Index task, int) {
        ClipGroups(w, inputs_.gram.view(), task * kRowsPerTask, clipped);
      });
      const std::vector<double> after = OutputErrors(w, clipped, inputs_, context_, multiple);
      for (Index r = 0; r < w.rows(); ++r) {
        if (!(after[Size(r)] < errors[Size(r)])) continue;
        errors[Size(r)] = after[Size(r)];
        q.CopyRow(r, clipped);
      }
    }
    const QMatrix nothing(w.rows(), w.cols(), grid);
    const std::vector<double> signal = OutputErrors(w, nothing, inputs_, context_, multiple);
    report.error = std::accumulate(errors.begin(), errors.end(), 0.0);
    report.signal = std::accumulate(signal.begin(), signal.end(), 0.0);
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return q;
  }

 private:
  const OutputStatistics inputs_;
  const Clip clip_;
  Context& context_;
};

}  // namespace

std::unique_ptr<UnitSolver> BeginAwq(CalibrationStatistics statistics, const QuantOptions& options,
                                     Context& context) {
  return std::make_unique<AwqSolver>(statistics.fit, options.clip, context);
}

}  // namespace lieq
