#include "lieq/cli/optimal_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/base/statistics.h"
#include "lieq/cli/assemble.h"
#include "lieq/cli/quantize_settings.h"
#include "lieq/cli/size_budget.h"
#include "lieq/plan/sensitivities_json.h"
#include "lieq/quantize/candidate_quantizer.h"

namespace lieq {
namespace {

std::int64_t FileBytes(const Arguments& arguments, const ModelFolder& model,
                       const std::vector<Grid>& candidates, const Choice& choice) {
  ModelGrids grids = GridsOfChoice(candidates, choice);
  grids.ends = EndsOf(arguments, model.weights.config);
  return static_cast<std::int64_t>(PlanOutput(model, grids, ScaleType(model.dtype)).bytes);
}

std::int64_t UnitFileBytes(const ModelConfig& config, Unit unit, const Grid& grid, DType scale) {
  std::int64_t bytes = 0;
  for (const Site site : SitesOf(unit)) {
    for (const TensorSpec& spec :
         PackedSpecs(Name(site), config.Out(site), config.In(site), grid, scale)) {
      std::int64_t size = static_cast<std::int64_t>(ItemSize(spec.dtype));
      for (const std::int64_t extent : spec.shape) size *= extent;
      bytes += size;
    }
  }
  return bytes;
}

Choice Cheapest(const CostTable& costs, const std::vector<Grid>& candidates,
                const ModelConfig& config) {
  Choice cheapest(costs.size());
  for (std::size_t u = 0; u < costs.size(); ++u) {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      if (!Fits(candidates[c], config, kAllUnits[u % kUnits]) || costs[u][c] >= least) continue;
      least = costs[u][c];
      cheapest[u] = c;
    }
  }
  return cheapest;
}

/// Throws Error for sensitivities of another shape of model, whose candidates fit elsewhere.
void RequireSameGrids(const Arguments& arguments, const Sensitivities& s,
                      const ModelConfig& config) {
  const std::string file = arguments.sensitivities.string();
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

/// The candidates of --sensitivities, or else those that will be measured.
std::vector<Grid> CandidatesOfPlan(const Arguments& arguments, const ModelConfig& config,
                                   Sensitivities& s) {
  if (arguments.sensitivities.empty()) return CandidatesOf(arguments, config);
  s = SensitivitiesFromJson(ReadJson(arguments.sensitivities), arguments.sensitivities.string());
  RequireSameGrids(arguments, s, config);
  return s.candidates;
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
  const std::size_t step = granularity == Granularity::kLayer ? kUnits : 1;
  for (std::size_t first = 0; first < shaken.size(); first += step) {
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

Purse MakePurse(const Arguments& arguments, const ModelFolder& model,
                const std::vector<Grid>& candidates) {
  const ModelConfig& config = model.weights.config;
  Purse purse;
  for (Index u = 0; u < config.layers * kUnits; ++u) {
    std::vector<std::int64_t>& row = purse.costs.emplace_back();
    for (const Grid& grid : candidates) {
      const Unit unit = kAllUnits[Size(u % kUnits)];
      row.push_back(!Fits(grid, config, unit) ? 0
                    : arguments.size ? UnitFileBytes(config, unit, grid, ScaleType(model.dtype))
                                     : UnitStoredBits(config, unit, grid));
    }
  }
  const Choice cheapest = Cheapest(purse.costs, candidates, config);
  const std::int64_t least = TotalCost(purse.costs, cheapest);
  if (arguments.size) {
    CheckSizeHolds(arguments, model, GridsOfChoice(candidates, cheapest).layers);
    const std::int64_t whole = FileBytes(arguments, model, candidates, cheapest);
    purse.budget = *arguments.size - (whole - least);
  } else {
    const auto weights = static_cast<double>(config.layers * config.LayerWeightCount());
    purse.budget = static_cast<std::int64_t>(std::floor(*arguments.bpw * weights + 1e-6));
    if (purse.budget < least) {
      throw Error({.what = "the budget is below what the cheapest candidates take",
                   .where = "--bpw",
                   .expected = fmt::format("at least {:.4f}", static_cast<double>(least) / weights),
                   .found = fmt::format("{}", *arguments.bpw)});
    }
  }
  return purse;
}

OptimalForecast ForecastOptimal(const Arguments& arguments, const ModelFolder& model) {
  const ModelConfig& config = model.weights.config;
  OptimalForecast forecast;
  Sensitivities s;
  forecast.candidates = CandidatesOfPlan(arguments, config, s);
  const Purse purse = MakePurse(arguments, model, forecast.candidates);
  const Granularity granularity = arguments.by_group ? Granularity::kGroup : Granularity::kLayer;

  // As if the error of a weight fell fourfold by each bit, and all weights were equal.
  DamageTable damage(purse.costs.size());
  double widest = 0;  // bytes in the files for a bit of the budget
  for (std::size_t u = 0; u < damage.size(); ++u) {
    const Unit unit = kAllUnits[u % kUnits];
    for (const Grid& grid : forecast.candidates) {
      damage[u].emplace_back();
      if (!Fits(grid, config, unit)) continue;
      const std::int64_t bits = UnitStoredBits(config, unit, grid);
      double weights = 0;
      for (const Site site : SitesOf(unit)) {
        weights += static_cast<double>(config.Out(site) * config.In(site));
      }
      damage[u].back() = weights * std::pow(4.0, -static_cast<double>(bits) / weights);
      widest = std::max(
          widest, static_cast<double>(UnitFileBytes(config, unit, grid, ScaleType(model.dtype))) /
                      static_cast<double>(bits));
    }
  }
  forecast.plan.grids = GridsOfChoice(forecast.candidates,
                                      ChoiceWithin(damage, purse.costs, granularity, purse.budget));
  if (arguments.size) {
    forecast.bytes = *arguments.size;
    return forecast;
  }
  // All that no candidate changes, the budget in bytes, and digits of offsets in the headers.
  const Choice cheapest = Cheapest(purse.costs, forecast.candidates, config);
  std::int64_t fixed = FileBytes(arguments, model, forecast.candidates, cheapest);
  constexpr std::int64_t kDigits = 64;  // of the up to three tensors of a linear
  for (std::size_t u = 0; u < cheapest.size(); ++u) {
    const Unit unit = kAllUnits[u % kUnits];
    fixed -= UnitFileBytes(config, unit, forecast.candidates[cheapest[u]], ScaleType(model.dtype));
    fixed += kDigits * static_cast<std::int64_t>(SitesOf(unit).size());
  }
  forecast.bytes =
      fixed + static_cast<std::int64_t>(std::ceil(widest * static_cast<double>(purse.budget)));
  return forecast;
}

Plan MakeOptimalPlan(const Arguments& arguments, const std::filesystem::path& codes,
                     Session& session) {
  Laboratory lab;
  OpenLaboratory(arguments, codes, session, lab);
  const ModelConfig& config = lab.model.weights.config;
  Sensitivities s;
  const std::vector<Grid> candidates = CandidatesOfPlan(arguments, config, s);
  if (!s.model_hash.empty() && s.model_hash != lab.model_hash) {
    session.log().Warning(arguments.sensitivities.string() +
                          " was made for another model (or other weights)");
  }
  Purse purse = MakePurse(arguments, lab.model, candidates);  // before anything that takes long
  const Granularity granularity = arguments.by_group ? Granularity::kGroup : Granularity::kLayer;

  const bool runs = arguments.sensitivities.empty() || arguments.check > 0 || arguments.refine > 0;
  std::optional<DamageMeter> meter;
  if (runs) {
    lab.store->Make(candidates, arguments.quant, lab.windows, session);
    meter.emplace(lab.model.weights, session.device(), lab.damage_windows.view(),
                  session.context());
  }
  if (arguments.sensitivities.empty()) {
    s = MeasureSensitivities(arguments, lab, candidates, arguments.measure_all, {}, *meter,
                             session);
  }
  DamageTable damage = PredictAll(s);
  std::optional<Choice> choice;
  while (true) {  // the cheapest mix fits, so this ends
    choice = ChoiceWithin(damage, purse.costs, granularity, purse.budget);
    // Headers of the files grow by some digits with the offsets they list.
    const std::int64_t over =
        arguments.size ? FileBytes(arguments, lab.model, candidates, *choice) - *arguments.size : 0;
    if (over <= 0) break;
    purse.budget -= over;
  }

  Plan plan{.allocation = "optimal",
            .granularity = std::string(Name(granularity)),
            .model_hash = lab.model_hash,
            .calibration_hash = s.calibration_hash,
            .candidates = candidates,
            .damage = damage};
  plan.ranking = std::string(Name(s.mode));
  plan.requested = {.bpw = arguments.bpw, .size = arguments.size};
  const auto run = [&](const Choice& mix) {
    const Damage found = meter->Model(lab.store->Mix(GridsOfChoice(candidates, mix)));
    return PredictionCheck{PredictedKl(s, damage, mix), found.kl, found.nll_rise};
  };
  if (arguments.refine > 0) {
    Rng rng(arguments.seed, 0x10ca1);
    PredictionCheck best = run(*choice);
    const double before = best.kl;
    session.context().progress.Begin("refining", "mix", arguments.refine);
    for (Index i = 0; i < arguments.refine; ++i) {
      const Choice next = Neighbour(*choice, damage, purse.costs, granularity, purse.budget, rng);
      const bool fits =
          !arguments.size || FileBytes(arguments, lab.model, candidates, next) <= *arguments.size;
      if (next != *choice && fits) {
        const PredictionCheck found = run(next);
        if (found.kl < best.kl) {
          best = found;
          choice = next;
        }
      }
      session.context().progress.Update(i + 1, fmt::format("KL {:.4f}", best.kl));
    }
    session.context().progress.End();
    session.log().Info(fmt::format("refined by {} runs: KL {:.4f} -> {:.4f} nats", arguments.refine,
                                   before, best.kl));
  }
  plan.predicted_kl = PredictedKl(s, damage, *choice);
  if (arguments.check > 0) {
    std::vector<Choice> mixes = SpreadChoices(damage, purse.costs, granularity, purse.budget,
                                              Size(arguments.check), arguments.seed);
    if (!mixes.empty()) mixes.front() = *choice;
    session.context().progress.Begin("checking the prediction", "mix",
                                     static_cast<Index>(mixes.size()));
    for (const Choice& mix : mixes) {
      plan.checks.push_back(run(mix));
      session.context().progress.Update(static_cast<Index>(plan.checks.size()));
    }
    session.context().progress.End();
  }
  plan.grids = GridsOfChoice(candidates, *choice);
  SetWidthsUsed(plan);
  plan.requested_bits = CodeBits(plan, config);
  return plan;
}

}  // namespace lieq
