#include "lieq/pipeline/forecast.h"

#include <algorithm>

#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/optimal_plan.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

/// Scores that fall, or rise, in the order in which layers lie in a file: by name, 10 before 2.
std::vector<double> ByName(Index layers, bool falling) {
  std::vector<std::string> names;
  for (Index layer = 0; layer < layers; ++layer) names.push_back(std::to_string(layer) + ".");
  std::vector<double> scores;
  for (const std::string& name : names) {
    const auto before = static_cast<double>(
        std::ranges::count_if(names, [&](const std::string& other) { return other < name; }));
    scores.push_back(falling ? -before : before);
  }
  return scores;
}

}  // namespace

Forecast ForecastPlan(const QuantizeRequest& request, Source& source,
                      const std::optional<EndGrids>& ends, bool untied, Session& session) {
  const ModelFolder& model = source.model();
  const auto bytes = [&](Plan& plan) {
    if (ends) plan.grids.ends = *ends;
    return PlanOutput(model, plan.grids, ScaleType(model.dtype), untied).bytes;
  };
  const ContainerTarget* target = request.grids.target;
  const auto add_elsewhere = [&](Forecast& forecast) {
    forecast.elsewhere = BytesFor(target, model, forecast.plan.grids, untied);
  };
  const bool made = request.budget.uniform.has_value() || !request.plan.empty();
  if (!made && request.budget.allocation == "optimal") {
    OptimalForecast optimal = ForecastOptimal(request, model);
    if (ends) optimal.plan.grids.ends = *ends;
    Forecast forecast{.plan = std::move(optimal.plan),
                      .candidates = std::move(optimal.candidates),
                      .bytes = static_cast<std::uint64_t>(optimal.bytes),
                      .exact = false};
    if (!IsElsewhere(target)) return forecast;
    forecast.elsewhere = {.container = target->name, .bytes = forecast.bytes, .exact = false};
    forecast.bytes = bytes(forecast.plan);
    return forecast;
  }
  if (!NeedsSpectra(request)) {
    Forecast forecast{.plan = MakePlan(request, source, {}, session), .candidates = {}};
    forecast.bytes = bytes(forecast.plan);
    add_elsewhere(forecast);
    return forecast;
  }
  // In one file it does not matter which layers are wide. Where several are cut, it may: wide
  // layers that come first, and last, are the ends of what can be.
  const Index layers = model.weights.config.layers;
  Forecast forecast{.plan = StandInPlan(request, source, ByName(layers, true)), .candidates = {}};
  Plan other = StandInPlan(request, source, ByName(layers, false));
  const std::uint64_t first = bytes(forecast.plan), last = bytes(other);
  forecast.bytes = std::max(first, last);
  forecast.exact = first == last;
  add_elsewhere(forecast);
  if (forecast.elsewhere && !forecast.exact) {
    const auto of_other = BytesFor(target, model, other.grids, untied);
    forecast.elsewhere->exact = of_other->bytes == forecast.elsewhere->bytes;
    forecast.elsewhere->bytes = std::max(of_other->bytes, forecast.elsewhere->bytes);
  }
  return forecast;
}

std::filesystem::path CodesFolder(const QuantizeRequest& request, bool in_run) {
  if (!request.damage.codes.empty()) return request.damage.codes;
  std::filesystem::path folder = request.output;
  return in_run ? (folder += ".run") / "codes" : folder += ".codes";
}

void AddPlanning(const QuantizeRequest& request, const Source& source, const Forecast& forecast,
                 Work& work) {
  if (CalibratesOnItself(request) && request.dry_run) work.draws = true;
  const bool made = request.budget.uniform.has_value() || !request.plan.empty();
  if (made || forecast.planned) return;
  if (request.budget.allocation != "optimal") {
    if (!NeedsSpectra(request)) return;
    constexpr Index kMost = kSpectrumWindows * kDefaultContext;
    const EncodedText* text = source.calibration_read();
    work.spectrum_tokens =
        text != nullptr ? std::min(kMost, static_cast<Index>(text->ids.size())) : kMost;
    work.spectra = FindRanking(request.ranking.name).needs.spectra();
    return;
  }
  work.measures_damage = request.damage.sensitivities.empty();
  work.mixes = request.damage.check + (request.damage.refine > 0 ? request.damage.refine + 1 : 0);
  if (!work.measures_damage && work.mixes == 0) return;  // it is read, and nothing is run
  work.candidates = forecast.candidates.units;
  work.ends = forecast.candidates.ends;
  work.damage_windows = request.damage.windows;
  work.damage_length = request.damage.context;
}

void AddCalibration(const QuantizeRequest& request, Source& source, Work& work) {
  if (!FindQuantizer(request.quant.method).needs_calibration) return;
  work.length = request.calibration.context.value_or(kDefaultContext);
  work.windows = request.calibration.samples.value_or(kDefaultSamples);
  if (CalibratesOnItself(request)) return;  // as many as are asked for
  work.windows =
      std::min(work.windows, static_cast<Index>(source.calibration().ids.size()) / work.length);
}

}  // namespace lieq
