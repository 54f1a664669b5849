#include "lieq/cli/forecast.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/cli/assemble.h"
#include "lieq/cli/calibration_text.h"
#include "lieq/cli/optimal_plan.h"
#include "lieq/cli/planning.h"
#include "lieq/cli/quantize_settings.h"
#include "lieq/cli/terminal.h"
#include "lieq/container/engines.h"
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

Forecast ForecastPlan(const Arguments& arguments, const ModelFolder& model,
                      const std::string& model_hash, const EndGrids& ends, bool untied,
                      Session& session) {
  const auto bytes = [&](const Plan& plan) {
    const ModelGrids grids{.layers = plan.grids.layers, .ends = ends};
    return PlanOutput(model, grids, ScaleType(model.dtype), untied).bytes;
  };
  const bool made = arguments.uniform.has_value() || !arguments.plan.empty();
  if (!made && arguments.allocation == "optimal") {
    OptimalForecast optimal = ForecastOptimal(arguments, model);
    if (untied) {  // a head of its own, which no budget counts
      const ModelGrids tied{.layers = optimal.plan.grids.layers,
                            .ends = EndsOf(arguments, model.weights.config)};
      optimal.bytes += static_cast<std::int64_t>(
          bytes(optimal.plan) - PlanOutput(model, tied, ScaleType(model.dtype)).bytes);
    }
    return {.plan = std::move(optimal.plan),
            .candidates = std::move(optimal.candidates),
            .bytes = static_cast<std::uint64_t>(optimal.bytes),
            .exact = false};
  }
  if (!NeedsSpectra(arguments)) {
    Forecast forecast{.plan = MakePlan(arguments, model, model_hash, nullptr, {}, session),
                      .candidates = {}};
    forecast.bytes = bytes(forecast.plan);
    return forecast;
  }
  // In one file it does not matter which layers are wide. Where several are cut, it may: wide
  // layers that come first, and last, are the ends of what can be.
  const Index layers = model.weights.config.layers;
  Forecast forecast{.plan = StandInPlan(arguments, model, model_hash, ByName(layers, true)),
                    .candidates = {}};
  const std::uint64_t first = bytes(forecast.plan);
  const std::uint64_t last =
      bytes(StandInPlan(arguments, model, model_hash, ByName(layers, false)));
  forecast.bytes = std::max(first, last);
  forecast.exact = first == last;
  return forecast;
}

std::filesystem::path CodesFolder(const Arguments& arguments, bool in_run) {
  if (!arguments.codes.empty()) return arguments.codes;
  std::filesystem::path folder = arguments.output;
  return in_run ? (folder += ".run") / "codes" : folder += ".codes";
}

void AddPlanning(const Arguments& arguments, const EncodedText* text, const Forecast& forecast,
                 Work& work) {
  if (CalibratesOnItself(arguments) && arguments.dry_run) work.draws = true;
  const bool made = arguments.uniform.has_value() || !arguments.plan.empty();
  if (made || forecast.planned) return;
  if (arguments.allocation != "optimal") {
    if (!NeedsSpectra(arguments)) return;
    constexpr Index kMost = kSpectrumWindows * kDefaultContext;
    work.spectrum_tokens =
        text != nullptr ? std::min(kMost, static_cast<Index>(text->ids.size())) : kMost;
    work.spectra = FindRanking(arguments.ranking).needs.spectra();
    return;
  }
  work.measures_damage = arguments.sensitivities.empty();
  work.mixes = arguments.check + (arguments.refine > 0 ? arguments.refine + 1 : 0);
  if (!work.measures_damage && work.mixes == 0) return;  // it is read, and nothing is run
  work.candidates = forecast.candidates;
  work.damage_windows = arguments.damage_windows;
  work.damage_length = arguments.damage_context;
}

void AddCalibration(Session& session, Work& work) {
  const Arguments& arguments = work.arguments;
  if (!FindQuantizer(arguments.quant.method).needs_calibration) return;
  work.length = arguments.context.value_or(kDefaultContext);
  work.windows = arguments.samples.value_or(kDefaultSamples);
  if (CalibratesOnItself(arguments)) return;  // as many as are asked for
  const EncodedText text = CalibrationText(arguments, work.model, session);
  work.windows = std::min(work.windows, static_cast<Index>(text.ids.size()) / work.length);
}

void Announce(const Arguments& arguments, const Estimate& estimate, const Forecast* forecast,
              const EndGrids& ends, const ModelConfig& config, const Session& session) {
  // Which grids an optimal plan will choose is not known before it is made.
  std::vector<Fit> fits;
  if (forecast != nullptr && forecast->candidates.empty()) {
    fits = FitsOf({.layers = forecast->plan.grids.layers, .ends = ends}, config);
  }
  if (arguments.json) {
    Record record{{"schema", 1}, {"kind", "estimate"}};
    if (forecast != nullptr) {
      record["bytes"] = forecast->bytes;
      record["bytes_are"] = forecast->exact ? "exact" : "at most";
      record["code_bits_per_weight"] = CodeBits(forecast->plan, config);
      if (!fits.empty()) record["fits"] = ToJson(fits);
    }
    AddToRecord(estimate, arguments.output, record);
    session.Answer(record);
    return;
  }
  if (forecast != nullptr) {
    fmt::print("weights        {} bytes ({}), {}\n", forecast->bytes,
               FormatBytes(static_cast<double>(forecast->bytes)),
               forecast->exact ? "exactly" : "at most");
    if (forecast->candidates.empty()) {
      fmt::print("linears        {:.4f} code bits a weight{}\n", CodeBits(forecast->plan, config),
                 AskedText(forecast->plan, config));
      fmt::print("fits           {}\n", FitsText(fits));
    }
  }
  PrintEstimate(estimate, arguments.output);
}

}  // namespace lieq
