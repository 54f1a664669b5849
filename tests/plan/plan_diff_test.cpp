#include "lieq/plan/plan_diff.h"

#include <gtest/gtest.h>

#include <string>

#include "lieq/plan/allocate.h"
#include "lieq/plan/plan_json.h"
#include "tests/support/error_of.h"
#include "tests/support/row_grid.h"

namespace lieq {
namespace {

ModelConfig Config(Index layers = 4) {
  return {.layers = layers,
          .hidden = 128,
          .intermediate = 256,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = 64};
}

/// As it comes out of a file.
Json Document(const Plan& plan) {
  return ParseJson(ToJson(plan, Config(plan.layers())).dump(), "plan.json");
}

/// A document of widths alone, as one written by hand.
Json OfWidths(int bits, Index layers = 4) {
  Json json{{"schema", 1}, {"kind", "plan"}, {"layers", Json::array()}};
  for (Index i = 0; i < layers; ++i) json["layers"].push_back({{"layer", i}, {"bits", bits}});
  return json;
}

PlanDifference Compare(const Json& a, const Json& b) {
  return ComparePlans(a, "a.json", b, "b.json");
}

Plan Grouped(int bits, Index group) {
  return UniformPlan({.bits = bits, .group_size = group}, Config());
}

/// Changes the grid of a unit.
template <class Change>
void Edit(Plan& plan, Index layer, Unit unit, const Change& change) {
  Grid grid = plan.grids.At(layer, unit);
  change(grid);
  plan.grids.Set(layer, unit, grid);
}

TEST(PlanDiff, ThePlanItselfAgrees) {
  for (const Plan& plan : {UniformPlan(RowGrid(2), Config()), Grouped(4, 64)}) {
    const PlanDifference difference = Compare(Document(plan), Document(plan));

    EXPECT_TRUE(difference.agree());
    EXPECT_TRUE(difference.units.empty());
  }
}

TEST(PlanDiff, NamesTheUnitsOfOtherWidthsOrGroupSizes) {
  Plan a = Grouped(2, 64), b = a;
  Edit(b, 1, Unit::kO, [](Grid& grid) { grid.bits = 4; });
  Edit(b, 3, Unit::kDown, [](Grid& grid) { grid.group_size = 0; });

  const PlanDifference difference = Compare(Document(a), Document(b));

  ASSERT_EQ(difference.units.size(), 2u);
  EXPECT_EQ(difference.units[0].layer, 1);
  EXPECT_EQ(difference.units[0].unit, Unit::kO);
  EXPECT_EQ(difference.units[0].grids[0].bits, 2);
  EXPECT_EQ(difference.units[0].grids[1].bits, 4);
  EXPECT_EQ(difference.units[1].layer, 3);
  EXPECT_EQ(difference.units[1].unit, Unit::kDown);
  EXPECT_EQ(difference.units[1].grids[0].group_size, 64);
  EXPECT_EQ(difference.units[1].grids[1].group_size, 0);
  EXPECT_FALSE(difference.agree());
}

TEST(PlanDiff, NamesTheUnitsOfOtherOffsets) {
  Plan a = Grouped(2, 64), b = a;
  Edit(b, 2, Unit::kO, [](Grid& grid) { grid.offset = Offset::kHalf; });

  const PlanDifference difference = Compare(Document(a), Document(b));

  ASSERT_EQ(difference.units.size(), 1u);
  EXPECT_EQ(Label(difference.units[0].grids[1]), "2:64:half");
}

TEST(PlanDiff, APlanThatSaysNoGroupSizesDoesNotAgreeWithOneThatDoes) {
  const PlanDifference difference = Compare(OfWidths(2), Document(Grouped(2, 64)));

  EXPECT_TRUE(difference.units.empty());
  EXPECT_FALSE(difference.agree());
}

TEST(PlanDiff, ComparesTheLayersThatBothHave) {
  Plan longer = UniformPlan(RowGrid(2), Config(6));
  longer.grids.SetLayer(0, RowGrid(4));

  const PlanDifference difference =
      Compare(Document(longer), Document(UniformPlan(RowGrid(2), Config())));

  EXPECT_EQ(difference.units.size(), 4u);
  EXPECT_EQ(difference.plans[0].layers.plan.layers(), 6);
  EXPECT_FALSE(difference.agree());
}

TEST(PlanDiff, TakesFiguresAsTheyAreRecordedAndNoneOfAnEditedPlan) {
  Plan plan = UniformPlan(RowGrid(2), Config());
  plan.predicted_kl = 0.25;
  Json a = Document(plan), b = a;
  a["bytes"] = 1234;
  a["for"] = {{"container", "gguf"}, {"bytes", 2345}};
  b["for"] = a["for"];
  b["layers"][2]["bits"] = 4;

  const PlanDifference difference = Compare(a, b);

  EXPECT_EQ(difference.plans[0].code_bits, 2.0);
  EXPECT_EQ(difference.plans[0].predicted_kl, 0.25);
  EXPECT_EQ(difference.plans[0].bytes, 1234);
  EXPECT_EQ(difference.plans[0].container, "gguf");
  EXPECT_EQ(difference.plans[0].container_bytes, 2345);
  EXPECT_EQ(ToJson(difference, {"a", "b"})["plans"][0]["for"]["bytes"], 2345);
  EXPECT_FALSE(difference.plans[1].container_bytes);
  EXPECT_TRUE(difference.plans[1].edited);
  EXPECT_FALSE(difference.plans[1].code_bits);
  EXPECT_FALSE(difference.plans[1].predicted_kl);
}

TEST(PlanDiff, ReadsAPlanByHand) {
  const Json plan =
      ParseJson(R"({"schema": 1, "kind": "plan", "layers": [{"layer": 0, "bits": 4}]})", "a.json");

  const PlanDifference difference = Compare(plan, plan);

  EXPECT_TRUE(difference.agree());
  EXPECT_FALSE(difference.plans[0].edited);
  EXPECT_FALSE(difference.plans[0].code_bits);
}

TEST(PlanDiff, IsARecord) {
  Plan a = Grouped(2, 64), b = a;
  b.grids.Set(1, Unit::kO, RowGrid(4));

  const Record record = ToJson(Compare(Document(a), Document(b)), {"a.json", "b.json"});

  EXPECT_EQ(record["schema"], 1);
  EXPECT_EQ(record["kind"], "plan difference");
  EXPECT_EQ(record["agree"], false);
  EXPECT_EQ(record["plans"][0]["plan"], "a.json");
  EXPECT_EQ(record["plans"][0]["layers"], 4);
  EXPECT_EQ(record["units"].dump(),
            R"([{"layer":1,"unit":"o","bits":[2,4],"group_size":[64,"row"]}])");
}

TEST(PlanDiff, NamesThePlaceOfWhatIsNoPlan) {
  const Json good = Document(UniformPlan(RowGrid(2), Config()));
  Json kind = good, schema = good, empty = good, width = good, kl = good;
  kind["kind"] = "diagnostics";
  schema["schema"] = 2;
  empty["layers"] = Json::array();
  width["layers"][3]["bits"] = 7;
  kl["predicted_kl"] = "low";

  EXPECT_EQ(ProblemOf([&] { (void)Compare(kind, good); }).where, "a.json: /kind");
  EXPECT_EQ(ProblemOf([&] { (void)Compare(good, schema); }).where, "b.json: /schema");
  EXPECT_EQ(ProblemOf([&] { (void)Compare(good, empty); }).where, "b.json: /layers");
  EXPECT_EQ(ProblemOf([&] { (void)Compare(width, good); }).where, "a.json: /layers/3/bits");
  EXPECT_EQ(ProblemOf([&] { (void)Compare(good, kl); }).where, "b.json: /predicted_kl");
}

}  // namespace
}  // namespace lieq
