#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/files.h"
#include "lieq/cli/announce.h"
#include "lieq/cli/commands.h"
#include "lieq/pipeline/forecast.h"
#include "lieq/pipeline/sensitivity.h"
#include "lieq/plan/sensitivities_json.h"

namespace lieq {
namespace {

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
  const QuantizeRequest& request = arguments.run;
  if (request.dry_run) {
    const SensitivityForecast seen = ForecastSensitivities(request, session);
    Announce(arguments, seen.estimate, nullptr, {}, seen.config, session);
    return 0;
  }
  const Sensitivities s = MeasureSensitivities(request, session);
  if (session.context().is_part()) return 0;
  const Record record = ToJson(s);
  WriteFileAtomically(request.output, record.dump(1) + "\n");
  if (arguments.json) {
    session.Answer(record);
    return 0;
  }
  PrintDamage(s);
  fmt::print("written to {}, codes to {}\n", request.output.string(),
             CodesFolder(request, false).string());
  return 0;
}

}  // namespace lieq
