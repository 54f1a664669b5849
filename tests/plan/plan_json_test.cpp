#include "lieq/plan/plan_json.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/plan/allocate.h"
#include "tests/support/row_grid.h"

namespace lieq {
namespace {

constexpr Index kLayers = 8;

ModelConfig Config() {
  return {
      .layers = kLayers, .hidden = 8, .intermediate = 24, .heads = 2, .kv_heads = 1, .head_dim = 4};
}

Plan Ranked(std::uint64_t seed) {
  Rng rng(seed);
  std::vector<double> scores(Size(kLayers));
  for (double& score : scores) score = rng.Normal() * 1e-3;
  Plan plan = Allocate(std::move(scores), "compactness",
                       {.bits = 2 + 2 * rng.Uniform(),
                        .low = RowGrid(2),
                        .high = RowGrid(4),
                        .rounding = seed % 2 == 1 ? Rounding::kPaper : Rounding::kDown},
                       Config());
  plan.model_hash = "0123456789abcdef";
  plan.calibration_hash = "fedcba9876543210";
  return plan;
}

/// Through the text, as a file would.
Plan ThroughText(const Plan& plan) {
  return PlanFromJson(ParseJson(ToJson(plan, Config()).dump(2), "plan.json"), Config(), "plan.json",
                      RowGrid);
}

/// An optimal plan with everything that such a plan says.
Plan Chosen() {
  Plan plan{.ranking = "solo",
            .allocation = "optimal",
            .granularity = "group",
            .requested = {.bpw = 2.6},
            .model_hash = "0123456789abcdef",
            .calibration_hash = "fedcba9876543210",
            .candidates = {{.bits = 2, .group_size = 4},
                           {.bits = 3, .group_size = 0, .offset = Offset::kFloat},
                           {.bits = 4, .group_size = 8, .offset = Offset::kHalf}},
            .predicted_kl = 0.1,
            .checks = {{0.1, 0.125, -0.01}, {0.3, 1.0 / 3, 0.2}}};
  Rng rng(3);
  for (Index layer = 0; layer < kLayers; ++layer) {
    std::array<Grid, kUnits> grids;
    for (Grid& grid : grids) {
      grid = plan.candidates[layer == 2 ? 1 : rng.Below(3)];
      plan.damage.push_back({rng.Uniform(), -rng.Uniform(), std::nullopt});
    }
    plan.grids.AddLayer(grids);
  }
  plan.low = 2;
  plan.high = 4;
  plan.requested_bits = CodeBits(plan, Config());
  return plan;
}

Plan ChosenAndEdited(const std::function<void(Json&)>& edit) {
  Json json = ParseJson(ToJson(Chosen(), Config()).dump(), "plan.json");
  edit(json);
  return PlanFromJson(json, Config(), "plan.json", RowGrid);
}

/// The plan after `edit` of its JSON.
Plan Edited(const std::function<void(Json&)>& edit) {
  Json json = ParseJson(ToJson(Ranked(1), Config()).dump(), "plan.json");
  edit(json);
  return PlanFromJson(json, Config(), "plan.json", RowGrid);
}

class PlanJsonProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, PlanJsonProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{50}));

TEST_P(PlanJsonProperty, ARankedPlanComesBackAsItWas) {
  const Plan plan = Ranked(GetParam());

  EXPECT_EQ(ThroughText(plan), plan);
}

TEST_P(PlanJsonProperty, AnEditedPlanComesBackAsItWas) {
  Rng rng(GetParam());
  Plan plan = Ranked(GetParam());
  plan.grids.layers.clear();
  plan.grids.AddLayer({RowGrid(2), RowGrid(3), RowGrid(4), RowGrid(8)});
  for (Index layer = 1; layer < kLayers; ++layer) {
    std::array<Grid, kUnits> units;
    for (Grid& grid : units) grid = RowGrid(kWidths[rng.Below(kWidths.size())]);
    plan.grids.AddLayer(units);
  }
  plan.low = 2;
  plan.high = 8;
  plan.ranking = "edited";

  EXPECT_EQ(ThroughText(plan), plan);
}

TEST(PlanJson, AUniformPlanComesBackAsItWas) {
  for (const int bits : kWidths) {
    const Plan plan = UniformPlan(RowGrid(bits), Config());

    EXPECT_EQ(ThroughText(plan), plan);
  }
}

TEST(PlanJson, TheWeightsOfACombinedRankingComeBack) {
  Plan plan = Ranked(1);
  plan.ranking = "combined";
  plan.ranking_weights = {0.5, 0, 1.0 / 3};

  EXPECT_EQ(ThroughText(plan), plan);
  for (const char* bad : {"[1, 1]", "[1, 1, -1]", "[1, 1, \"1\"]", "3"}) {
    EXPECT_THROW((void)Edited([&](Json& json) { json["ranking_weights"] = Json::parse(bad); }),
                 Error)
        << bad;
  }
}

TEST(PlanJson, TheEndsComeBack) {
  Plan plan = UniformPlan(RowGrid(2), Config());
  for (const Index group : {0, 48, 128}) {
    plan.grids.ends.embedding = {.bits = 8, .group_size = group};

    EXPECT_EQ(ThroughText(plan), plan);
    const PlanLayers layers = LayersFromJson(ParseJson(ToJson(plan, Config()).dump(), "p"), "p");
    EXPECT_EQ(layers.plan.grids.ends, plan.grids.ends);
  }
  plan.grids.ends = {.embedding = Grid{.bits = 4, .group_size = 32},
                     .head = Grid{.bits = 2, .group_size = 128}};
  ModelConfig untied = Config();
  untied.tied = false;
  const Json said = ParseJson(ToJson(plan, untied).dump(), "p");
  EXPECT_EQ(said["ends_group_size"].dump(), R"({"embedding":32,"head":128})");
  EXPECT_EQ(LayersFromJson(said, "p").plan.grids.ends, plan.grids.ends);
  for (const KQuant& kind : KQuants()) {
    plan.grids.ends.head = kind.grid;
    const Json mixed = ParseJson(ToJson(plan, untied).dump(), "p");
    EXPECT_EQ(mixed["ends_grid"].dump(),
              R"({"embedding":"affine","head":")" + std::string(kind.name) + "\"}");
    EXPECT_EQ(LayersFromJson(mixed, "p").plan.grids.ends, plan.grids.ends);
    Plan tied = plan;
    tied.grids.ends = {.embedding = kind.grid, .head = {}};
    const Json one = ParseJson(ToJson(tied, Config()).dump(), "p");
    EXPECT_EQ(one["ends_grid"], kind.name);
    EXPECT_EQ(LayersFromJson(one, "p").plan.grids.ends, tied.grids.ends);
    Json wrong = one;
    wrong["embedding_bits"] = 8;
    EXPECT_THROW((void)LayersFromJson(wrong, "p"), Error) << kind.name;
  }
  EXPECT_THROW((void)Edited([](Json& json) {
                 json["embedding_bits"] = 7;
                 json["ends_group_size"] = 16;
               }),
               Error);
  EXPECT_THROW((void)Edited([](Json& json) { json["ends_group_size"] = "all"; }), Error);
  EXPECT_THROW((void)Edited([](Json& json) {
                 json["embedding_bits"] = 4;
                 json["ends_group_size"] = {{"head", 32}};
               }),
               Error);
  EXPECT_THROW((void)Edited([](Json& json) { json["requested"]["rounding"] = "up"; }), Error);
}

TEST(PlanJson, ReadsLikeATableOfLayers) {
  Plan plan = UniformPlan(RowGrid(2), Config());
  plan.grids.Set(1, Unit::kQkv, RowGrid(4));
  plan.grids.Set(1, Unit::kO, RowGrid(4));
  plan.ranking = "edited";

  const Record json = ToJson(plan, Config());

  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["kind"], "plan");
  EXPECT_EQ(json["widths"], (Record{2, 2}));
  EXPECT_EQ(json["layers"][0].dump(),
            R"({"layer":0,"bits":2,"group_size":"row","offset":"symmetric"})");
  EXPECT_EQ(json["layers"][1]["bits"].dump(), R"({"qkv":4,"o":4,"gate_up":2,"down":2})");
}

TEST(PlanJson, KnowsThatAWidthWasEdited) {
  const Plan plan = Edited([](Json& json) { json["layers"][3]["bits"] = 8; });

  EXPECT_EQ(plan.ranking, "edited");
  EXPECT_EQ(plan.BitsOf(3, Unit::kDown), 8);
  EXPECT_EQ(plan.high, 8);
  EXPECT_EQ(plan.scores, Ranked(1).scores);
}

TEST(PlanJson, AnOptimalPlanComesBackAsItWas) {
  const Plan plan = ChosenAndEdited([](Json&) {});

  EXPECT_EQ(plan, Chosen());
  const Record json = ToJson(plan, Config());
  EXPECT_EQ(json["requested"].dump(), R"({"bpw":2.6})");
  EXPECT_EQ(json["layers"][2]["group_size"], "row");
  EXPECT_TRUE(json["layers"][0]["damage"]["o"][2].is_null());
}

TEST(PlanJson, ARequestComesBackAsItWas) {
  const std::vector<PlanRequest> requests{
      {}, {.bits = 2.25}, {.bpw = 2.5}, {.size = 50'000'000'000}, {.high_layers = 0}};
  for (const PlanRequest& request : requests) {
    Plan plan = UniformPlan(RowGrid(2), Config());
    plan.requested = request;

    EXPECT_EQ(ThroughText(plan).requested, request);
  }
}

TEST(PlanJson, APlanUnderACeilingIsNotTakenForEdited) {
  // Three of eight layers, where the top-m rule would round 2.8 bits to another number of them.
  Plan plan = RaiseLayers(std::vector<Index>{0, 3, 4}, RowGrid(2), RowGrid(4), Config());
  plan.scores = {3, 0, 0, 2, 1, 0, 0, 0};
  plan.ranking = "compactness";
  plan.requested = {.bpw = 3.4};
  plan.requested_bits = 2.2;

  EXPECT_EQ(ThroughText(plan), plan);
}

TEST(PlanJson, AnEditedWidthOrGroupSizeLosesThePrediction) {
  const std::vector<std::function<void(Json&)>> edits{
      [](Json& j) { j["layers"][2]["bits"] = 8; },
      [](Json& j) { j["layers"][2]["group_size"] = 2; },
      [](Json& j) { j["layers"][2]["offset"] = "integer"; }};
  for (const auto& edit : edits) {
    const Plan plan = ChosenAndEdited(edit);

    EXPECT_EQ(plan.ranking, "edited");
    EXPECT_EQ(plan.predicted_kl, std::nullopt);
    EXPECT_TRUE(plan.checks.empty());
    EXPECT_EQ(plan.damage, Chosen().damage);
    EXPECT_EQ(ThroughText(plan), plan);
  }
}

TEST(PlanJson, AnEditOfTheRestIsNoEditOfThePlan) {
  const Plan plan = ChosenAndEdited([](Json& j) {
    j["code_bits"] = 7;
    j["note"] = "for the small machine";
  });

  EXPECT_EQ(plan, Chosen());
}

TEST(PlanJson, AWidthPutBackIsNoEdit) {
  const Plan plan = ChosenAndEdited([](Json& j) {
    const Json before = j["layers"][2]["bits"];
    j["layers"][2]["bits"] = {
        {"qkv", before}, {"o", before}, {"gate_up", before}, {"down", before}};
  });

  EXPECT_EQ(plan, Chosen());
}

TEST(PlanJson, APlanByHandNeedsLayersAlone) {
  Json json = ParseJson(R"({"schema": 1, "kind": "plan", "layers": []})", "plan.json");
  for (Index i = 0; i < kLayers; ++i) {
    json["layers"].push_back({{"layer", i}, {"bits", i == 2 ? 4 : 2}});
  }

  const Plan plan = PlanFromJson(json, Config(), "plan.json", [](int bits) {
    return Grid{.bits = bits, .group_size = 4, .offset = Offset::kInteger};
  });

  EXPECT_EQ(plan.BitsOf(2, Unit::kQkv), 4);
  EXPECT_EQ(plan.grids.At(2, Unit::kDown),
            (Grid{.bits = 4, .group_size = 4, .offset = Offset::kInteger}));
  EXPECT_EQ(plan.ranking, "edited");
  EXPECT_EQ(plan.low, 2);
  EXPECT_EQ(plan.high, 4);
  EXPECT_DOUBLE_EQ(plan.requested_bits, 2.25);
}

struct Hostile {
  const char* name;
  std::function<void(Json&)> edit;
  const char* where;
  const char* expected;
  const char* found;
};
class PlanJsonRefuses : public testing::TestWithParam<Hostile> {};

TEST_P(PlanJsonRefuses, AndSaysWhereAndWhy) {
  const Hostile& hostile = GetParam();
  try {
    (void)Edited(hostile.edit);
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().where, hostile.where);
    EXPECT_EQ(error.problem().expected, hostile.expected);
    EXPECT_EQ(error.problem().found, hostile.found);
  }
}

constexpr const char* kWidthList = "one of 2, 3, 4, 5, 6, 8";
INSTANTIATE_TEST_SUITE_P(
    Cases, PlanJsonRefuses,
    testing::Values(
        Hostile{"schema", [](Json& j) { j["schema"] = 2; }, "plan.json: /schema",
                "1, the one this version reads", "2"},
        Hostile{"no_schema", [](Json& j) { j.erase("schema"); }, "plan.json: /schema",
                "a whole number", "nothing"},
        Hostile{"kind", [](Json& j) { j["kind"] = "diagnostics"; }, "plan.json: /kind", "\"plan\"",
                "\"diagnostics\""},
        Hostile{"layers_missing", [](Json& j) { j.erase("layers"); }, "plan.json: /layers", "", ""},
        Hostile{"layers_object", [](Json& j) { j["layers"] = Json::object(); },
                "plan.json: /layers", "an array", "{}"},
        Hostile{"too_few", [](Json& j) { j["layers"].erase(7); }, "plan.json: /layers",
                "8 layers, as the model has", "7"},
        Hostile{"too_many", [](Json& j) { j["layers"].push_back(j["layers"][7]); },
                "plan.json: /layers", "8 layers, as the model has", "9"},
        Hostile{"row_type", [](Json& j) { j["layers"][2] = 4; }, "plan.json: /layers/2", "",
                "number"},
        Hostile{"twice", [](Json& j) { j["layers"][4]["layer"] = 3; }, "plan.json: /layers/4/layer",
                "4: layers in order, each once", "3"},
        Hostile{"swapped", [](Json& j) { std::swap(j["layers"][0], j["layers"][1]); },
                "plan.json: /layers/0/layer", "0: layers in order, each once", "1"},
        Hostile{"width_7", [](Json& j) { j["layers"][7]["bits"] = 7; }, "plan.json: /layers/7/bits",
                kWidthList, "7"},
        Hostile{"width_0", [](Json& j) { j["layers"][7]["bits"] = 0; }, "plan.json: /layers/7/bits",
                kWidthList, "0"},
        Hostile{"width_huge", [](Json& j) { j["layers"][7]["bits"] = 4294967298; },
                "plan.json: /layers/7/bits", kWidthList, "4294967298"},
        Hostile{"width_half", [](Json& j) { j["layers"][7]["bits"] = 2.5; },
                "plan.json: /layers/7/bits", "a whole number", "2.5"},
        Hostile{"width_text", [](Json& j) { j["layers"][7]["bits"] = "4"; },
                "plan.json: /layers/7/bits", "a whole number", "\"4\""},
        Hostile{"width_missing", [](Json& j) { j["layers"][7].erase("bits"); },
                "plan.json: /layers/7/bits", "a whole number", "nothing"},
        Hostile{"unit_missing",
                [](Json& j) { j["layers"][6]["bits"] = {{"qkv", 4}, {"o", 4}, {"down", 2}}; },
                "plan.json: /layers/6/bits/gate_up", "a whole number", "nothing"},
        Hostile{"unit_unknown",
                [](Json& j) {
                  j["layers"][6]["bits"] = {
                      {"qkv", 4}, {"o", 4}, {"gate_up", 2}, {"down", 2}, {"up", 2}};
                },
                "plan.json: /layers/6/bits/up", "qkv, o, gate_up, down", ""},
        Hostile{"unit_width",
                [](Json& j) {
                  j["layers"][6]["bits"] = {{"qkv", 16}, {"o", 4}, {"gate_up", 2}, {"down", 2}};
                },
                "plan.json: /layers/6/bits/qkv", kWidthList, "16"},
        Hostile{"row_key", [](Json& j) { j["layers"][1]["bit"] = 4; }, "plan.json: /layers/1/bit",
                "layer, bits, group_size, offset, grid, score, damage", ""},
        Hostile{"score_text", [](Json& j) { j["layers"][1]["score"] = "high"; },
                "plan.json: /layers/1/score", "a number", "\"high\""},
        Hostile{"score_missing", [](Json& j) { j["layers"][5].erase("score"); },
                "plan.json: /layers/5/score", "a number, as in layer 0", "nothing"},
        Hostile{"score_extra",
                [](Json& j) {
                  for (auto& row : j["layers"]) row.erase("score");
                  j["layers"][5]["score"] = 1;
                },
                "plan.json: /layers/5/score", "nothing, as in layer 0", "1"},
        Hostile{"score_infinite",
                [](Json& j) { j["layers"][1]["score"] = std::numeric_limits<double>::infinity(); },
                "plan.json: /layers/1/score", "a finite number", "null"},
        Hostile{"ranking", [](Json& j) { j["ranking"] = 3; }, "plan.json: /ranking", "a string",
                "3"},
        Hostile{"widths_one", [](Json& j) { j["widths"] = Json::array({4}); }, "plan.json: /widths",
                "two of 2, 3, 4, 5, 6, 8, the smaller one first", "[4]"},
        Hostile{"widths_order", [](Json& j) { j["widths"] = {4, 2}; }, "plan.json: /widths",
                "two of 2, 3, 4, 5, 6, 8, the smaller one first", "[4,2]"},
        Hostile{"requested", [](Json& j) { j["requested_bits"] = -1; },
                "plan.json: /requested_bits", "2 to 8", "-1"},
        Hostile{"hash", [](Json& j) { j["model_hash"] = true; }, "plan.json: /model_hash",
                "a string", "true"}),
    [](const auto& row) { return std::string(row.param.name); });

class OptimalPlanJsonRefuses : public testing::TestWithParam<Hostile> {};

TEST_P(OptimalPlanJsonRefuses, AndSaysWhere) {
  try {
    (void)ChosenAndEdited(GetParam().edit);
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().where, std::string("plan.json: ") + GetParam().where);
    EXPECT_NE(error.problem().expected.find(GetParam().expected), std::string::npos)
        << error.problem().expected;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, OptimalPlanJsonRefuses,
    testing::Values(
        Hostile{"allocation", [](Json& j) { j["allocation"] = "best"; }, "/allocation",
                "top-m, optimal, uniform"},
        Hostile{"granularity", [](Json& j) { j["granularity"] = "row"; }, "/granularity",
                "layer, group"},
        Hostile{"requested_type", [](Json& j) { j["requested"] = 2.5; }, "/requested", ""},
        Hostile{"requested_key", [](Json& j) { j["requested"]["bytes"] = 2.5; }, "/requested/bytes",
                "bits, bpw, size, high_layers"},
        Hostile{"requested_text", [](Json& j) { j["requested"]["bpw"] = "2.5"; }, "/requested/bpw",
                "a number"},
        Hostile{"requested_size", [](Json& j) { j["requested"]["size"] = 0.5; }, "/requested/size",
                "a whole number"},
        Hostile{"digest", [](Json& j) { j["digest"] = 3; }, "/digest", "a string"},
        Hostile{"group_zero", [](Json& j) { j["layers"][2]["group_size"] = 0; },
                "/layers/2/group_size", "a number of columns, or \"row\""},
        Hostile{"group_negative", [](Json& j) { j["layers"][2]["group_size"] = -64; },
                "/layers/2/group_size", "a number of columns"},
        Hostile{"group_huge", [](Json& j) { j["layers"][2]["group_size"] = 1 << 30; },
                "/layers/2/group_size", "a number of columns"},
        Hostile{"group_half", [](Json& j) { j["layers"][2]["group_size"] = 63.5; },
                "/layers/2/group_size", "a number of columns"},
        Hostile{"group_text", [](Json& j) { j["layers"][2]["group_size"] = "all"; },
                "/layers/2/group_size", "a number of columns"},
        Hostile{"offset_unknown", [](Json& j) { j["layers"][2]["offset"] = "asymmetric"; },
                "/layers/2/offset", "symmetric, half, integer or float"},
        Hostile{"offset_number", [](Json& j) { j["layers"][2]["offset"] = 1; }, "/layers/2/offset",
                "symmetric, half, integer or float"},
        Hostile{"group_divides_some", [](Json& j) { j["layers"][2]["group_size"] = 24; },
                "/layers/2/group_size", "a divisor of 8"},
        Hostile{"group_unit_missing",
                [](Json& j) { j["layers"][2]["group_size"] = {{"qkv", 64}, {"o", 64}}; },
                "/layers/2/group_size/gate_up", ""},
        Hostile{"group_unit_unknown",
                [](Json& j) {
                  j["layers"][2]["group_size"] = {
                      {"qkv", 64}, {"o", 64}, {"gate_up", 64}, {"down", 64}, {"up", 64}};
                },
                "/layers/2/group_size/up", "qkv, o, gate_up, down"},
        Hostile{"group_in_some", [](Json& j) { j["layers"][5].erase("group_size"); },
                "/layers/5/group_size", ""},
        Hostile{"group_not_in_the_first",
                [](Json& j) {
                  j["layers"][0].erase("group_size");
                  j["layers"][0].erase("offset");
                },
                "/layers/1/group_size", ""},
        Hostile{"candidates_type", [](Json& j) { j["candidates"] = "2:64"; }, "/candidates",
                "an array"},
        Hostile{"candidates_many", [](Json& j) { j["candidates"] = Json(65, j["candidates"][0]); },
                "/candidates", "at most 64"},
        Hostile{"candidate_bits", [](Json& j) { j["candidates"][1]["bits"] = 1; },
                "/candidates/1/bits", "2, 3, 4, 5, 6 or 8"},
        Hostile{"damage_short", [](Json& j) { j["layers"][4]["damage"]["o"].erase(0); },
                "/layers/4/damage/o", "one number, or null, for each candidate"},
        Hostile{"damage_text", [](Json& j) { j["layers"][4]["damage"]["o"][1] = "0"; },
                "/layers/4/damage/o", "numbers or null"},
        Hostile{"damage_infinite",
                [](Json& j) {
                  j["layers"][4]["damage"]["o"][1] = std::numeric_limits<double>::infinity();
                },
                "/layers/4/damage/o", "numbers or null"},
        Hostile{"damage_unit", [](Json& j) { j["layers"][4]["damage"].erase("down"); },
                "/layers/4/damage/down", ""},
        Hostile{"damage_in_some", [](Json& j) { j["layers"][4].erase("damage"); },
                "/layers/4/damage", ""},
        Hostile{"damage_not_in_the_first", [](Json& j) { j["layers"][0].erase("damage"); },
                "/layers/1/damage", ""},
        Hostile{"predicted", [](Json& j) { j["predicted_kl"] = "low"; }, "/predicted_kl",
                "a number"},
        Hostile{"checks_type", [](Json& j) { j["checks"] = Json::object(); }, "/checks",
                "an array"},
        Hostile{"check_row", [](Json& j) { j["checks"][1] = 3; }, "/checks/1", ""},
        Hostile{"check_kl", [](Json& j) { j["checks"][1].erase("kl"); }, "/checks/1/kl",
                "a number"}),
    [](const auto& row) { return std::string(row.param.name); });

/// As Config, with rows that super-blocks divide.
ModelConfig WideConfig() {
  ModelConfig config = Config();
  config.hidden = 256;
  config.intermediate = 512;
  config.heads = config.kv_heads = 4;
  config.head_dim = 64;
  return config;
}

Plan FromLayer(const std::function<void(Json&)>& edit) {
  Json json =
      ParseJson(ToJson(UniformPlan(RowGrid(2), WideConfig()), WideConfig()).dump(), "plan.json");
  json.erase("digest");
  for (Json& row : json["layers"]) {
    row.erase("group_size");
    row.erase("offset");
    edit(row);
  }
  return PlanFromJson(json, WideConfig(), "plan.json", RowGrid);
}

TEST(PlanJson, KQuantsComeBackBesideOtherGrids) {
  Plan plan{.ranking = "edited", .low = 2, .high = 4};
  for (Index layer = 0; layer < kLayers; ++layer) {
    plan.grids.AddLayer({KQuantOfBits(2)->grid,
                         {.bits = 2, .group_size = 64, .offset = Offset::kHalf},
                         KQuantOfBits(4)->grid,
                         KQuantOfBits(3)->grid});
  }
  plan.requested_bits = CodeBits(plan, WideConfig());
  const Record json = ToJson(plan, WideConfig());

  EXPECT_EQ(json["layers"][1]["grid"].dump(),
            R"({"qkv":"q2_k","o":"affine","gate_up":"q4_k","down":"q3_k"})");
  EXPECT_EQ(PlanFromJson(ParseJson(json.dump(), "plan.json"), WideConfig(), "plan.json", RowGrid),
            plan);
}

TEST(PlanJson, TheNameOfAKQuantIsEnough) {
  const Plan plan = FromLayer([](Json& row) { row["grid"] = "q2_k"; });

  EXPECT_EQ(plan.grids, ModelGrids::Uniform(kLayers, KQuantOfBits(2)->grid));
}

TEST(PlanJson, RefusesKQuantsThatAreNone) {
  const std::vector<std::pair<std::function<void(Json&)>, std::string>> edits{
      {[](Json& row) { row["grid"] = "q3_k"; }, "2 bits"},
      {[](Json& row) {
         row["grid"] = "q2_k";
         row["group_size"] = 64;
       },
       "64"},
      {[](Json& row) {
         row["grid"] = "q2_k";
         row["offset"] = "half";
       },
       "half"},
      {[](Json& row) { row["grid"] = "q7_k"; }, "q7_k"},
      {[](Json& row) { row["grid"] = 2; }, "2"}};
  for (const auto& [edit, found] : edits) {
    try {
      (void)FromLayer(edit);
      FAIL() << "no Error";
    } catch (const Error& error) {
      EXPECT_NE(error.problem().where.find("/layers/0/grid"), std::string::npos);
      EXPECT_NE(error.problem().found.find(found), std::string::npos) << error.problem().found;
    }
  }
  // Some units without a name have no group size.
  EXPECT_THROW((void)FromLayer([](Json& row) {
                 row["grid"] = {
                     {"qkv", "q2_k"}, {"o", "affine"}, {"gate_up", "q2_k"}, {"down", "q2_k"}};
               }),
               Error);
  // Rows of 24 columns, that no super-block divides.
  EXPECT_THROW((void)Edited([](Json& json) {
                 for (auto& row : json["layers"]) row["grid"] = "q2_k";
               }),
               Error);
}

TEST(PlanJson, RefusesGroupsThatDoNotDivideTheRows) {
  try {
    (void)Edited([](Json& json) {
      for (auto& row : json["layers"]) row["group_size"] = 8;
      json["layers"][3]["group_size"] = {{"qkv", 8}, {"o", "row"}, {"gate_up", 4}, {"down", 16}};
    });
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().what, "groups that do not divide the rows of down");
    EXPECT_EQ(error.problem().where, "plan.json: /layers/3/group_size");
    EXPECT_EQ(error.problem().expected, "a divisor of 24, or \"row\"");
    EXPECT_EQ(error.problem().found, "16");
  }
}

TEST(PlanJson, RefusesWhatIsNoObject) {
  for (const char* text : {"[]", "3", "null", "\"plan\""}) {
    EXPECT_THROW((void)PlanFromJson(ParseJson(text, "plan.json"), Config(), "plan.json", RowGrid),
                 Error);
  }
}

}  // namespace
}  // namespace lieq
