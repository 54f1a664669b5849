#include "lieq/quantize/quantizers.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/quantize/awq.h"
#include "lieq/quantize/calibrated.h"

namespace lieq {
namespace {

QMatrix Rtn(View<const float, 2> w, const InputStatistics*, const Grid& grid,
            const QuantOptions& options, Context& context, LinearReport& report) {
  return QuantizeRtn(w, {}, grid, options.clip, context, report);
}

/// What other programs do with an importance matrix: the diagonal of the Gram matrix alone counts.
QMatrix Weighted(View<const float, 2> w, const InputStatistics* statistics, const Grid& grid,
                 const QuantOptions& options, Context& context, LinearReport& report) {
  LIEQ_ASSERT(statistics != nullptr && statistics->fit != nullptr);
  return QuantizeRtn(w, Importance(*statistics->fit), grid, options.clip, context, report);
}

constexpr std::array kRows{
    Quantizer{.name = "rtn",
              .description = "round to nearest; needs no calibration text",
              .needs_calibration = false,
              .transform = "",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .quantize = Rtn},
    Quantizer{.name = "weighted",
              .description = "round to nearest, errors weighted by the mean square of each input: "
                             "what an importance matrix does",
              .needs_calibration = true,
              .transform = "",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .quantize = Weighted},
    Quantizer{.name = "gptq",
              .description = "GPTQ: rounding with error feedback (arXiv:2210.17323)",
              .needs_calibration = true,
              .transform = "",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .quantize = QuantizeCalibrated},
    Quantizer{.name = "awq",
              .description = "activation-aware scales folded into the model, grids clipped by "
                             "output error, round to nearest (arXiv:2306.00978)",
              .needs_calibration = true,
              .transform = "awq",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .quantize = QuantizeAwq},
    Quantizer{.name = "best",
              .description = "GPTQ towards a target that makes up for drifted inputs, then "
                             "coordinate descent and grid refits",
              .needs_calibration = true,
              .transform = "",
              .drift = {0.5, 1.0},
              .residual = {0.5, 1.0},
              .rounds = 4,
              .quantize = QuantizeCalibrated},
};

}  // namespace

std::span<const Quantizer> Quantizers() noexcept {
  return kRows;
}

const Quantizer& FindQuantizer(std::string_view name) {
  return FindRow(kRows, name, "no such quantizer", "--method", " or ");
}

QuantOptions WithDefaults(QuantOptions options) {
  const Quantizer& row = FindQuantizer(options.method);
  options.drift = options.drift.value_or(row.drift);
  options.residual = options.residual.value_or(row.residual);
  options.rounds = options.rounds.value_or(row.rounds);
  options.search = options.search.value_or(true);
  return options;
}

}  // namespace lieq
