#include <fmt/format.h>

#include <algorithm>

#include "lieq/cli/commands.h"
#include "lieq/cli/terminal.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/plan/plan_diff.h"

namespace lieq {
namespace {

/// "2", or "2:64" where the plans say group sizes.
std::string GridText(const UnitDifference& unit, std::size_t plan, bool grouped) {
  return grouped ? Label(unit.grids[plan]) : std::to_string(unit.grids[plan].bits);
}

/// A figure of both sides, where one of them has it.
template <class Value, class Text>
void PrintFigure(std::string_view name, const std::optional<Value>& a,
                 const std::optional<Value>& b, const Text& text) {
  if (!a && !b) return;
  const auto side = [&](const std::optional<Value>& value) { return value ? text(*value) : "-"; };
  fmt::print("{:<18}{:<16}{}\n", name, side(a), side(b));
}

/// A row for each layer whose units differ alike, else one for each unit.
void PrintUnits(const PlanDifference& difference) {
  const bool grouped = difference.grouped(0) && difference.grouped(1);
  fmt::print("\n{:<8}{:<10}{:<16}{}\n", "layer", "unit", "A", "B");
  const std::vector<UnitDifference>& units = difference.units;
  for (std::size_t first = 0; first < units.size();) {
    std::size_t end = first + 1;
    while (end < units.size() && units[end].layer == units[first].layer &&
           units[end].grids == units[first].grids) {
      ++end;
    }
    const bool whole = end - first == kUnits;
    for (std::size_t i = first; i < (whole ? first + 1 : end); ++i) {
      fmt::print("{:<8}{:<10}{:<16}{}\n", units[i].layer, whole ? "all" : Name(units[i].unit),
                 GridText(units[i], 0, grouped), GridText(units[i], 1, grouped));
    }
    first = end;
  }
}

}  // namespace

int RunPlanDiff(const Arguments& arguments, CommandSession& session) {
  const std::array<std::string, 2> names{arguments.plans[0].string(), arguments.plans[1].string()};
  const PlanDocument first = ReadPlanDocument(arguments.plans[0]),
                     second = ReadPlanDocument(arguments.plans[1]);
  const PlanDifference difference =
      ComparePlans(first.json, first.where, second.json, second.where);
  if (arguments.json) {
    session.Answer(ToJson(difference, names));
    return 0;
  }
  const auto& [a, b] = difference.plans;
  fmt::print("A                 {}\nB                 {}\n\n{:18}{:<16}B\n", names[0], names[1], "",
             "A");
  const auto number = [](double value) { return fmt::format("{:.4f}", value); };
  PrintFigure("code bits", a.code_bits, b.code_bits, number);
  PrintFigure("predicted KL", a.predicted_kl, b.predicted_kl, number);
  const auto count = [](std::int64_t value) { return std::to_string(value); };
  PrintFigure("bytes", a.bytes, b.bytes, count);
  // Of one container in a row: bytes of two are no comparison.
  for (const ComparedPlan* each : {&a, &b}) {
    if (!each->container_bytes || (each == &b && a.container == b.container)) continue;
    const auto of = [&](const ComparedPlan& plan) {
      return plan.container == each->container ? plan.container_bytes : std::nullopt;
    };
    PrintFigure("bytes as " + each->container, of(a), of(b), count);
  }
  if (a.layers.plan.layers() != b.layers.plan.layers()) {
    fmt::print("{:<18}{:<16}{}\n", "layers", a.layers.plan.layers(), b.layers.plan.layers());
  }
  if (difference.grouped(0) != difference.grouped(1)) {
    fmt::print("{:<18}{:<16}{}\n", "group sizes", difference.grouped(0) ? "said" : "not said",
               difference.grouped(1) ? "said" : "not said");
  }
  for (std::size_t i = 0; i < 2; ++i) {
    if (!difference.plans[i].edited) continue;
    fmt::print("{} was edited by hand: its figures are of what it was, and left out\n",
               i == 0 ? "A" : "B");
  }
  if (!difference.units.empty()) PrintUnits(difference);
  if (difference.agree()) fmt::print("the plans agree\n");
  return 0;
}

}  // namespace lieq
