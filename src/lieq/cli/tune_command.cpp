#include <fmt/format.h>

#include "lieq/cli/commands.h"
#include "lieq/cli/print_comparison.h"
#include "lieq/cli/print_tuning.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/tune.h"

namespace lieq {

void PrintTuning(const TuneOutcome& outcome) {
  const TuneResult& result = outcome.result;
  fmt::print("trained        {} numbers on {} tokens, {} steps; state of step {} kept\n",
             outcome.numbers, outcome.tokens, result.losses.size(), result.kept);
  if (outcome.codes > 0) {
    fmt::print("codes          {} of {} are others, {:.2f} %\n", result.moved_codes, outcome.codes,
               100 * static_cast<double>(result.moved_codes) / static_cast<double>(outcome.codes));
  }
  fmt::print("held out       KL {:.4f} before, {:.4f} after ({} windows of {} tokens)\n",
             result.before(), result.after(), outcome.held_out, outcome.length);
  if (!outcome.written()) {
    fmt::print("not tuned      no state was better on the windows held out\n");
  }
}

int RunTune(const Arguments& arguments, CommandSession& session) {
  const TuneRequest request = TuneRequestOf(arguments);
  if (!arguments.says_arithmetic) session.TakeFastArithmetic();
  const TuneOutcome outcome = TuneModel(request, session);
  const TuneResult& result = outcome.result;
  if (arguments.json) {
    session.Answer({{"schema", 1},
                    {"kind", "tuning"},
                    {"output", outcome.written() ? Record(request.output.string()) : Record()},
                    {"held_out_kl_before", result.before()},
                    {"held_out_kl", result.after()},
                    {"tokens", outcome.tokens},
                    {"seconds", outcome.seconds}});
    return outcome.written() ? 0 : kDiffer;
  }
  PrintTuning(outcome);
  if (!outcome.written()) return kDiffer;
  fmt::print("written to     {}, {} bytes of weights ({})\n", request.output.string(),
             outcome.bytes, FormatBytes(static_cast<double>(outcome.bytes)));
  fmt::print("took           {}\n", FormatSeconds(outcome.seconds));
  return 0;
}

}  // namespace lieq
