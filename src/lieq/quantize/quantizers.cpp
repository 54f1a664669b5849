#include "lieq/quantize/quantizers.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/quantize/awq.h"
#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"

namespace lieq {
namespace {

/// To nearest, each column's error weighted by its mean square where there is calibration: what
/// other programs do with an importance matrix.
class NearestSolver : public UnitSolver {
 public:
  NearestSolver(const UnitStatistics& statistics, Clip clip, Context& context)
      : importance_(Importance(statistics)), clip_(clip), context_(context) {}
  QMatrix Quantize(const LinearFloats& w, const Grid& grid, double, LinearReport& report) override {
    return QuantizeRtn(w.host(), importance_, grid, clip_, context_, report);
  }

 private:
  std::vector<float> importance_;
  const Clip clip_;
  Context& context_;
};

std::unique_ptr<UnitSolver> BeginNearest(CalibrationStatistics statistics,
                                         const QuantOptions& options, Context& context) {
  return std::make_unique<NearestSolver>(statistics.fit, options.clip, context);
}

constexpr std::array kRows{
    Quantizer{.name = "rtn",
              .description = "round to nearest; needs no calibration text",
              .needs_calibration = false,
              .transform = "",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .begin = BeginNearest,
              .calibrates_ends = false},
    Quantizer{.name = "weighted",
              .description = "round to nearest, errors weighted by the mean square of each input: "
                             "what an importance matrix does",
              .needs_calibration = true,
              .transform = "",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .begin = BeginNearest,
              .calibrates_ends = false},
    Quantizer{.name = "gptq",
              .description = "GPTQ: rounding with error feedback (arXiv:2210.17323)",
              .needs_calibration = true,
              .transform = "",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .begin = BeginCalibrated,
              .calibrates_ends = true},
    Quantizer{.name = "awq",
              .description = "activation-aware scales folded into the model, grids clipped by "
                             "output error, round to nearest (arXiv:2306.00978)",
              .needs_calibration = true,
              .transform = "awq",
              .drift = 0,
              .residual = 0,
              .rounds = 0,
              .begin = BeginAwq,
              .calibrates_ends = false},
    Quantizer{.name = "best",
              .description = "GPTQ towards a target that makes up for drifted inputs, then "
                             "coordinate descent and grid refits",
              .needs_calibration = true,
              .transform = "",
              .drift = {0.5, 1.0},
              .residual = {0.5, 1.0},
              .rounds = 4,
              .begin = BeginCalibrated,
              .calibrates_ends = true},
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
