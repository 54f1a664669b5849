#include <algorithm>
#include <vector>

#include "lieq/quantize/gptq.h"
#include "lieq/quantize/grid_fit.h"

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
      for (Index g = 0; g < result.groups(); ++g) {
        const std::size_t begin = Size(g * columns);
        const auto group = row.subspan(begin, Size(columns));
        const GroupFit fit = FitGroup(
            group, importance.empty() ? importance : importance.subspan(begin, Size(columns)), grid,
            clip);
        StoreFit(fit, r, g, result);
        for (std::size_t i = 0; i < group.size(); ++i) {
          const auto value = static_cast<double>(group[i]);
          const std::uint8_t code = NearestCode(value, fit, grid.levels());
          codes[begin + i] = code;
          const double error = value - fit.Level(code);
          sums[Size(r)].error += error * error;
          sums[Size(r)].signal += value * value;
        }
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
