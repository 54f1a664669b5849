// What two plans differ in, read from their documents alone: no model is needed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/plan_json.h"

namespace lieq {

/// One of the two plans. The figures are those that the document records; none of them where its
/// widths were edited since (Digest), for they are of the plan that it was.
struct ComparedPlan {
  PlanLayers layers;
  bool edited = false;
  std::optional<double> code_bits;
  std::optional<double> predicted_kl;  // nats a token
  std::optional<std::int64_t> bytes;   // of the weight files
  /// Of the container that it was made for, where that is another one: its name, and what it takes.
  std::string container;
  std::optional<std::int64_t> container_bytes;
};

/// A unit of a layer with different grids in the two plans.
struct UnitDifference {
  Index layer = 0;
  Unit unit{};
  std::array<Grid, 2> grids;  // where a plan does not say: the whole row, symmetric
};

/// Invariants: units in order of layer, then Unit, of layers that both plans have.
struct PlanDifference {
  std::array<ComparedPlan, 2> plans;
  std::vector<UnitDifference> units;

  [[nodiscard]] bool grouped(std::size_t plan) const { return plans[plan].layers.grouped; }
  /// As many layers, the same widths, and grids in both or in neither, the same too.
  [[nodiscard]] bool agree() const;
};

/// Throws Error naming the place for anything that is no plan. where_*: names of the documents.
/// Beyond the widths grids count where both plans have them.
[[nodiscard]] PlanDifference ComparePlans(const Json& a, const std::string& where_a, const Json& b,
                                          const std::string& where_b);

/// "schema": 1, "kind": "plan difference" (docs/records.md). names: of the two plans.
[[nodiscard]] Record ToJson(const PlanDifference& difference,
                            const std::array<std::string, 2>& names);

}  // namespace lieq
