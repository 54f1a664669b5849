#include "lieq/pipeline/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/base/statistics.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/pipeline/module_rules.h"
#include "lieq/pipeline/optimal_plan.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/pipeline/size_budget.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/plan/allocate.h"
#include "lieq/plan/plan_json.h"
#include "lieq/plan/sensitivities_json.h"

namespace lieq {

bool NeedsSpectra(const QuantizeRequest& request) {
  if (request.budget.uniform || !request.plan.empty() || !request.ranking.diagnostics.empty())
    return false;
  if (request.budget.allocation == "optimal") return false;
  return FindRanking(request.ranking.name).needs.calibration();
}

Diagnosis MeasureForRanking(const ModelFolder& model, const std::string& model_hash,
                            const EncodedText& text, std::uint64_t seed, Session& session,
                            bool spectra, std::optional<std::vector<Index>> layers) {
  const Windows windows = SpectrumWindows(text);
  DiagnoseOptions options;
  options.seed = seed;
  options.spectra = spectra;
  options.layers = std::move(layers);
  Diagnosis diagnosis;
  MeasureSpectra(model.weights, session.device(), windows.view(), options, session.context(),
                 diagnosis);
  diagnosis.model_hash = model_hash;
  diagnosis.calibration_hash = text.hash;
  diagnosis.calibration_files = text.names;
  diagnosis.calibration_notes = text.notes;
  return diagnosis;
}

void TakeDefaultBudget(QuantizeRequest& a) {
  BudgetRequest& budget = a.budget;
  const RankingRequest plain;
  const bool ranks = a.ranking.name != plain.name || a.ranking.weights != plain.weights ||
                     !a.ranking.scores.empty() || !a.ranking.diagnostics.empty();
  const BudgetRequest unsaid;
  const bool mixes = budget.rounding || budget.low != unsaid.low || budget.high != unsaid.high;
  const bool said = budget.bits || budget.bpw || budget.size || budget.high_layers ||
                    budget.uniform || !a.plan.empty() || !budget.allocation.empty();
  if (!said) {
    const bool ends = a.grids.embedding_bits || a.grids.head_bits;
    if (ranks || mixes || ends || Unties(TransformsOf(a.transforms, a.quant.method))) {
      budget.bits = kDefaultBits;
    } else {
      budget.bpw = kDefaultBpw;
    }
  }
  if ((budget.bpw || budget.size) && budget.allocation.empty() && !ranks) {
    budget.allocation = "optimal";
  }
}

void CheckBudgetOptions(const QuantizeRequest& a) {
  std::vector<std::string> said;
  if (a.budget.bits) said.emplace_back("--bits");
  if (a.budget.bpw) said.emplace_back("--bpw");
  if (a.budget.size) said.emplace_back("--size");
  if (a.budget.high_layers) said.emplace_back("--high-layers");
  if (a.budget.uniform) said.emplace_back("--uniform");
  if (!a.plan.empty()) said.emplace_back("--plan");
  if (said.size() > 1) {
    throw UsageError(fmt::format("{} and {} contradict each other: give one", said[0], said[1]));
  }
  if (a.budget.allocation == "optimal" && !a.budget.bpw && !a.budget.size) {
    throw UsageError("--allocation optimal needs --bpw B or --size BYTES");
  }
  if (a.budget.allocation == "uniform" && !a.budget.uniform) {
    throw UsageError("--allocation uniform needs --uniform N");
  }
  if (a.budget.uniform && !a.budget.allocation.empty() && a.budget.allocation != "uniform") {
    throw UsageError("--uniform and --allocation " + a.budget.allocation +
                     " contradict each other");
  }
  if (a.grids.k_quant && !a.grids.candidates.empty()) {
    throw UsageError("--candidates names grids of its own: give it, or --grid");
  }
  if (a.assemble && a.damage.codes.empty()) throw UsageError("--assemble needs --codes FOLDER");
}

void AddDamage(const QuantizeRequest& request, const std::string& model_hash, Diagnosis& diagnosis,
               Session& session) {
  if (request.damage.sensitivities.empty()) {
    throw UsageError("--ranking " + request.ranking.name +
                     " needs --sensitivities FILE, made by `lieq sensitivity --mode " +
                     request.ranking.name + "`");
  }
  const std::string file = request.damage.sensitivities.string();
  const Sensitivities s = SensitivitiesFromJson(ReadJson(request.damage.sensitivities), file);
  if (s.layers() != static_cast<Index>(diagnosis.layers.size()) ||
      Name(s.mode) != request.ranking.name) {
    throw Error({.what = "sensitivities that the ranking cannot use",
                 .where = file,
                 .expected = fmt::format("{} layers, mode {}", diagnosis.layers.size(),
                                         request.ranking.name),
                 .found = fmt::format("{} layers, mode {}", s.layers(), Name(s.mode))});
  }
  if (!s.model_hash.empty() && s.model_hash != model_hash) {
    session.log().Warning(file + " was made for another model (or other weights)");
  }
  const std::vector<double> damage = LayerDamage(s, request.grids.group_size);
  for (std::size_t layer = 0; layer < damage.size(); ++layer) {
    LayerDiagnosis& row = diagnosis.layers[layer];
    (s.mode == DamageMode::kSolo ? row.solo_damage : row.context_damage) = damage[layer];
  }
}

Budget AverageOf(const QuantizeRequest& request) {
  return {.bits = request.budget.bits.value_or(kDefaultBits),
          .low = GridOfBits(request, request.budget.low),
          .high = GridOfBits(request, request.budget.high),
          .rounding = request.budget.rounding.value_or(Rounding::kDown)};
}

namespace {

/// Bytes of the weight files, in the container of --for.
std::int64_t PlanCost(const QuantizeRequest& request, const ModelConfig& config,
                      const ContainerSizes& sizes, const Plan& plan) {
  ModelGrids grids{.layers = plan.grids.layers, .ends = EndsOf(request, config)};
  BindRules(request, config).Apply(grids);
  return static_cast<std::int64_t>(sizes.Whole(grids));
}

Diagnosis DiagnosisFor(const QuantizeRequest& request, Source& source, Session& session) {
  Diagnosis diagnosis;
  if (!request.ranking.diagnostics.empty()) {
    diagnosis = DiagnosisFromJson(ReadJson(request.ranking.diagnostics),
                                  request.ranking.diagnostics.string());
  } else if (NeedsSpectra(request)) {
    diagnosis = MeasureForRanking(source.model(), source.hash(), source.calibration(), request.seed,
                                  session, FindRanking(request.ranking.name).needs.spectra());
  } else {
    diagnosis.layers.resize(Size(source.config().layers));
    diagnosis.seed = request.seed;
  }
  const Needs& needs = FindRanking(request.ranking.name).needs;
  if (needs.solo_damage || needs.context_damage) {
    AddDamage(request, source.hash(), diagnosis, session);
  }
  return diagnosis;
}

/// One line: how far a ranking that measures no damage can be trusted on this model, where
/// something measured is at hand, and what to run where it is not.
std::string Advice(const QuantizeRequest& request, const std::vector<double>& scores,
                   const Diagnosis& diagnosis) {
  constexpr double kTrusted = 0.7;  // method.md, section 5
  const Needs& needs = FindRanking(request.ranking.name).needs;
  if (needs.solo_damage || needs.context_damage) return "";
  std::vector<double> truth;
  std::string measured;
  if (!request.damage.sensitivities.empty()) {
    truth = LayerDamage(SensitivitiesFromJson(ReadJson(request.damage.sensitivities),
                                              request.damage.sensitivities.string()),
                        request.grids.group_size);
    measured = "damage of " + request.damage.sensitivities.filename().string();
  } else if (!needs.perplexity_drop &&
             std::ranges::all_of(diagnosis.layers, [](const LayerDiagnosis& row) {
               return row.nll_drop.has_value();
             })) {
    for (const LayerDiagnosis& row : diagnosis.layers) truth.push_back(*row.nll_drop);
    measured = "perplexity drop of " + request.ranking.diagnostics.filename().string();
  }
  if (truth.size() != scores.size()) {
    return fmt::format(
        "how far '{}' can be trusted on this model was not measured: `lieq sensitivity` measures "
        "the damage of each layer, --allocation optimal spends the bits by it",
        request.ranking.name);
  }
  const std::optional<double> rho = SpearmanRho(scores, truth);
  if (!rho) return "";
  return fmt::format("'{}' agrees with the measured {} with a rank correlation of {:.2f}: {}",
                     request.ranking.name, measured, *rho,
                     *rho < kTrusted ? "do not trust it on this model; --allocation optimal spends "
                                       "the bits by measured damage"
                                     : "it may be trusted here");
}

/// The plan that --bits, --bpw, --size or --high-layers make of scores.
Plan PlanOfScores(const QuantizeRequest& request, const ModelFolder& model,
                  std::vector<double> scores, const std::string& ranking) {
  const ModelConfig& config = model.weights.config;
  const Budget budget_of_widths = AverageOf(request);
  const Grid &low = budget_of_widths.low, &high = budget_of_widths.high;
  if (!request.budget.bpw && !request.budget.size && !request.budget.high_layers) {
    return Allocate(std::move(scores), ranking, AverageOf(request), config);
  }
  if (static_cast<Index>(scores.size()) != config.layers) {
    throw Error({.what = "scores of another model",
                 .where = request.ranking.diagnostics.string(),
                 .expected = std::to_string(config.layers) + " layers",
                 .found = std::to_string(scores.size())});
  }
  std::vector<Index> layers;
  if (request.budget.high_layers) {
    layers = HighestLayers(scores, *request.budget.high_layers);
  } else {
    ModelGrids least{.layers = RaiseLayers(layers, low, high, config).grids.layers,
                     .ends = EndsOf(request, config)};
    BindRules(request, config).Apply(least);
    const auto sizes = SizesIn(request.grids.target, model);
    CheckSizeHolds(request, config, *sizes, least);
    layers = LayersWithin(
        scores, low, high, config,
        [&](const Plan& plan) { return PlanCost(request, config, *sizes, plan); },
        *ByteBudget(request.budget, config), "the weight files, in bytes");
  }
  Plan plan = RaiseLayers(layers, low, high, config);
  plan.scores = std::move(scores);
  plan.ranking = ranking;
  plan.requested = {.bpw = request.budget.bpw,
                    .size = request.budget.size,
                    .high_layers = request.budget.high_layers};
  plan.requested_bits = CodeBits(plan, config);
  return plan;
}

Plan TopPlan(const QuantizeRequest& request, Source& source, Session& session) {
  const ModelConfig& config = source.config();
  const Diagnosis diagnosis = DiagnosisFor(request, source, session);
  if (!diagnosis.model_hash.empty() && diagnosis.model_hash != source.hash()) {
    session.log().Warning(request.ranking.diagnostics.string() +
                          " was made for another model (or other weights)");
  }
  const Ranking& ranking = FindRanking(request.ranking.name);
  if (static_cast<Index>(diagnosis.layers.size()) == config.layers) {
    const std::string advice =
        Advice(request, Score(ranking, diagnosis, ReadRankingOptions(request)), diagnosis);
    if (!advice.empty()) session.log().Info(advice);
  }
  const RankingOptions options = ReadRankingOptions(request);
  Plan plan = PlanOfScores(request, source.model(), Score(ranking, diagnosis, options),
                           std::string(ranking.name));
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

/// Gives a plan what the request say beside its layers, and checks it against --for.
Plan Finished(const QuantizeRequest& request, Source& source, Plan plan) {
  const ModelConfig& config = source.config();
  plan.model_hash = source.hash();
  if (!ChoosesEnds(request, config)) plan.grids.ends = EndsOf(request, config);
  if (!request.grids.rules.empty()) {
    BindRules(request, config).Apply(plan.grids);
    SetWidthsUsed(plan);
  }
  if (request.grids.target != nullptr) {
    CheckTarget(*request.grids.target, plan.grids, config, "--for");
  }
  return plan;
}

}  // namespace

Plan MakePlan(const QuantizeRequest& request, Source& source, const std::filesystem::path& codes,
              Session& session) {
  const ModelConfig& config = source.config();
  if (!request.plan.empty()) {
    Plan plan = ReadPlan(request.plan, request, config);
    if (!plan.model_hash.empty() && plan.model_hash != source.hash()) {
      session.log().Warning(request.plan.string() +
                            " was made for another model (or other weights)");
    }
    if (request.grids.k_quant) RequireKQuants(plan);
    WarnOfUnusedGrids(request, plan, session);
    return Finished(request, source, std::move(plan));  // from here on it is a plan for this one
  }
  const BudgetRequest& budget = request.budget;
  return Finished(request, source,
                  budget.uniform ? UniformPlan(GridOfBits(request, *budget.uniform), config)
                  : budget.allocation == "optimal"
                      ? MakeOptimalPlan(request, source, codes, session)
                      : TopPlan(request, source, session));
}

Plan StandInPlan(const QuantizeRequest& request, Source& source, std::vector<double> scores) {
  return Finished(request, source,
                  PlanOfScores(request, source.model(), std::move(scores), "stand-in"));
}

Record PlanRecord(const Plan& plan, const ModelConfig& config, std::uint64_t bytes,
                  std::uint64_t source, const std::optional<BytesElsewhere>& elsewhere) {
  Record record = ToJson(plan, config);
  // In front of the layers, which are long.
  Record layers = std::move(record["layers"]);
  record.erase("layers");
  record["bits_per_weight"] = StoredBits(config, plan.grids);
  record["file_bits_per_weight"] = FileBits(bytes, config);
  record["bytes"] = bytes;
  record["source_bytes"] = source;
  record["compression_ratio"] = {
      {"codes_only", CodeCompression(plan, config)},
      {"true_bytes", static_cast<double>(source) / static_cast<double>(bytes)}};
  if (elsewhere) record["for"] = ToJson(*elsewhere, config);
  record["layers"] = std::move(layers);
  return record;
}

RankingOptions ReadRankingOptions(const QuantizeRequest& request) {
  RankingOptions options{.weights = request.ranking.weights};
  if (!request.ranking.scores.empty()) {
    options.file_scores =
        ScoresFromJson(ReadJson(request.ranking.scores), request.ranking.scores.string());
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
