#include "lieq/pipeline/optimal_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/base/statistics.h"
#include "lieq/container/engines.h"
#include "lieq/pipeline/module_rules.h"
#include "lieq/pipeline/output_sizes.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/size_budget.h"
#include "lieq/plan/sensitivities_json.h"
#include "lieq/quantize/candidate_quantizer.h"

namespace lieq {
namespace {

/// With the ends that the request says, where none are chosen.
ModelGrids AllGrids(const QuantizeRequest& request, const ModelConfig& config,
                    const Candidates& candidates, const Choice& choice) {
  ModelGrids grids = GridsOfChoice(candidates, choice);
  if (candidates.ends.empty()) grids.ends = EndsOf(request, config);
  return grids;
}

std::int64_t FileBytes(const QuantizeRequest& request, const ModelConfig& config,
                       const ContainerSizes& sizes, const Candidates& candidates,
                       const Choice& choice) {
  return static_cast<std::int64_t>(sizes.Whole(AllGrids(request, config, candidates, choice)));
}

std::int64_t UnitFileBytes(const ModelConfig& config, const ContainerSizes& sizes, Index layer,
                           Unit unit, const Grid& grid) {
  std::int64_t bytes = 0;
  for (const Site site : config.SitesOf(layer, unit)) bytes += sizes.OfLinear(layer, site, grid);
  return bytes;
}

Choice Cheapest(const CostTable& costs, const Candidates& candidates, const ModelConfig& config) {
  Choice cheapest(costs.size());
  const std::size_t units = costs.size() - candidates.ends.size();
  for (std::size_t u = 0; u < costs.size(); ++u) {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (std::size_t c = 0; c < costs[u].size(); ++c) {
      const bool fits = u >= units || (candidates.Allows(u, c) &&
                                       Fits(candidates.units[c], config, kAllUnits[u % kUnits]));
      if (!fits || costs[u][c] >= least) continue;
      least = costs[u][c];
      cheapest[u] = c;
    }
  }
  return cheapest;
}

/// Throws Error for sensitivities of another shape of model, whose candidates fit elsewhere.
void RequireSameGrids(const QuantizeRequest& request, const Sensitivities& s,
                      const ModelConfig& config) {
  const std::string file = request.damage.sensitivities.string();
  if (s.layers() != config.layers) {
    throw Error({.what = "sensitivities of another model",
                 .where = file,
                 .expected = std::to_string(config.layers) + " layers",
                 .found = std::to_string(s.layers())});
  }
  for (std::size_t c = 0; c < s.candidates.size(); ++c) {
    const Grid& grid = s.candidates[c];
    for (std::size_t u = 0; u < s.units.size(); ++u) {
      if (s.units[u].loss[c].has_value() == Fits(grid, config, s.units[u].unit)) continue;
      throw Error(
          {.what = "sensitivities of another model",
           .where = fmt::format("{}: /units/{}/loss/{}", file, u, c),
           .expected = fmt::format("{} where groups of {} {} {} columns",
                                   s.units[u].loss[c] ? "null" : "a number", grid.group_size,
                                   s.units[u].loss[c] ? "do not divide" : "divide",
                                   config.In(SitesOf(s.units[u].unit).front()))});
    }
  }
}

/// The ends that were measured, without their candidates that --for does not hold.
void TakeMeasuredEnds(const QuantizeRequest& request, const ModelConfig& config, Sensitivities& s) {
  if (!ChoosesEnds(request, config)) s.ends.clear();
  if (s.ends.empty()) return;
  const std::span<const End> ends = EndsIn(config);
  if (s.ends.size() != ends.size()) {
    throw Error({.what = "sensitivities of another model",
                 .where = request.damage.sensitivities.string() + ": /ends",
                 .expected = config.tied ? "the embedding alone, which is the head too"
                                         : "embedding and head",
                 .found = fmt::format("{} of them", s.ends.size())});
  }
  for (EndSensitivity& end : s.ends) {
    EndSensitivity usable{.candidates = {.end = end.candidates.end}};
    for (std::size_t c = 0; c < end.candidates.grids.size(); ++c) {
      const std::optional<Grid>& grid = end.candidates.grids[c];
      const bool held = !grid || request.grids.target == nullptr ||
                        HoldsEnds(*request.grids.target, *grid, config);
      if (!held || (grid && config.hidden % GroupColumns(*grid, config.hidden) != 0)) continue;
      usable.candidates.grids.push_back(grid);
      usable.kl.push_back(end.kl[c]);
      usable.nll_rise.push_back(end.nll_rise[c]);
    }
    end = std::move(usable);
  }
  std::erase_if(s.ends, [](const EndSensitivity& end) { return end.kl.empty(); });
}

/// Binds units to the grids of rules, which become candidates where they `may` be measured yet.
void AddRules(const QuantizeRequest& request, const ModelConfig& config, bool may,
              Candidates& candidates) {
  const BoundGrids bound = BindRules(request, config);
  if (!bound.any_unit()) return;
  candidates.free = candidates.units.size();
  candidates.bound.resize(bound.units.size());
  for (std::size_t u = 0; u < bound.units.size(); ++u) {
    if (!bound.units[u]) continue;
    auto found = std::ranges::find(candidates.units, *bound.units[u]);
    if (found == candidates.units.end()) {
      if (!may) {
        throw Error({.what = "a grid that was not measured",
                     .where = "--set, " + request.damage.sensitivities.string(),
                     .found = Label(*bound.units[u]),
                     .hint = "measure it too: lieq sensitivity --candidates, or leave "
                             "--sensitivities out"});
      }
      candidates.units.push_back(*bound.units[u]);
      found = candidates.units.end() - 1;
    }
    candidates.bound[u] = static_cast<std::size_t>(found - candidates.units.begin());
  }
}

/// The candidates of --sensitivities, or else those that will be measured.
Candidates CandidatesOfPlan(const QuantizeRequest& request, const ModelConfig& config,
                            Sensitivities& s) {
  if (request.damage.sensitivities.empty()) {
    Candidates candidates{.units = CandidatesOf(request, config), .ends = {}};
    if (ChoosesEnds(request, config)) candidates.ends = EndCandidatesOf(request, config);
    AddRules(request, config, true, candidates);
    return candidates;
  }
  s = SensitivitiesFromJson(ReadJson(request.damage.sensitivities),
                            request.damage.sensitivities.string());
  RequireSameGrids(request, s, config);
  TakeMeasuredEnds(request, config, s);
  Candidates candidates{.units = s.candidates, .ends = {}};
  for (const EndSensitivity& end : s.ends) candidates.ends.push_back(end.candidates);
  AddRules(request, config, false, candidates);
  return candidates;
}

/// What may be chosen by what rules allow.
DamageTable Allowed(const DamageTable& damage, const Candidates& candidates) {
  DamageTable allowed = damage;
  for (std::size_t u = 0; u < candidates.bound.size(); ++u) {
    for (std::size_t c = 0; c < allowed[u].size(); ++c) {
      if (!candidates.Allows(u, c)) allowed[u][c].reset();
    }
  }
  return allowed;
}

Choice ChoiceWithin(const DamageTable& damage, const CostTable& costs, Granularity granularity,
                    std::int64_t budget) {
  std::optional<Choice> choice = OptimalChoice(damage, costs, granularity, budget);
  if (choice) return std::move(*choice);
  throw Error({.what = "no candidate fits every unit of a layer within the budget",
               .where = "--granularity layer",
               .hint = "--granularity group, or candidates whose groups divide every row"});
}

/// One step of the local search: some items up and others down, so that the budget still holds.
Choice Neighbour(const Choice& from, const DamageTable& damage, const CostTable& costs,
                 Granularity granularity, std::int64_t budget, Rng& rng) {
  // The same knapsack with every damage changed by some 20 %: near choices that use the budget.
  DamageTable shaken = damage;
  const std::size_t units = shaken.size() - shaken.size() % kUnits;  // ends behind them
  for (std::size_t first = 0, step = 0; first < shaken.size(); first += step) {
    step = granularity == Granularity::kLayer && first < units ? kUnits : 1;
    const double factor = std::exp(0.2 * rng.Normal());
    for (std::size_t u = first; u < first + step; ++u) {
      const double at = damage[u][from[u]].value_or(0);
      for (auto& value : shaken[u]) {
        if (value) value = at + (*value - at) * factor;
      }
    }
  }
  return OptimalChoice(shaken, costs, granularity, budget).value_or(from);
}

}  // namespace

CostBudget MakeCostBudget(const QuantizeRequest& request, const ModelConfig& config,
                          const ContainerSizes& sizes, const Candidates& candidates) {
  CostBudget limit;
  for (Index u = 0; u < config.layers * kUnits; ++u) {
    std::vector<std::int64_t>& row = limit.costs.emplace_back();
    for (const Grid& grid : candidates.units) {
      const Unit unit = kAllUnits[Size(u % kUnits)];
      row.push_back(Fits(grid, config, unit) ? UnitFileBytes(config, sizes, u / kUnits, unit, grid)
                                             : 0);
    }
  }
  for (const EndCandidates& end : candidates.ends) {
    std::vector<std::int64_t>& row = limit.costs.emplace_back();
    for (const auto& grid : end.grids) row.push_back(sizes.OfEnd(end.end, grid));
  }
  const Choice cheapest = Cheapest(limit.costs, candidates, config);
  CheckSizeHolds(request, config, sizes, AllGrids(request, config, candidates, cheapest));
  limit.budget =
      *ByteBudget(request.budget, config) -
      (FileBytes(request, config, sizes, candidates, cheapest) - TotalCost(limit.costs, cheapest));
  return limit;
}

OptimalForecast ForecastOptimal(const QuantizeRequest& request, const ModelFolder& model) {
  const ModelConfig& config = model.weights.config;
  OptimalForecast forecast;
  Sensitivities s;
  forecast.candidates = CandidatesOfPlan(request, config, s);
  const auto sizes = SizesIn(request.grids.target, model);
  const CostBudget limit = MakeCostBudget(request, config, *sizes, forecast.candidates);
  const Granularity granularity =
      request.budget.by_group ? Granularity::kGroup : Granularity::kLayer;

  // As if the error of a weight fell fourfold by each bit, and all weights were equal.
  DamageTable damage(limit.costs.size());
  const auto add = [&](std::size_t row, double weights, std::int64_t bytes) {
    damage[row].push_back(weights * std::pow(4.0, -8.0 * static_cast<double>(bytes) / weights));
  };
  const std::size_t units = damage.size() - forecast.candidates.ends.size();
  for (std::size_t u = 0; u < units; ++u) {
    const Unit unit = kAllUnits[u % kUnits];
    const auto weights =
        static_cast<double>(UnitWeightCount(config, static_cast<Index>(u / kUnits), unit));
    for (std::size_t c = 0; c < forecast.candidates.units.size(); ++c) {
      if (forecast.candidates.Allows(u, c) && Fits(forecast.candidates.units[c], config, unit)) {
        add(u, weights, limit.costs[u][c]);
      } else {
        damage[u].emplace_back();
      }
    }
  }
  for (std::size_t row = units; row < damage.size(); ++row) {
    for (const std::int64_t bytes : limit.costs[row]) {
      add(row, static_cast<double>(config.vocab * config.hidden), bytes);
    }
  }
  const Choice choice = ChoiceWithin(damage, limit.costs, granularity, limit.budget);
  forecast.plan.grids = AllGrids(request, config, forecast.candidates, choice);
  forecast.bytes = *ByteBudget(request.budget, config);
  return forecast;
}

namespace {

/// Runs mixes of candidates, for what they cost in truth.
struct MixRunner {
  const Bench& bench;
  const Candidates& candidates;
  const Sensitivities& s;
  const DamageTable& damage;
  std::optional<DamageMeter>& meter;
  ThreadPool& pool;

  [[nodiscard]] PredictionCheck operator()(const Choice& mix) const {
    const Damage found = meter->Model(bench.store->Mix(GridsOfChoice(candidates, mix), pool));
    return {PredictedKl(s, damage, mix), found.kl, found.nll_rise};
  }
};

/// What is chosen among, and within what.
struct ChoiceSpace {
  const DamageTable& damage;
  const CostTable& costs;
  Granularity granularity;
  std::int64_t budget;
  const ContainerSizes& sizes;
};

/// The best of a local search by the divergence of whole mixes.
Choice Refined(const QuantizeRequest& request, const ChoiceSpace& space, const MixRunner& run,
               Choice choice, const Source& source, Session& session) {
  const Index count = request.damage.refine;
  Rng rng(request.seed, 0x10ca1);
  PredictionCheck best = run(choice);
  const double before = best.kl;
  Progress& progress = session.context().progress;
  progress.Begin("refining", "mix", count);
  for (Index i = 0; i < count; ++i) {
    const Choice next =
        Neighbour(choice, space.damage, space.costs, space.granularity, space.budget, rng);
    const bool fits = FileBytes(request, source.config(), space.sizes, run.candidates, next) <=
                      *ByteBudget(request.budget, source.config());
    if (next != choice && fits) {
      const PredictionCheck found = run(next);
      if (found.kl < best.kl) {
        best = found;
        choice = next;
      }
    }
    progress.Update(i + 1, fmt::format("KL {:.4f}", best.kl));
  }
  progress.End();
  session.log().Info(
      fmt::format("refined by {} runs: KL {:.4f} -> {:.4f} nats", count, before, best.kl));
  return choice;
}

/// Runs the choice, and others that spend as much, against what was predicted of them.
std::vector<PredictionCheck> CheckedPrediction(const QuantizeRequest& request,
                                               const ChoiceSpace& space, const MixRunner& run,
                                               const Choice& choice, Progress& progress) {
  std::vector<Choice> mixes = SpreadChoices(space.damage, space.costs, space.granularity,
                                            space.budget, Size(request.damage.check), request.seed);
  if (!mixes.empty()) mixes.front() = choice;
  std::vector<PredictionCheck> checks;
  progress.Begin("checking the prediction", "mix", static_cast<Index>(mixes.size()));
  for (const Choice& mix : mixes) {
    checks.push_back(run(mix));
    progress.Update(static_cast<Index>(checks.size()));
  }
  progress.End();
  return checks;
}

}  // namespace

Plan MakeOptimalPlan(const QuantizeRequest& request, Source& source,
                     const std::filesystem::path& codes, Session& session) {
  const Bench bench = OpenBench(request, source, codes, session);
  const ModelConfig& config = source.model().weights.config;
  Sensitivities s;
  const Candidates candidates = CandidatesOfPlan(request, config, s);
  if (!s.model_hash.empty() && s.model_hash != source.hash()) {
    session.log().Warning(request.damage.sensitivities.string() +
                          " was made for another model (or other weights)");
  }
  const auto sizes = SizesIn(request.grids.target, source.model());
  CostBudget limit =
      MakeCostBudget(request, config, *sizes, candidates);  // before anything that takes long
  const Granularity granularity =
      request.budget.by_group ? Granularity::kGroup : Granularity::kLayer;

  const bool runs =
      request.damage.sensitivities.empty() || request.damage.check > 0 || request.damage.refine > 0;
  std::optional<DamageMeter> meter;
  if (runs) {
    const QuantOptions options = CandidateOptions(request);
    bench.store->Make(candidates.units, options, bench.windows, session);
    bench.store->MakeEnds(candidates.ends, options, bench.windows, session);
    meter.emplace(source.model().weights, session.team(), bench.damage_windows.view(),
                  session.context());
  }
  if (request.damage.sensitivities.empty()) {
    s = MeasureSensitivities(
        request, bench, candidates, request.damage.measure_all, {},
        [&]() -> DamageMeter& { return *meter; }, session);
  }
  const DamageTable all = PredictAll(s), damage = Allowed(all, candidates);
  std::optional<Choice> choice;
  while (true) {  // the cheapest mix fits, so this ends
    choice = ChoiceWithin(damage, limit.costs, granularity, limit.budget);
    // Headers of the files grow by some digits with the offsets they list.
    const std::int64_t over = FileBytes(request, config, *sizes, candidates, *choice) -
                              *ByteBudget(request.budget, config);
    if (over <= 0) break;
    limit.budget -= over;
  }

  Plan plan{.allocation = "optimal",
            .granularity = std::string(Name(granularity)),
            .model_hash = source.hash(),
            .calibration_hash = s.calibration_hash,
            .candidates = candidates.units,
            .damage = {all.begin(), all.begin() + config.layers * kUnits},
            .measured_ends = s.ends};
  plan.ranking = std::string(Name(s.mode));
  plan.requested = {.bpw = request.budget.bpw, .size = request.budget.size};
  const MixRunner run{.bench = bench,
                      .candidates = candidates,
                      .s = s,
                      .damage = damage,
                      .meter = meter,
                      .pool = session.pool()};
  const ChoiceSpace space{damage, limit.costs, granularity, limit.budget, *sizes};
  if (request.damage.refine > 0) choice = Refined(request, space, run, *choice, source, session);
  plan.predicted_kl = PredictedKl(s, damage, *choice);
  if (request.damage.check > 0) {
    plan.checks = CheckedPrediction(request, space, run, *choice, session.context().progress);
  }
  plan.grids = AllGrids(request, config, candidates, *choice);
  SetWidthsUsed(plan);
  plan.requested_bits = CodeBits(plan, config);
  return plan;
}

}  // namespace lieq
