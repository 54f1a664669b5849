#include "lieq/plan/sensitivities_json.h"
#include "lieq/plan/plan.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

constexpr Index kLayers = 3;

Sensitivities Sample(DamageMode mode, std::uint64_t seed) {
  Rng rng(seed);
  Sensitivities s{.mode = mode,
                  .candidates = {{.bits = 2, .group_size = 128},
                                 {.bits = 2, .group_size = 64},
                                 {.bits = 3, .group_size = 0, .offset = Offset::kInteger}},
                  .base_kl = mode == DamageMode::kContext ? rng.Uniform() : 0,
                  .base_nll_rise = mode == DamageMode::kContext ? rng.Normal() : 0,
                  .windows = 2,
                  .context = 512,
                  .stride = 3,
                  .layer_passes = 40,
                  .seconds = rng.Uniform(),
                  .method = "gptq",
                  .model_hash = "0123456789abcdef",
                  .text_hash = "text",
                  .calibration_hash = "calibration"};
  for (Index u = 0; u < kLayers * kUnits; ++u) {
    UnitSensitivity unit{.layer = u / kUnits, .unit = kAllUnits[Size(u % kUnits)]};
    for (std::size_t c = 0; c < 3; ++c) unit.loss.emplace_back(rng.Uniform());
    if (u % kUnits == 1) unit.loss[0].reset();  // does not fit
    for (const std::size_t c : {std::size_t{1}, std::size_t{2}}) {
      unit.measured.push_back({.candidate = c,
                               .kl = rng.Uniform(),
                               .nll_rise = rng.Normal(),
                               .window_nll_rise = {rng.Normal(), rng.Normal()}});
    }
    s.units.push_back(std::move(unit));
    if (mode == DamageMode::kContext) s.base.push_back(u % kUnits == 1 ? 1 : 0);
  }
  for (const End end : std::span(kAllEnds).first(seed % 3)) {
    s.ends.push_back({.candidates = {end, {std::nullopt, Grid{.bits = 4, .group_size = 32}}},
                      .kl = {0, rng.Uniform()},
                      .nll_rise = {0, rng.Normal()}});
  }
  return s;
}

Json Written(DamageMode mode, std::uint64_t seed) {
  return ParseJson(ToJson(Sample(mode, seed)).dump(1), "s.json");
}

class SensitivitiesJsonProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, SensitivitiesJsonProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{20}));

TEST_P(SensitivitiesJsonProperty, ComeBackAsTheyWere) {
  for (const DamageMode mode : {DamageMode::kSolo, DamageMode::kContext}) {
    const Sensitivities s = Sample(mode, GetParam());

    const Sensitivities back = SensitivitiesFromJson(Written(mode, GetParam()), "s.json");

    EXPECT_EQ(back.mode, s.mode);
    EXPECT_EQ(back.candidates, s.candidates);
    EXPECT_EQ(back.base, s.base);
    EXPECT_EQ(back.base_kl, s.base_kl);
    EXPECT_EQ(back.base_nll_rise, s.base_nll_rise);
    EXPECT_EQ(back.windows, s.windows);
    EXPECT_EQ(back.context, s.context);
    EXPECT_EQ(back.stride, s.stride);
    EXPECT_EQ(back.layer_passes, s.layer_passes);
    EXPECT_EQ(back.seconds, s.seconds);
    EXPECT_EQ(back.method, s.method);
    EXPECT_EQ(back.model_hash, s.model_hash);
    EXPECT_EQ(back.text_hash, s.text_hash);
    EXPECT_EQ(back.calibration_hash, s.calibration_hash);
    ASSERT_EQ(back.units.size(), s.units.size());
    for (std::size_t u = 0; u < s.units.size(); ++u) {
      EXPECT_EQ(back.units[u].layer, s.units[u].layer);
      EXPECT_EQ(back.units[u].unit, s.units[u].unit);
      EXPECT_EQ(back.units[u].loss, s.units[u].loss);
      ASSERT_EQ(back.units[u].measured.size(), s.units[u].measured.size());
      for (std::size_t i = 0; i < s.units[u].measured.size(); ++i) {
        const MeasuredDamage &a = back.units[u].measured[i], &b = s.units[u].measured[i];
        EXPECT_EQ(a.candidate, b.candidate);
        EXPECT_EQ(a.kl, b.kl);
        EXPECT_EQ(a.nll_rise, b.nll_rise);
        EXPECT_EQ(a.window_nll_rise, b.window_nll_rise);
      }
      EXPECT_EQ(PredictDamage(back, u), PredictDamage(s, u));
    }
  }
}

TEST(SensitivitiesJson, ReadsAsTheDocumentationSays) {
  const Json json = Written(DamageMode::kSolo, 1);

  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["kind"], "sensitivities");
  EXPECT_EQ(json["mode"], "solo");
  EXPECT_FALSE(json.contains("base"));
  EXPECT_EQ(json["forward_passes"], 40 / 3.0);
  EXPECT_EQ(json["candidates"][2].dump(), R"({"bits":3,"group_size":"row","symmetric":false})");
  EXPECT_EQ(json["units"][1]["unit"], "o");
  EXPECT_TRUE(json["units"][1]["loss"][0].is_null());
  EXPECT_TRUE(json["units"][1]["predicted_kl"][0].is_null());
  EXPECT_EQ(json["units"][1]["predicted_kl"][2], json["units"][1]["measured"][1]["kl"]);
}

TEST(SensitivitiesJson, RefusesEndsThatAreNotAsDocumented) {
  const Json good = Written(DamageMode::kSolo, 2);
  ASSERT_EQ(good["ends"].size(), 2u);
  EXPECT_EQ(good["ends"][0]["candidates"][0].dump(), R"({"bits":16})");
  const auto refuses = [&](const char* place, const std::function<void(Json&)>& edit) {
    Json bad = good;
    edit(bad["ends"]);
    try {
      (void)SensitivitiesFromJson(bad, "s.json");
      ADD_FAILURE() << place;
    } catch (const Error& error) {
      EXPECT_NE(error.problem().where.find(place), std::string::npos) << error.problem().where;
    }
  };
  refuses("/ends/0/end", [](Json& ends) { ends[0]["end"] = "head"; });
  refuses("/ends", [](Json& ends) { ends.push_back(ends[0]); });
  refuses("/ends/1/kl", [](Json& ends) { ends[1]["kl"] = {0}; });
  refuses("/ends/1/nll_rise", [](Json& ends) { ends[1]["nll_rise"][1] = "0"; });
  refuses("/ends/0/candidates", [](Json& ends) { ends[0]["candidates"] = Json::array(); });
  refuses("/ends/0/candidates/1/bits", [](Json& ends) { ends[0]["candidates"][1]["bits"] = 7; });
}

TEST(SensitivitiesJson, SaysOffsetsThatEnginesDoNotLoad) {
  for (const Offset offset : kAllOffsets) {
    const Grid grid{.bits = 2, .group_size = 64, .offset = offset};

    const Record record = GridToJson(grid);

    EXPECT_EQ(record.contains("offset"), offset == Offset::kHalf || offset == Offset::kFloat);
    const Json json = Json::parse(record.dump());
    EXPECT_EQ(GridFromJson(JsonObject(json, "grid")), grid);
  }
}

TEST(SensitivitiesJson, TellsKQuantsFromGridsOfTheirShape) {
  for (const KQuant& row : KQuants()) {
    Grid grid = row.grid;
    EXPECT_EQ(GridFromJson(JsonObject(Json::parse(GridToJson(grid).dump()), "grid")), grid);
    grid.k_quant = false;
    if (!IsWidth(grid.bits)) continue;
    EXPECT_EQ(GridFromJson(JsonObject(Json::parse(GridToJson(grid).dump()), "grid")), grid);
  }
}

struct Hostile {
  const char* name;
  std::function<void(Json&)> edit;
  const char* where;
};
class SensitivitiesJsonRefuses : public testing::TestWithParam<Hostile> {};

TEST_P(SensitivitiesJsonRefuses, AndSaysWhere) {
  Json json = Written(DamageMode::kContext, 1);
  GetParam().edit(json);
  try {
    (void)SensitivitiesFromJson(json, "s.json");
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().where, std::string("s.json: ") + GetParam().where);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SensitivitiesJsonRefuses,
    testing::Values(
        Hostile{"schema", [](Json& j) { j["schema"] = 2; }, "/schema"},
        Hostile{"kind", [](Json& j) { j["kind"] = "plan"; }, "/kind"},
        Hostile{"mode", [](Json& j) { j["mode"] = "both"; }, "/mode"},
        Hostile{"no_windows", [](Json& j) { j.erase("windows"); }, "/windows"},
        Hostile{"windows_none", [](Json& j) { j["windows"] = 0; }, "/windows"},
        Hostile{"context", [](Json& j) { j["context"] = 1; }, "/context"},
        Hostile{"stride", [](Json& j) { j["stride"] = 0; }, "/stride"},
        Hostile{"base_kl", [](Json& j) { j["base_kl"] = -0.5; }, "/base_kl"},
        Hostile{"base_kl_infinite",
                [](Json& j) { j["base_kl"] = std::numeric_limits<double>::infinity(); },
                "/base_kl"},
        Hostile{"hash", [](Json& j) { j["model_hash"] = 3; }, "/model_hash"},
        Hostile{"candidates_none", [](Json& j) { j["candidates"] = Json::array(); }, "/candidates"},
        Hostile{"candidates_many", [](Json& j) { j["candidates"] = Json(65, j["candidates"][0]); },
                "/candidates"},
        Hostile{"candidate_type", [](Json& j) { j["candidates"][1] = "2:64"; }, "/candidates/1"},
        Hostile{"candidate_bits", [](Json& j) { j["candidates"][1]["bits"] = 7; },
                "/candidates/1/bits"},
        Hostile{"candidate_group", [](Json& j) { j["candidates"][1]["group_size"] = -64; },
                "/candidates/1/group_size"},
        Hostile{"candidate_group_zero", [](Json& j) { j["candidates"][1]["group_size"] = 0; },
                "/candidates/1/group_size"},
        Hostile{"candidate_group_text", [](Json& j) { j["candidates"][1]["group_size"] = "all"; },
                "/candidates/1/group_size"},
        Hostile{"candidate_symmetric", [](Json& j) { j["candidates"][1]["symmetric"] = 1; },
                "/candidates/1/symmetric"},
        Hostile{"candidate_k_quant", [](Json& j) { j["candidates"][1]["k_quant"] = true; },
                "/candidates/1/k_quant"},
        Hostile{"candidate_offset", [](Json& j) { j["candidates"][1]["offset"] = "real"; },
                "/candidates/1/offset"},
        Hostile{"candidate_offset_odd", [](Json& j) { j["candidates"][1]["offset"] = "float"; },
                "/candidates/1/offset"},
        Hostile{"units_none", [](Json& j) { j["units"] = Json::array(); }, "/units"},
        Hostile{"units_odd", [](Json& j) { j["units"].erase(11); }, "/units"},
        Hostile{"units_object", [](Json& j) { j["units"] = Json::object(); }, "/units"},
        Hostile{"units_swapped", [](Json& j) { std::swap(j["units"][4], j["units"][5]); },
                "/units/4/unit"},
        Hostile{"layer_order", [](Json& j) { j["units"][4]["layer"] = 0; }, "/units/4/layer"},
        Hostile{"loss_short", [](Json& j) { j["units"][3]["loss"].erase(0); }, "/units/3/loss"},
        Hostile{"loss_long", [](Json& j) { j["units"][3]["loss"].push_back(1); }, "/units/3/loss"},
        Hostile{"loss_negative", [](Json& j) { j["units"][3]["loss"][1] = -1e-9; },
                "/units/3/loss"},
        Hostile{"loss_text", [](Json& j) { j["units"][3]["loss"][1] = "0"; }, "/units/3/loss"},
        Hostile{"loss_none", [](Json& j) { j["units"][3]["loss"] = Json(3, nullptr); },
                "/units/3/loss"},
        Hostile{"measured_missing", [](Json& j) { j["units"][3].erase("measured"); },
                "/units/3/measured"},
        Hostile{"measured_beyond", [](Json& j) { j["units"][3]["measured"][1]["candidate"] = 3; },
                "/units/3/measured/1/candidate"},
        Hostile{"measured_negative",
                [](Json& j) { j["units"][3]["measured"][0]["candidate"] = -1; },
                "/units/3/measured/0/candidate"},
        Hostile{"measured_twice", [](Json& j) { j["units"][3]["measured"][1]["candidate"] = 1; },
                "/units/3/measured/1/candidate"},
        Hostile{"measured_that_does_not_fit",
                [](Json& j) { j["units"][1]["measured"][0]["candidate"] = 0; },
                "/units/1/measured/0/candidate"},
        Hostile{"kl_negative", [](Json& j) { j["units"][3]["measured"][0]["kl"] = -1; },
                "/units/3/measured/0/kl"},
        Hostile{"kl_null", [](Json& j) { j["units"][3]["measured"][0]["kl"] = nullptr; },
                "/units/3/measured/0/kl"},
        Hostile{"window_nll_short",
                [](Json& j) { j["units"][3]["measured"][0]["window_nll_rise"].erase(0); },
                "/units/3/measured/0/window_nll_rise"},
        Hostile{"window_nll_null",
                [](Json& j) { j["units"][3]["measured"][0]["window_nll_rise"][1] = nullptr; },
                "/units/3/measured/0/window_nll_rise"},
        Hostile{"base_missing", [](Json& j) { j.erase("base"); }, "/base"},
        Hostile{"base_short", [](Json& j) { j["base"].erase(0); }, "/base"},
        Hostile{"base_beyond", [](Json& j) { j["base"][2] = 3; }, "/base"},
        Hostile{"base_negative", [](Json& j) { j["base"][2] = -1; }, "/base"},
        Hostile{"base_that_does_not_fit", [](Json& j) { j["base"][1] = 0; }, "/base"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(SensitivitiesJson, RefusesWhatIsNoObject) {
  for (const char* text : {"[]", "3", "null", "\"sensitivities\""}) {
    EXPECT_THROW((void)SensitivitiesFromJson(ParseJson(text, "s.json"), "s.json"), Error);
  }
}

}  // namespace
}  // namespace lieq
