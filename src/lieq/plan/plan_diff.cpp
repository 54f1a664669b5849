#include "lieq/plan/plan_diff.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/plan/plan_json.h"

namespace lieq {
namespace {

std::optional<double> Figure(const JsonObject& object, std::string_view key) {
  if (!object.Has(key)) return std::nullopt;
  const double value = object.Number(key);
  if (!std::isfinite(value)) {
    throw Error({.what = "value out of range",
                 .where = object.Where(key),
                 .expected = "a finite number",
                 .found = object.At(key).dump()});
  }
  return value;
}

ComparedPlan Read(const Json& json, const std::string& where) {
  ComparedPlan plan{.layers = LayersFromJson(json, where)};
  const JsonObject object(json, where);
  plan.edited = object.Has("digest") && object.String("digest") != Digest(plan.layers);
  const auto code_bits = Figure(object, "code_bits"), kl = Figure(object, "predicted_kl");
  const auto bytes = object.Has("bytes") ? std::optional(object.Integer("bytes")) : std::nullopt;
  if (plan.edited) return plan;
  plan.code_bits = code_bits;
  plan.predicted_kl = kl;
  plan.bytes = bytes;
  return plan;
}

Record GroupRecord(Index size) {
  return size == 0 ? Record("row") : Record(size);
}

}  // namespace

bool PlanDifference::agree() const {
  return units.empty() && plans[0].layers.bits.size() == plans[1].layers.bits.size() &&
         grouped(0) == grouped(1);
}

PlanDifference ComparePlans(const Json& a, const std::string& where_a, const Json& b,
                            const std::string& where_b) {
  PlanDifference difference{.plans = {Read(a, where_a), Read(b, where_b)}, .units = {}};
  const bool grouped = difference.grouped(0) && difference.grouped(1);
  const Plan &first = difference.plans[0].layers, &second = difference.plans[1].layers;
  for (std::size_t layer = 0; layer < std::min(first.bits.size(), second.bits.size()); ++layer) {
    for (const Unit unit : kAllUnits) {
      const auto u = static_cast<std::size_t>(unit);
      UnitDifference row{.layer = static_cast<Index>(layer),
                         .unit = unit,
                         .bits = {first.bits[layer][u], second.bits[layer][u]},
                         .group_size = {}};
      if (grouped) row.group_size = {first.group_sizes[layer][u], second.group_sizes[layer][u]};
      const bool same =
          row.bits[0] == row.bits[1] && (!grouped || row.group_size[0] == row.group_size[1]);
      if (!same) difference.units.push_back(row);
    }
  }
  return difference;
}

Record ToJson(const PlanDifference& difference, const std::array<std::string, 2>& names) {
  Record json{{"schema", 1}, {"kind", "plan difference"}, {"agree", difference.agree()}};
  for (std::size_t i = 0; i < 2; ++i) {
    const ComparedPlan& plan = difference.plans[i];
    Record side{{"plan", names[i]},
                {"layers", plan.layers.bits.size()},
                {"group_sizes", difference.grouped(i)},
                {"edited", plan.edited}};
    if (plan.code_bits) side["code_bits"] = *plan.code_bits;
    if (plan.predicted_kl) side["predicted_kl"] = *plan.predicted_kl;
    if (plan.bytes) side["bytes"] = *plan.bytes;
    json["plans"].push_back(std::move(side));
  }
  const bool grouped = difference.grouped(0) && difference.grouped(1);
  Record& units = json["units"] = Record::array();
  for (const UnitDifference& unit : difference.units) {
    Record row{
        {"layer", unit.layer}, {"unit", Name(unit.unit)}, {"bits", {unit.bits[0], unit.bits[1]}}};
    if (grouped) {
      row["group_size"] = {GroupRecord(unit.group_size[0]), GroupRecord(unit.group_size[1])};
    }
    units.push_back(std::move(row));
  }
  return json;
}

}  // namespace lieq
