#include "lieq/plan/plan_diff.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"

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
  plan.edited = object.Has("digest") &&
                object.String("digest") != (plan.layers.grouped ? Digest(plan.layers.plan)
                                                                : WidthDigest(plan.layers.plan));
  const auto code_bits = Figure(object, "code_bits"), kl = Figure(object, "predicted_kl");
  const auto bytes = object.Has("bytes") ? std::optional(object.Integer("bytes")) : std::nullopt;
  if (plan.edited) return plan;
  plan.code_bits = code_bits;
  plan.predicted_kl = kl;
  plan.bytes = bytes;
  if (object.Has("for")) {
    const JsonObject container = object.Object("for");
    plan.container = container.String("container");
    plan.container_bytes = container.Integer("bytes");
  }
  return plan;
}

}  // namespace

bool PlanDifference::agree() const {
  return units.empty() && plans[0].layers.plan.layers() == plans[1].layers.plan.layers() &&
         grouped(0) == grouped(1);
}

PlanDifference ComparePlans(const Json& a, const std::string& where_a, const Json& b,
                            const std::string& where_b) {
  PlanDifference difference{.plans = {Read(a, where_a), Read(b, where_b)}, .units = {}};
  const bool grouped = difference.grouped(0) && difference.grouped(1);
  const ModelGrids& first = difference.plans[0].layers.plan.grids;
  const ModelGrids& second = difference.plans[1].layers.plan.grids;
  const Index layers = std::min(first.layer_count(), second.layer_count());
  for (Index layer = 0; layer < layers; ++layer) {
    for (const Unit unit : kAllUnits) {
      UnitDifference row{
          .layer = layer, .unit = unit, .grids = {first.At(layer, unit), second.At(layer, unit)}};
      for (Grid& grid : row.grids) {
        if (!grouped) grid = {.bits = grid.bits, .group_size = 0};
      }
      if (row.grids[0] != row.grids[1]) difference.units.push_back(row);
    }
  }
  return difference;
}

Record ToJson(const PlanDifference& difference, const std::array<std::string, 2>& names) {
  Record json{{"schema", 1}, {"kind", "plan difference"}, {"agree", difference.agree()}};
  for (std::size_t i = 0; i < 2; ++i) {
    const ComparedPlan& plan = difference.plans[i];
    Record side{{"plan", names[i]},
                {"layers", plan.layers.plan.layers()},
                {"group_sizes", difference.grouped(i)},
                {"edited", plan.edited}};
    if (plan.code_bits) side["code_bits"] = *plan.code_bits;
    if (plan.predicted_kl) side["predicted_kl"] = *plan.predicted_kl;
    if (plan.bytes) side["bytes"] = *plan.bytes;
    if (plan.container_bytes) {
      side["for"] = {{"container", plan.container}, {"bytes", *plan.container_bytes}};
    }
    json["plans"].push_back(std::move(side));
  }
  const bool grouped = difference.grouped(0) && difference.grouped(1);
  Record& units = json["units"] = Record::array();
  for (const UnitDifference& unit : difference.units) {
    Record row{{"layer", unit.layer},
               {"unit", Name(unit.unit)},
               {"bits", {unit.grids[0].bits, unit.grids[1].bits}}};
    if (grouped) {
      row["group_size"] = {GroupRecord(unit.grids[0].group_size),
                           GroupRecord(unit.grids[1].group_size)};
    }
    if (unit.grids[0].offset != unit.grids[1].offset) {
      row["offset"] = {Name(unit.grids[0].offset), Name(unit.grids[1].offset)};
    }
    if (unit.grids[0].k_quant != unit.grids[1].k_quant) {
      row["k_quant"] = {unit.grids[0].k_quant, unit.grids[1].k_quant};
    }
    units.push_back(std::move(row));
  }
  return json;
}

}  // namespace lieq
