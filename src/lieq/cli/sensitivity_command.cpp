#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/cli/announce.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/terminal.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/forecast.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/plan/sensitivities_json.h"
#include "lieq/quantize/candidate_quantizer.h"

namespace lieq {
namespace {

/// Candidates of the mix that the others are changed in: those of --base, or the cheapest.
std::vector<std::size_t> BaseMix(const Arguments& arguments, const ModelConfig& config,
                                 const std::vector<Grid>& candidates) {
  std::vector<std::size_t> base;
  if (arguments.run.damage.base.empty()) {
    for (Index u = 0; u < config.layers * kUnits; ++u) {
      const Unit unit = kAllUnits[Size(u % kUnits)];
      std::size_t cheapest = candidates.size();
      for (std::size_t c = 0; c < candidates.size(); ++c) {
        if (!Fits(candidates[c], config, unit)) continue;
        if (cheapest == candidates.size() ||
            UnitStoredBits(config, unit, candidates[c]) <
                UnitStoredBits(config, unit, candidates[cheapest])) {
          cheapest = c;
        }
      }
      base.push_back(cheapest);
    }
    return base;
  }
  const Plan plan = ReadPlan(arguments.run.damage.base, arguments.run, config);
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
      const Grid& grid = plan.grids.At(layer, kAllUnits[unit]);
      const auto found = std::ranges::find(candidates, grid);
      if (found == candidates.end()) {
        throw Error({.what = "the base mix has a grid that is not among the candidates",
                     .where = arguments.run.damage.base.string() + ", layer " +
                              std::to_string(layer) + ", " + std::string(Name(kAllUnits[unit])),
                     .found = Label(grid),
                     .hint = "name it in --candidates"});
      }
      base.push_back(static_cast<std::size_t>(found - candidates.begin()));
    }
  }
  return base;
}

/// A row for each layer: the damage of each unit at its most harmful candidate.
void PrintDamage(const Sensitivities& s) {
  fmt::print("layer  {:>9} {:>9} {:>9} {:>9}  (nats of KL, at the candidate that costs least)\n",
             "qkv", "o", "gate_up", "down");
  for (std::size_t u = 0; u < s.units.size(); u += kUnits) {
    fmt::print("{:>5} ", u / kUnits);
    for (std::size_t i = 0; i < kUnits; ++i) {
      double most = 0;
      for (const auto& damage : PredictDamage(s, u + i)) most = std::max(most, damage.value_or(0));
      fmt::print(" {:>9.5f}", most);
    }
    fmt::print("\n");
  }
  for (const EndSensitivity& end : s.ends) {
    fmt::print("{}:", Name(end.candidates.end));
    for (std::size_t c = 0; c < end.kl.size(); ++c) {
      const std::optional<Grid>& grid = end.candidates.grids[c];
      if (grid) fmt::print("  {} {:.5f}", Label(*grid), end.kl[c]);
    }
    fmt::print("\n");
  }
  if (s.mode == DamageMode::kContext) fmt::print("KL of the base mix: {:.4f} nats\n", s.base_kl);
}

}  // namespace

int RunSensitivity(const Arguments& arguments, CommandSession& session) {
  const auto begin = std::chrono::steady_clock::now();
  const std::filesystem::path codes = CodesFolder(arguments.run, false);
  Source source(arguments.run, session);
  const Bench bench = OpenBench(arguments.run, source, codes, session);
  const ModelConfig& config = source.config();
  const std::vector<Grid> candidates = CandidatesOf(arguments.run, config);
  std::vector<EndCandidates> ends;  // in a context, units alone are measured
  if (arguments.run.damage.mode == DamageMode::kSolo) ends = EndCandidatesOf(arguments.run, config);
  std::vector<std::size_t> base;
  if (arguments.run.damage.mode == DamageMode::kContext)
    base = BaseMix(arguments, config, candidates);
  if (arguments.run.dry_run || !arguments.quiet) {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    const Estimate estimate =
        EstimateWork({.request = arguments.run,
                      .model = source.model(),
                      .windows = bench.windows.count,
                      .length = bench.windows.length,
                      .draws = arguments.run.dry_run && CalibratesOnItself(arguments.run),
                      .candidates = candidates,
                      .ends = ends,
                      .codes = codes,
                      .measures_damage = true,
                      .in_context = !base.empty(),
                      .damage_windows = bench.damage_windows.count,
                      .damage_length = bench.damage_windows.length},
                     spent.count(), session);
    if (arguments.run.dry_run) {
      Announce(arguments, estimate, nullptr, {}, config, session);
      return 0;
    }
    Declare(session.context().progress, estimate.stages);
  }
  bench.store->Make(candidates, arguments.run.quant, bench.windows, session);
  DamageMeter meter(source.model().weights, session.device(), bench.damage_windows.view(),
                    session.context());
  const Sensitivities s =
      MeasureSensitivities(arguments.run, bench, {.units = candidates, .ends = ends},
                           arguments.run.damage.measure_all, base, meter, session);
  const Record record = ToJson(s);
  WriteFileAtomically(arguments.run.output, record.dump(1) + "\n");
  if (arguments.json) {
    session.Answer(record);
    return 0;
  }
  PrintDamage(s);
  fmt::print("written to {}, codes to {}\n", arguments.run.output.string(), codes.string());
  return 0;
}

}  // namespace lieq
