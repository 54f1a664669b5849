#include "lieq/cli/planning.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/plan/allocate.h"
#include "lieq/plan/plan_json.h"

namespace lieq {

bool NeedsSpectra(const Arguments& arguments) {
  if (arguments.uniform || !arguments.plan.empty() || !arguments.diagnostics.empty()) return false;
  return FindRanking(arguments.ranking).needs.calibration();
}

Diagnosis MeasureForRanking(const ModelFolder& model, const std::string& model_hash,
                            const EncodedText& text, std::uint64_t seed, Session& session,
                            bool spectra) {
  const Windows windows = SpectrumWindows(text, "the calibration text");
  DiagnoseOptions options;
  options.seed = seed;
  options.spectra = spectra;
  Diagnosis diagnosis;
  MeasureSpectra(model.weights, session.device(), windows.view(), options, session.context(),
                 diagnosis);
  diagnosis.model_hash = model_hash;
  diagnosis.calibration_hash = text.hash;
  diagnosis.calibration_files = text.names;
  return diagnosis;
}

Plan MakePlan(const Arguments& arguments, const ModelFolder& model, const std::string& model_hash,
              const EncodedText* text, Session& session) {
  const ModelConfig& config = model.weights.config;
  const auto check_hash = [&](const std::string& hash, const std::filesystem::path& file) {
    if (hash.empty() || hash == model_hash) return;
    session.log().Warning(file.string() + " was made for another model (or other weights)");
  };
  if (!arguments.plan.empty()) {
    Plan plan = PlanFromJson(ReadJson(arguments.plan), config, arguments.plan.string());
    check_hash(plan.model_hash, arguments.plan);
    return plan;
  }
  Plan plan;
  if (arguments.uniform) {
    plan = UniformPlan(*arguments.uniform, config);
  } else {
    Diagnosis diagnosis;
    if (!arguments.diagnostics.empty()) {
      diagnosis =
          DiagnosisFromJson(ReadJson(arguments.diagnostics), arguments.diagnostics.string());
      check_hash(diagnosis.model_hash, arguments.diagnostics);
    } else if (NeedsSpectra(arguments)) {
      diagnosis = MeasureForRanking(model, model_hash, *text, arguments.seed, session,
                                    FindRanking(arguments.ranking).needs.spectra());
    } else {
      diagnosis.layers.resize(Size(config.layers));
      diagnosis.seed = arguments.seed;
    }
    plan = Allocate(FindRanking(arguments.ranking), diagnosis,
                    {.bits = arguments.bits.value_or(kDefaultBits),
                     .low = arguments.low,
                     .high = arguments.high},
                    config, ReadRankingOptions(arguments));
  }
  plan.model_hash = model_hash;
  return plan;
}

RankingOptions ReadRankingOptions(const Arguments& arguments) {
  RankingOptions options{.weights = arguments.ranking_weights};
  if (!arguments.scores.empty()) {
    options.file_scores = ScoresFromJson(ReadJson(arguments.scores), arguments.scores.string());
  }
  return options;
}

std::string LayersAt(const Plan& plan, int bits) {
  std::string text;
  const auto layers = static_cast<Index>(plan.bits.size());
  const auto at = [&](Index layer) { return std::ranges::max(plan.bits[Size(layer)]) == bits; };
  for (Index first = 0; first < layers; ++first) {
    if (!at(first)) continue;
    Index last = first;
    while (last + 1 < layers && at(last + 1)) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", first);
    if (last > first) text += fmt::format("{}{}", last == first + 1 ? ", " : "-", last);
    first = last;
  }
  return text;
}

}  // namespace lieq
