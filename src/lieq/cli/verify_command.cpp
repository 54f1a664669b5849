#include <fmt/format.h>

#include "lieq/cli/commands.h"
#include "lieq/cli/print_comparison.h"
#include "lieq/cli/requests_of.h"
#include "lieq/container/packed_file.h"
#include "lieq/pipeline/export.h"
#include "lieq/pipeline/export_record.h"
#include "lieq/pipeline/tune.h"

namespace lieq {

void PrintComparison(const Comparison& comparison) {
  if (comparison.equal()) {
    fmt::print(
        "verified       {} weights of {} linears and the ends are equal, {} bit for bit in the "
        "same form\n",
        comparison.values, comparison.linears, comparison.same_grids);
    for (const auto& [type, count] : comparison.rounded) {
      fmt::print("rounded        {} {} to the nearest values of {}\n", count,
                 count == 1 ? "matrix" : "matrices", type);
    }
    return;
  }
  for (const Difference& each : comparison.differences) {
    fmt::print("{:<14} {}{}: expected {}, found {}", each.kind, each.tensor, PlaceOf(each),
               each.expected, each.found);
    if (each.count > 1) fmt::print(" (and {} more)", each.count - 1);
    fmt::print("\n");
  }
  fmt::print("differences    {}\n", comparison.count());
}

namespace {

/// A file that has the hashes of what was written.
int CheckAlone(const std::filesystem::path& file, const Arguments& arguments,
               CommandSession& session) {
  if (!IsPackedFile(file)) throw UsageError("--against MODEL: which model must it equal?");
  CheckHashes(file, session.pool());
  if (arguments.json) {
    session.Answer(
        {{"schema", 1}, {"kind", "verification"}, {"model", file.string()}, {"equal", true}});
  } else {
    fmt::print("verified       every byte is the one that was written\n");
  }
  return 0;
}

}  // namespace

int RunVerify(const Arguments& arguments, CommandSession& session) {
  const VerifyRequest request = VerifyRequestOf(arguments);
  if (request.against.empty()) return CheckAlone(request.model, arguments, session);
  Comparison comparison = Verify(request, session);
  std::vector<Difference> moved;
  if (arguments.tuned) moved = TakeTuned(comparison, *arguments.tuned);
  if (arguments.json) {
    Record record = VerificationRecord(request, comparison);
    if (arguments.tuned) record["moved"] = Record::object();
    for (const Difference& each : moved) record["moved"][each.kind] = each.count;
    session.Answer(record);
  } else {
    for (const Difference& each : moved) {
      if (each.kind == "values") continue;  // what follows from the others
      fmt::print("moved          {} {}\n", each.count, each.kind);
    }
    if (arguments.tuned && comparison.equal()) {
      fmt::print("verified       everything else is equal: of {} linears and the ends\n",
                 comparison.linears);
      return 0;
    }
    PrintComparison(comparison);
  }
  return comparison.equal() ? 0 : kDiffer;
}

}  // namespace lieq
