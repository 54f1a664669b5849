#include <fmt/format.h>

#include "lieq/cli/announce.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/print_tuning.h"
#include "lieq/container/engines.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/quantize.h"
#include "lieq/pipeline/tune.h"

namespace lieq {
namespace {

/// The record, and how it was made where this run made it.
void AnswerResult(const Arguments& arguments, const QuantizeOutcome& outcome,
                  const CommandSession& session) {
  Record printed = outcome.record;
  printed["output"] = arguments.run.output.string();
  if (outcome.already_done) {
    printed["already_done"] = true;
  } else {
    for (const char* key : {"seconds", "runs", "peak_bytes"}) printed[key] = outcome.run[key];
  }
  session.Answer(printed);
}

void PrintResult(const Arguments& arguments, const QuantizeOutcome& outcome) {
  const Record &result = outcome.record, &run = outcome.run;
  const auto number = [](const Record& value) { return value.get<double>(); };
  fmt::print("written to     {}\n", arguments.run.output.string());
  fmt::print("linears        {:.4f} code bits a weight{}, {:.4f} with scales and zero-points\n",
             number(result["code_bits_per_weight"]), outcome.asked,
             number(result["bits_per_weight"]));
  fmt::print("weights        {} bytes ({}), {:.2f} times smaller than the source\n",
             result["bytes"].get<std::uint64_t>(), FormatBytes(number(result["bytes"])),
             number(result["compression_ratio"]["true_bytes"]));
  if (result.contains("for")) fmt::print("{}\n", ElsewhereText(result["for"]));
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
  if (request.tune) (void)RequireGradients(session.device());  // before the hours that come first
  QuantizeOutcome outcome = Quantize(request, session);
  if (!arguments.json && outcome.already_done) {
    fmt::print("already done: {}\n", request.output.string());
  } else if (!arguments.json) {
    PrintResult(arguments, outcome);
  }
  if (request.tune) {
    if (!arguments.says_arithmetic) session.TakeFastArithmetic();
    const std::optional<TuneOutcome> tuned = TuneQuantized(request, session);
    if (tuned && tuned->written()) outcome.record = tuned->record;
    if (tuned && !arguments.json) PrintTuning(*tuned);
  }
  if (arguments.json) AnswerResult(arguments, outcome, session);
  return 0;
}

}  // namespace lieq
