#include <algorithm>
#include <vector>

#include "lieq/quantize/gptq.h"
#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/row_fit.h"

namespace lieq {
namespace {

constexpr Index kRowsPerTask = 16;

}  // namespace

QMatrix QuantizeRtn(View<const float, 2> w, std::span<const float> importance, const Grid& grid,
                    Clip clip, Context& context, LinearReport& report) {
  QMatrix result(w.rows(), w.cols(), grid);
  const Index columns = result.group_columns();
  struct Sums {
    double error = 0, signal = 0;
  };
  std::vector<Sums> sums(Size(w.rows()));
  context.pool.ParallelFor(CeilDiv(w.rows(), kRowsPerTask), [&](Index task, int) {
    std::vector<std::uint8_t> codes(Size(w.cols()));
    const Index end = std::min(w.rows(), (task + 1) * kRowsPerTask);
    for (Index r = task * kRowsPerTask; r < end; ++r) {
      const std::span<const float> row = w.Row(r);
      FitRow(row, importance, clip, r, result);
      for (Index c = 0; c < w.cols(); ++c) {
        const GroupFit fit = StoredFit(result, r, c / columns);
        const auto value = static_cast<double>(row[Size(c)]);
        const std::uint8_t code = NearestCode(value, fit, grid.levels());
        codes[Size(c)] = code;
        const double error = value - fit.Level(code);
        const double h = importance.empty() ? 1.0 : static_cast<double>(importance[Size(c)]);
        sums[Size(r)].error += h * error * error;
        sums[Size(r)].signal += h * value * value;
      }
      result.SetRow(r, codes);
    }
  });
  for (const Sums& row : sums) {
    report.error += row.error;
    report.signal += row.signal;
  }
  return result;
}

}  // namespace lieq
