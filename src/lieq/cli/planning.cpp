#include "lieq/cli/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/base/statistics.h"
#include "lieq/cli/assemble.h"
#include "lieq/cli/optimal_plan.h"
#include "lieq/cli/plan_source.h"
#include "lieq/cli/quantize_settings.h"
#include "lieq/cli/result_record.h"
#include "lieq/cli/size_budget.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/plan/allocate.h"
#include "lieq/plan/plan_json.h"
#include "lieq/plan/sensitivities_json.h"

namespace lieq {

bool NeedsSpectra(const Arguments& arguments) {
  if (arguments.uniform || !arguments.plan.empty() || !arguments.diagnostics.empty()) return false;
  if (arguments.allocation == "optimal") return false;
  return FindRanking(arguments.ranking).needs.calibration();
}

Diagnosis MeasureForRanking(const ModelFolder& model, const std::string& model_hash,
                            const EncodedText& text, std::uint64_t seed, Session& session,
                            bool spectra) {
  const Windows windows = SpectrumWindows(text);
  DiagnoseOptions options;
  options.seed = seed;
  options.spectra = spectra;
  Diagnosis diagnosis;
  MeasureSpectra(model.weights, session.device(), windows.view(), options, session.context(),
                 diagnosis);
  diagnosis.model_hash = model_hash;
  diagnosis.calibration_hash = text.hash;
  diagnosis.calibration_files = text.names;
  diagnosis.calibration_notes = text.notes;
  return diagnosis;
}

void CheckBudgetOptions(const Arguments& a) {
  std::vector<std::string> said;
  if (a.bits) said.emplace_back("--bits");
  if (a.bpw) said.emplace_back("--bpw");
  if (a.size) said.emplace_back("--size");
  if (a.high_layers) said.emplace_back("--high-layers");
  if (a.uniform) said.emplace_back("--uniform");
  if (!a.plan.empty()) said.emplace_back("--plan");
  if (said.size() > 1) {
    throw UsageError(fmt::format("{} and {} contradict each other: give one", said[0], said[1]));
  }
  if (a.allocation == "optimal" && !a.bpw && !a.size) {
    throw UsageError("--allocation optimal needs --bpw B or --size BYTES");
  }
  if (a.allocation == "uniform" && !a.uniform) {
    throw UsageError("--allocation uniform needs --uniform N");
  }
  if (a.uniform && !a.allocation.empty() && a.allocation != "uniform") {
    throw UsageError("--uniform and --allocation " + a.allocation + " contradict each other");
  }
  if (a.k_quant && !a.candidates.empty()) {
    throw UsageError("--candidates names grids of its own: give it, or --grid");
  }
  if (a.assemble && a.codes.empty()) throw UsageError("--assemble needs --codes FOLDER");
}

void AddDamage(const Arguments& arguments, const std::string& model_hash, Diagnosis& diagnosis,
               Session& session) {
  if (arguments.sensitivities.empty()) {
    throw UsageError("--ranking " + arguments.ranking +
                     " needs --sensitivities FILE, made by `lieq sensitivity --mode " +
                     arguments.ranking + "`");
  }
  const std::string file = arguments.sensitivities.string();
  const Sensitivities s = SensitivitiesFromJson(ReadJson(arguments.sensitivities), file);
  if (s.layers() != static_cast<Index>(diagnosis.layers.size()) ||
      Name(s.mode) != arguments.ranking) {
    throw Error(
        {.what = "sensitivities that the ranking cannot use",
         .where = file,
         .expected = fmt::format("{} layers, mode {}", diagnosis.layers.size(), arguments.ranking),
         .found = fmt::format("{} layers, mode {}", s.layers(), Name(s.mode))});
  }
  if (!s.model_hash.empty() && s.model_hash != model_hash) {
    session.log().Warning(file + " was made for another model (or other weights)");
  }
  const std::vector<double> damage = LayerDamage(s, arguments.group_size);
  for (std::size_t layer = 0; layer < damage.size(); ++layer) {
    LayerDiagnosis& row = diagnosis.layers[layer];
    (s.mode == DamageMode::kSolo ? row.solo_damage : row.context_damage) = damage[layer];
  }
}

Budget AverageOf(const Arguments& arguments) {
  return {.bits = arguments.bits.value_or(kDefaultBits),
          .low = GridOfBits(arguments, arguments.low),
          .high = GridOfBits(arguments, arguments.high),
          .rounding = arguments.rounding.value_or(Rounding::kDown)};
}

namespace {

/// All-in bits or bytes of a plan, whichever is limited.
std::int64_t PlanCost(const Arguments& arguments, const ModelFolder& model, const Plan& plan) {
  const ModelConfig& config = model.weights.config;
  if (arguments.size) {
    const ModelGrids grids{.layers = plan.grids.layers, .ends = EndsOf(arguments, config)};
    return static_cast<std::int64_t>(PlanOutput(model, grids, ScaleType(model.dtype)).bytes);
  }
  std::int64_t bits = 0;
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (const Unit unit : kAllUnits) {
      bits += UnitStoredBits(config, unit, plan.grids.At(layer, unit));
    }
  }
  return bits;
}

Diagnosis DiagnosisFor(const Arguments& arguments, const ModelFolder& model,
                       const std::string& model_hash, const EncodedText* text, Session& session) {
  Diagnosis diagnosis;
  if (!arguments.diagnostics.empty()) {
    diagnosis = DiagnosisFromJson(ReadJson(arguments.diagnostics), arguments.diagnostics.string());
  } else if (NeedsSpectra(arguments)) {
    diagnosis = MeasureForRanking(model, model_hash, *text, arguments.seed, session,
                                  FindRanking(arguments.ranking).needs.spectra());
  } else {
    diagnosis.layers.resize(Size(model.weights.config.layers));
    diagnosis.seed = arguments.seed;
  }
  const Needs& needs = FindRanking(arguments.ranking).needs;
  if (needs.solo_damage || needs.context_damage) {
    AddDamage(arguments, model_hash, diagnosis, session);
  }
  return diagnosis;
}

/// One line: how far a ranking that measures no damage can be trusted on this model, where
/// something measured is at hand, and what to run where it is not.
std::string Advice(const Arguments& arguments, const std::vector<double>& scores,
                   const Diagnosis& diagnosis) {
  constexpr double kTrusted = 0.7;  // method.md, section 5
  const Needs& needs = FindRanking(arguments.ranking).needs;
  if (needs.solo_damage || needs.context_damage) return "";
  std::vector<double> truth;
  std::string measured;
  if (!arguments.sensitivities.empty()) {
    truth = LayerDamage(
        SensitivitiesFromJson(ReadJson(arguments.sensitivities), arguments.sensitivities.string()),
        arguments.group_size);
    measured = "damage of " + arguments.sensitivities.filename().string();
  } else if (!needs.perplexity_drop &&
             std::ranges::all_of(diagnosis.layers, [](const LayerDiagnosis& row) {
               return row.nll_drop.has_value();
             })) {
    for (const LayerDiagnosis& row : diagnosis.layers) truth.push_back(*row.nll_drop);
    measured = "perplexity drop of " + arguments.diagnostics.filename().string();
  }
  if (truth.size() != scores.size()) {
    return fmt::format(
        "how far '{}' can be trusted on this model was not measured: `lieq sensitivity` measures "
        "the damage of each layer, --allocation optimal spends the bits by it",
        arguments.ranking);
  }
  const std::optional<double> rho = SpearmanRho(scores, truth);
  if (!rho) return "";
  return fmt::format("'{}' agrees with the measured {} with a rank correlation of {:.2f}: {}",
                     arguments.ranking, measured, *rho,
                     *rho < kTrusted ? "do not trust it on this model; --allocation optimal spends "
                                       "the bits by measured damage"
                                     : "it may be trusted here");
}

/// The plan that --bits, --bpw, --size or --high-layers make of scores.
Plan PlanOfScores(const Arguments& arguments, const ModelFolder& model, std::vector<double> scores,
                  const std::string& ranking) {
  const ModelConfig& config = model.weights.config;
  const Budget budget_of_widths = AverageOf(arguments);
  const Grid &low = budget_of_widths.low, &high = budget_of_widths.high;
  if (!arguments.bpw && !arguments.size && !arguments.high_layers) {
    return Allocate(std::move(scores), ranking, AverageOf(arguments), config);
  }
  if (static_cast<Index>(scores.size()) != config.layers) {
    throw Error({.what = "scores of another model",
                 .where = arguments.diagnostics.string(),
                 .expected = std::to_string(config.layers) + " layers",
                 .found = std::to_string(scores.size())});
  }
  std::vector<Index> layers;
  if (arguments.high_layers) {
    layers = HighestLayers(scores, *arguments.high_layers);
  } else {
    const auto weights = static_cast<double>(config.layers * config.LayerWeightCount());
    if (arguments.size) {
      CheckSizeHolds(arguments, model, RaiseLayers(layers, low, high, config).grids.layers);
    }
    const std::int64_t budget =
        arguments.size ? *arguments.size
                       : static_cast<std::int64_t>(std::floor(*arguments.bpw * weights + 1e-6));
    layers = LayersWithin(
        scores, low, high, config,
        [&](const Plan& plan) { return PlanCost(arguments, model, plan); }, budget,
        arguments.size ? "--size, in bytes" : "--bpw, in bits of all weights together");
  }
  Plan plan = RaiseLayers(layers, low, high, config);
  plan.scores = std::move(scores);
  plan.ranking = ranking;
  plan.requested = {
      .bpw = arguments.bpw, .size = arguments.size, .high_layers = arguments.high_layers};
  plan.requested_bits = CodeBits(plan, config);
  return plan;
}

Plan TopPlan(const Arguments& arguments, const ModelFolder& model, const std::string& model_hash,
             const EncodedText* text, Session& session) {
  const ModelConfig& config = model.weights.config;
  const Diagnosis diagnosis = DiagnosisFor(arguments, model, model_hash, text, session);
  if (!diagnosis.model_hash.empty() && diagnosis.model_hash != model_hash) {
    session.log().Warning(arguments.diagnostics.string() +
                          " was made for another model (or other weights)");
  }
  const Ranking& ranking = FindRanking(arguments.ranking);
  if (static_cast<Index>(diagnosis.layers.size()) == config.layers) {
    const std::string advice =
        Advice(arguments, Score(ranking, diagnosis, ReadRankingOptions(arguments)), diagnosis);
    if (!advice.empty()) session.log().Info(advice);
  }
  const RankingOptions options = ReadRankingOptions(arguments);
  Plan plan =
      PlanOfScores(arguments, model, Score(ranking, diagnosis, options), std::string(ranking.name));
  if (ranking.name == "combined") {
    plan.ranking_weights.assign(options.weights.begin(), options.weights.end());
  }
  plan.calibration_hash = diagnosis.calibration_hash;
  return plan;
}

/// Throws Error where a plan that says its grids has others than --grid wants.
void RequireKQuants(const Plan& plan) {
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (const Unit unit : kAllUnits) {
      const Grid& grid = plan.grids.At(layer, unit);
      if (grid.k_quant) continue;
      throw Error({.what = "the plan has a grid that is no K-quant",
                   .where = fmt::format("--grid: layer {}", layer),
                   .expected = "2, 3 or 4 bits, without a group size, or a K-quant",
                   .found = Label(grid)});
    }
  }
}

/// Gives a plan what the arguments say beside its layers, and checks it against --for.
Plan Finished(const Arguments& arguments, const ModelConfig& config, const std::string& model_hash,
              Plan plan) {
  plan.model_hash = model_hash;
  plan.grids.ends = EndsOf(arguments, config);
  if (arguments.target != nullptr) {
    CheckTarget(*arguments.target, plan.grids.layers, config, "--for");
  }
  return plan;
}

}  // namespace

Plan MakePlan(const Arguments& arguments, const ModelFolder& model, const std::string& model_hash,
              const EncodedText* text, const std::filesystem::path& codes, Session& session) {
  const ModelConfig& config = model.weights.config;
  if (!arguments.plan.empty()) {
    Plan plan = ReadPlan(arguments.plan, arguments, config);
    if (!plan.model_hash.empty() && plan.model_hash != model_hash) {
      session.log().Warning(arguments.plan.string() +
                            " was made for another model (or other weights)");
    }
    if (arguments.k_quant) RequireKQuants(plan);
    WarnOfUnusedGrids(arguments, plan, session);
    return Finished(arguments, config, model_hash, std::move(plan));  // from here on for this one
  }
  Plan plan = arguments.uniform ? UniformPlan(GridOfBits(arguments, *arguments.uniform), config)
              : arguments.allocation == "optimal"
                  ? MakeOptimalPlan(arguments, codes, session)
                  : TopPlan(arguments, model, model_hash, text, session);
  return Finished(arguments, config, model_hash, std::move(plan));
}

Plan StandInPlan(const Arguments& arguments, const ModelFolder& model,
                 const std::string& model_hash, std::vector<double> scores) {
  return Finished(arguments, model.weights.config, model_hash,
                  PlanOfScores(arguments, model, std::move(scores), "stand-in"));
}

Record PlanRecord(const Plan& plan, const ModelConfig& config, std::uint64_t bytes,
                  std::uint64_t source) {
  Record record = ToJson(plan, config);
  // In front of the layers, which are long.
  Record layers = std::move(record["layers"]);
  record.erase("layers");
  record["bits_per_weight"] = StoredBits(config, plan.grids);
  record["bytes"] = bytes;
  record["source_bytes"] = source;
  record["compression_ratio"] = {
      {"codes_only", CodeCompression(plan, config)},
      {"true_bytes", static_cast<double>(source) / static_cast<double>(bytes)}};
  record["layers"] = std::move(layers);
  return record;
}

RankingOptions ReadRankingOptions(const Arguments& arguments) {
  RankingOptions options{.weights = arguments.ranking_weights};
  if (!arguments.scores.empty()) {
    options.file_scores = ScoresFromJson(ReadJson(arguments.scores), arguments.scores.string());
  }
  return options;
}

std::string AskedText(const Plan& plan, const ModelConfig& config) {
  const std::optional<double>& bits = plan.requested.bits;
  if (!bits || plan.ranking == "edited" ||
      fmt::format("{:.4f}", *bits) == fmt::format("{:.4f}", CodeBits(plan, config))) {
    return "";
  }
  return fmt::format(" (asked for {}{:g})",
                     plan.requested.rounding == Rounding::kDown ? "at most " : "", *bits);
}

std::string LayersAt(const Plan& plan, int bits) {
  std::string text;
  const Index layers = plan.layers();
  const auto at = [&](Index layer) { return std::ranges::max(WidthsOf(plan, layer)) == bits; };
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

std::vector<GridRun> GridRuns(const Plan& plan) {
  std::vector<GridRun> runs;
  const LayerGrids& grids = plan.grids.layers;
  const std::size_t layers = grids.size();
  for (std::size_t first = 0; first < layers;) {
    std::size_t last = first;
    while (last + 1 < layers && grids[last + 1] == grids[first]) ++last;
    GridRun run{.layers =
                    first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last)};
    for (const Unit unit : kAllUnits) {
      run.grids[static_cast<std::size_t>(unit)] =
          Label(plan.grids.At(static_cast<Index>(first), unit));
    }
    runs.push_back(std::move(run));
    first = last + 1;
  }
  return runs;
}

}  // namespace lieq
