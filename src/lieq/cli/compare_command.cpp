#include <fmt/format.h>

#include "lieq/cli/commands.h"
#include "lieq/cli/comparison_table.h"

namespace lieq {

int RunCompare(const Arguments& arguments, CommandSession& session) {
  if (arguments.json && !arguments.format.empty() && arguments.format != "json") {
    throw UsageError("--json and --format " + arguments.format + ": one of them");
  }
  const RunComparison comparison = CompareRuns(arguments.runs, session.log());
  if (arguments.json || arguments.format == "json") {
    session.Answer(ToJson(comparison));
    return 0;
  }
  fmt::print("{}", Render(comparison, arguments.format.empty() ? "table" : arguments.format));
  return 0;
}

}  // namespace lieq
