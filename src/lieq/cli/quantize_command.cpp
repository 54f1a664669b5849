#include <fmt/format.h>

#include "lieq/cli/announce.h"
#include "lieq/cli/commands.h"
#include "lieq/container/engines.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/quantize.h"

namespace lieq {
namespace {

void PrintResult(const Arguments& arguments, const QuantizeOutcome& outcome,
                 const CommandSession& session) {
  const Record &result = outcome.record, &run = outcome.run;
  if (arguments.json) {
    Record printed = result;
    printed["output"] = arguments.run.output.string();
    printed["seconds"] = run["seconds"];
    printed["runs"] = run["runs"];
    printed["peak_bytes"] = run["peak_bytes"];
    session.Answer(printed);
    return;
  }
  const auto number = [](const Record& value) { return value.get<double>(); };
  fmt::print("written to     {}\n", arguments.run.output.string());
  fmt::print("linears        {:.4f} code bits a weight{}, {:.4f} with scales and zero-points\n",
             number(result["code_bits_per_weight"]), outcome.asked,
             number(result["bits_per_weight"]));
  fmt::print("weights        {} bytes ({}), {:.2f} times smaller than the source\n",
             result["bytes"].get<std::uint64_t>(), FormatBytes(number(result["bytes"])),
             number(result["compression_ratio"]["true_bytes"]));
  fmt::print("fits           {}\n", FitsText(outcome.fits));
  const auto runs = run["runs"].get<int>();
  fmt::print("took           {}{}, {} of memory\n", FormatSeconds(number(run["seconds"])),
             runs > 1 ? fmt::format(" in {} runs", runs) : "",
             FormatBytes(number(run["peak_bytes"])));
}

}  // namespace

int RunQuantize(const Arguments& arguments, CommandSession& session) {
  const QuantizeRequest& request = arguments.run;
  if (request.dry_run) {
    const QuantizeForecast seen = ForecastQuantize(request, session);
    Announce(arguments, seen.estimate, &seen.forecast, seen.forecast.plan.grids.ends, seen.config,
             session);
    return 0;
  }
  QuantizeOutcome outcome = Quantize(request, session);
  if (!outcome.already_done) {
    PrintResult(arguments, outcome, session);
  } else if (arguments.json) {
    outcome.record["output"] = request.output.string();
    outcome.record["already_done"] = true;
    session.Answer(outcome.record);
  } else {
    fmt::print("already done: {}\n", request.output.string());
  }
  return 0;
}

}  // namespace lieq
