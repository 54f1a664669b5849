#include <fmt/format.h>

#include "lieq/cli/commands.h"
#include "lieq/cli/verification.h"
#include "lieq/pipeline/inputs.h"

namespace lieq {

Record ToJson(const Comparison& comparison) {
  Record first = Record::array();
  for (const Difference& each : comparison.differences) {
    Record record{{"kind", each.kind}, {"tensor", each.tensor}};
    if (each.row >= 0) {
      record["row"] = each.row;
      record["column"] = each.col;
    }
    record["expected"] = each.expected;
    record["found"] = each.found;
    record["count"] = each.count;
    first.push_back(std::move(record));
  }
  return {{"equal", comparison.equal()},   {"differences", comparison.count()},
          {"linears", comparison.linears}, {"same_grids", comparison.same_grids},
          {"values", comparison.values},   {"rounded", comparison.rounded},
          {"first", std::move(first)}};
}

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

int RunVerify(const Arguments& arguments, CommandSession& session) {
  const ModelFolder found = OpenInput(arguments.run.model, session.log());
  const ModelFolder expected = OpenInput(arguments.against, session.log());
  const Comparison comparison = CompareModels(
      expected, found, arguments.approximate ? RoundedMatrices::kAll : RoundedMatrices::kNone);
  if (arguments.json) {
    Record record{{"schema", 1},
                  {"kind", "verification"},
                  {"model", arguments.run.model.string()},
                  {"against", arguments.against.string()}};
    record.update(ToJson(comparison));
    session.Answer(record);
  } else {
    PrintComparison(comparison);
  }
  return comparison.equal() ? 0 : kDiffer;
}

}  // namespace lieq
