#include "lieq/plan/exports.h"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <sstream>
#include <string>

#include "lieq/base/rng.h"
#include "lieq/io/json.h"
#include "lieq/plan/allocate.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

ModelConfig Config(Index layers) {
  return {.layers = layers,
          .hidden = 256,
          .intermediate = 768,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 64};
}

constexpr Grid kTwo{.bits = 2, .group_size = 64};
constexpr Grid kFour{.bits = 4, .group_size = 64};

/// Layers 0 and 3 at 4 bits, 1 at 2, 2 with 4 bits in o and down.
LayerGrids Mixed() {
  ModelGrids grids = ModelGrids::Uniform(4, kFour);
  grids.SetLayer(1, kTwo);
  grids.Set(2, Unit::kQkv, kTwo);
  grids.Set(2, Unit::kGateUp, kTwo);
  return grids.layers;
}

/// 2 and 4 bits and groups of 64 and 128 anywhere: what every row can say.
LayerGrids Drawn(Index layers, std::uint64_t seed) {
  Rng rng(seed);
  ModelGrids grids;
  for (Index layer = 0; layer < layers; ++layer) {
    std::array<Grid, kUnits> units;
    for (Grid& grid : units) {
      grid = {.bits = rng.Below(2) == 0 ? 2 : 4, .group_size = rng.Below(2) == 0 ? 64 : 128};
    }
    grids.AddLayer(units);
  }
  return grids.layers;
}

std::string Text(std::string_view name, const LayerGrids& grids) {
  return FindPlanExport(name).text(grids, Config(static_cast<Index>(grids.size())));
}

std::string ModulePath(Index layer, Site site) {
  return "model.layers." + std::to_string(layer) + "." + std::string(Module(site));
}

std::string TensorName(Index layer, Site site) {
  constexpr std::array<const char*, kSites> kNames{"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                   "ffn_gate", "ffn_up", "ffn_down"};
  return "blk." + std::to_string(layer) + "." + kNames[static_cast<std::size_t>(site)] + ".weight";
}

/// Lines of a --tensor-type-file as llama-quantize reads them: pattern, type.
std::vector<std::pair<std::string, std::string>> Items(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> items;
  std::istringstream stream(text);
  for (std::string item; stream >> item;) {
    const auto equals = item.find('=');
    items.emplace_back(item.substr(0, equals), item.substr(equals + 1));
  }
  return items;
}

TEST(PlanExports, OfLlamaQuantizeAsALlamaUserWouldWriteIt) {
  EXPECT_EQ(Text("llama-quantize", Mixed()),
            "^blk\\.(0|3)\\.(attn_(q|k|v|output)|ffn_(gate|up|down))\\.weight$=q4_0\n"
            "^blk\\.1\\.(attn_(q|k|v|output)|ffn_(gate|up|down))\\.weight$=q2_0\n"
            "^blk\\.2\\.(attn_(q|k|v)|ffn_(gate|up))\\.weight$=q2_0\n"
            "^blk\\.2\\.(attn_output|ffn_down)\\.weight$=q4_0\n");
}

TEST(PlanExports, OfGptqModelWithTheFusedNamesThatVllmAsksFor) {
  const std::string layers =
      R"x(\\.(?:self_attn\\.(?:q|k|v|qkv|o)|mlp\\.(?:gate|up|gate_up|down))_proj$)x";
  const std::string four = R"x( {
    "bits": 4,
    "group_size": 64,
    "sym": true
  })x";
  const std::string two = R"x( {
    "bits": 2,
    "group_size": 64,
    "sym": true
  })x";
  EXPECT_EQ(Text("gptqmodel", Mixed()),
            "{\n  \"+:^model\\\\.layers\\\\.(?:0|3)" + layers + "\":" + four +
                ",\n  \"+:^model\\\\.layers\\\\.1" + layers + "\":" + two +
                ",\n  \"+:^model\\\\.layers\\\\.2"
                R"x(\\.(?:self_attn\\.(?:q|k|v|qkv)|mlp\\.(?:gate|up|gate_up))_proj$":)x" +
                two + ",\n  \"+:^model\\\\.layers\\\\.2" +
                R"x(\\.(?:self_attn\\.o|mlp\\.down)_proj$":)x" + four + "\n}\n");
}

TEST(PlanExports, OfAutoRoundByFullNames) {
  const Record layers = ParseRecord(Text("auto-round", Mixed()), "layer_config");

  EXPECT_EQ(layers.begin().key(), "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(layers["model.layers.2.self_attn.o_proj"].dump(),
            R"({"bits":4,"group_size":64,"sym":true})");
  EXPECT_EQ(layers["model.layers.2.mlp.up_proj"].dump(),
            R"({"bits":2,"group_size":64,"sym":true})");
}

TEST(PlanExports, OfMlxWithTheGridOfMostLinearsAsItsDefault) {
  const Record quantization = ParseRecord(Text("mlx", Mixed()), "quantization");

  EXPECT_EQ(quantization["group_size"], 64);
  EXPECT_EQ(quantization["bits"], 4);  // 16 linears of 28
  EXPECT_EQ(quantization["model.layers.1.mlp.down_proj"].dump(), R"({"group_size":64,"bits":2})");
  EXPECT_EQ(quantization.size(), 2u + 4 * kSites);
}

class PlanExportsProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, PlanExportsProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{20}));

TEST_P(PlanExportsProperty, EveryTensorMatchesOneLineOfItsType) {
  const Index layers = 23;
  const LayerGrids grids = Drawn(layers, GetParam());
  std::vector<std::pair<std::regex, std::string>> rules;
  for (const auto& [pattern, type] : Items(Text("llama-quantize", grids))) {
    rules.emplace_back(std::regex(pattern), type);
  }

  // Two layers more than the model has: 23 must not be taken for 2, nor 1 for 11.
  for (Index layer = 0; layer < layers + 2; ++layer) {
    for (const Site site : kAllSites) {
      std::vector<std::string> types;
      for (const auto& [pattern, type] : rules) {
        if (std::regex_search(TensorName(layer, site), pattern)) types.push_back(type);
      }
      if (layer >= layers) {
        EXPECT_TRUE(types.empty()) << TensorName(layer, site);
        continue;
      }
      const Grid& grid = grids[Size(layer)][static_cast<std::size_t>(site)];
      EXPECT_EQ(types, std::vector<std::string>{grid.bits == 2 ? "q2_0" : "q4_0"})
          << TensorName(layer, site);
    }
  }
}

TEST_P(PlanExportsProperty, EveryModuleMatchesOneRuleOfGptqModel) {
  const Index layers = 23;
  const LayerGrids grids = Drawn(layers, GetParam());
  const Record dynamic = ParseRecord(Text("gptqmodel", grids), "dynamic");
  std::vector<std::pair<std::regex, Record>> rules;
  for (const auto& [key, value] : dynamic.items()) {
    ASSERT_TRUE(key.starts_with("+:^"));
    rules.emplace_back(std::regex(key.substr(2)), value);
  }
  const auto matches = [&](const std::string& module) {
    std::vector<Record> found;
    for (const auto& [pattern, value] : rules) {
      const auto from_start = std::regex_constants::match_continuous;
      if (std::regex_search(module, pattern, from_start)) found.push_back(value);
    }
    return found;
  };

  for (Index layer = 0; layer < layers; ++layer) {
    for (const Site site : kAllSites) {
      const Grid& grid = grids[Size(layer)][static_cast<std::size_t>(site)];
      const std::vector<Record> found = matches(ModulePath(layer, site));
      ASSERT_EQ(found.size(), 1u) << ModulePath(layer, site);
      EXPECT_EQ(found[0]["bits"], grid.bits);
      EXPECT_EQ(found[0]["group_size"], grid.group_size);
    }
    const std::string prefix = "model.layers." + std::to_string(layer);
    EXPECT_EQ(matches(prefix + ".self_attn.qkv_proj"), matches(prefix + ".self_attn.k_proj"));
    EXPECT_EQ(matches(prefix + ".mlp.gate_up_proj"), matches(prefix + ".mlp.up_proj"));
  }
  EXPECT_TRUE(matches("model.layers.23.mlp.up_proj").empty());
  EXPECT_TRUE(matches("lm_head").empty());
}

TEST_P(PlanExportsProperty, EveryModuleIsNamedOnceWithItsGrid) {
  const LayerGrids grids = Drawn(5, GetParam());

  for (const char* name : {"auto-round", "mlx"}) {
    const Record rows = ParseRecord(Text(name, grids), name);
    std::size_t modules = 0;
    for (const auto& [key, value] : rows.items()) modules += value.is_object() ? 1 : 0;
    EXPECT_EQ(modules, 5u * kSites) << name;
    for (Index layer = 0; layer < 5; ++layer) {
      for (const Site site : kAllSites) {
        const Grid& grid = grids[Size(layer)][static_cast<std::size_t>(site)];
        const Record& row = rows.at(ModulePath(layer, site));
        EXPECT_EQ(row["bits"], grid.bits);
        EXPECT_EQ(row["group_size"], grid.group_size);
      }
    }
  }
}

/// A model of one layer at one grid.
std::string OfOne(std::string_view name, const Grid& grid, ModelConfig config = Config(1)) {
  LayerGrids grids(1);
  grids[0].fill(grid);
  return FindPlanExport(name).text(grids, config);
}

TEST(PlanExports, TakeTheTypeOfLlamaThatFitsTheRows) {
  const auto type = [](const Grid& grid) { return Items(OfOne("llama-quantize", grid))[0].second; };

  EXPECT_EQ(type({.bits = 2, .group_size = 0}), "q2_0");
  EXPECT_EQ(type({.bits = 2, .group_size = 32}), "q2_K");  // finer than a scale for each 64
  EXPECT_EQ(type({.bits = 3, .group_size = 128}), "q3_K");
  EXPECT_EQ(type({.bits = 4, .group_size = 32}), "q4_0");
  EXPECT_EQ(type({.bits = 8, .group_size = 64}), "q8_0");
}

TEST(PlanExports, RefuseGridsThatLlamaHasNoTypeFor) {
  ModelConfig narrow = Config(1);
  narrow.hidden = 576;  // as of SmolLM2-135M: 64 divides it, 256 does not
  const Problem three =
      ProblemOf([&] { (void)OfOne("llama-quantize", {.bits = 3, .group_size = 64}, narrow); });
  const Problem asymmetric = ProblemOf([&] {
    (void)OfOne("llama-quantize", {.bits = 4, .group_size = 64, .offset = Offset::kInteger});
  });

  EXPECT_EQ(three.where, "layer 0, self_attn.q_proj");
  EXPECT_EQ(three.found, "3 bits, groups of 64, symmetric, [256, 576]");
  EXPECT_EQ(asymmetric.expected, "symmetric grids, as of q2_0, q3_K, q4_0 and q8_0");
  EXPECT_NO_THROW((void)OfOne("llama-quantize", {.bits = 2, .group_size = 64}, narrow));
  EXPECT_THROW((void)OfOne("llama-quantize", {.bits = 2, .group_size = 32}, narrow), Error);
  EXPECT_THROW((void)OfOne("llama-quantize", {.bits = 4, .group_size = 16}), Error);
}

TEST(PlanExports, RefuseGroupsThatMlxLacks) {
  const Problem problem = ProblemOf([&] { (void)OfOne("mlx", {.bits = 4, .group_size = 256}); });

  EXPECT_EQ(problem.expected, "groups of 32, 64 or 128");
  EXPECT_THROW((void)OfOne("mlx", {.bits = 4, .group_size = 0}), Error);
  EXPECT_NO_THROW((void)OfOne("mlx", {.bits = 3, .group_size = 32, .offset = Offset::kInteger}));
}

TEST(PlanExports, SayAsymmetricGridsAndWholeRowsWhereTheToolHasThem) {
  for (const char* name : {"gptqmodel", "auto-round"}) {
    const Record rows =
        ParseRecord(OfOne(name, {.bits = 3, .group_size = 0, .offset = Offset::kInteger}), name);

    EXPECT_EQ(rows.begin().value().dump(), R"({"bits":3,"group_size":-1,"sym":false})") << name;
  }
  EXPECT_THROW((void)OfOne("gptqmodel", {.bits = 4, .group_size = 8}), Error);
  for (const Offset offset : {Offset::kHalf, Offset::kFloat}) {
    const Problem problem = ProblemOf([&] { (void)OfOne("auto-round", {.offset = offset}); });
    EXPECT_EQ(problem.expected, "symmetric grids or integer zero-points");
    EXPECT_THROW((void)OfOne("gptqmodel", {.offset = offset}), Error);
    EXPECT_NO_THROW((void)OfOne("mlx", {.offset = offset}));  // a minimum for each group
  }
  ModelConfig odd = Config(1);
  odd.intermediate = 776;
  EXPECT_THROW((void)OfOne("gptqmodel", {.bits = 4, .group_size = 0}, odd), Error);
  EXPECT_THROW((void)OfOne("auto-round", {.bits = 4, .group_size = 0}, odd), Error);
}

TEST(PlanExports, OfEveryRowRefuseGroupsThatDoNotDivideTheRow) {
  for (const PlanExport& row : PlanExports()) {
    const Problem problem =
        ProblemOf([&] { (void)OfOne(row.name, {.bits = 4, .group_size = 96}); });
    EXPECT_EQ(problem.expected, "groups that divide the row") << row.name;
  }
}

TEST(PlanExports, NamesTheRowsThereAre) {
  const Problem problem = ProblemOf([] { (void)FindPlanExport("awq"); });

  EXPECT_EQ(problem.expected, "llama-quantize, gptqmodel, auto-round, mlx");
}

TEST(PlanExports, KQuantsAreForLlamaQuantizeAlone) {
  ModelConfig config = Config(2);
  config.hidden = 256;
  config.intermediate = 512;
  config.heads = config.kv_heads = 4;
  config.head_dim = 64;
  for (const KQuant& row : KQuants()) {
    const LayerGrids planned = ModelGrids::Uniform(2, row.grid).layers;
    for (const PlanExport& tool : PlanExports()) {
      if (tool.name == "llama-quantize") {
        EXPECT_NE(tool.text(planned, config).find("=" + std::string(row.name)), std::string::npos);
      } else {
        EXPECT_THROW((void)tool.text(planned, config), Error) << tool.name << ", " << row.name;
      }
    }
  }
}

}  // namespace
}  // namespace lieq
