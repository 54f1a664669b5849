#include "lieq/quantize/quantizers.h"

#include <array>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

QMatrix Rtn(View<const float, 2> w, const InputStatistics*, const Grid& grid,
            const QuantOptions& options, Context& context, LinearReport& report) {
  return QuantizeRtn(w, {}, grid, options.clip, context, report);
}

QMatrix Gptq(View<const float, 2> w, const InputStatistics* statistics, const Grid& grid,
             const QuantOptions& options, Context& context, LinearReport& report) {
  LIEQ_ASSERT(statistics != nullptr);
  if (!statistics->factor.order.empty()) {
    return QuantizeGptq(w, statistics->factor, grid, options, context, report);
  }
  report.fell_back = true;
  report.retries = statistics->factor.retries;
  report.dead_columns = statistics->factor.dead_columns;
  std::vector<float> importance(Size(w.cols()));
  for (Index j = 0; j < w.cols(); ++j) {
    importance[Size(j)] = static_cast<float>(statistics->gram(j, j));
  }
  return QuantizeRtn(w, importance, grid, options.clip, context, report);
}

constexpr std::array kRows{
    Quantizer{"rtn", "round to nearest; needs no calibration text", false, Rtn},
    Quantizer{"gptq", "GPTQ: rounding with error feedback (arXiv:2210.17323)", true, Gptq},
};

}  // namespace

std::span<const Quantizer> Quantizers() noexcept {
  return kRows;
}

const Quantizer& FindQuantizer(std::string_view name) {
  std::string names;
  for (const Quantizer& row : kRows) {
    if (row.name == name) return row;
    names += (names.empty() ? "" : " or ") + std::string(row.name);
  }
  throw Error({.what = "no such quantizer",
               .where = "--method",
               .expected = names,
               .found = std::string(name)});
}

}  // namespace lieq
