#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/name_pattern.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

ModelConfig Model(Index layers) {
  ModelConfig config;
  config.layers = layers;
  config.hidden = 512;
  config.intermediate = 1024;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.vocab = 100;
  return config;
}

LayerGrids Parse(const Json& json, const ModelConfig& config) {
  return ParseQuantizationConfig(json, config, "config.json: /quantization_config");
}
std::string ParseError(const Json& json, Index layers = 2) {
  return ErrorOf([&] { return Parse(json, Model(layers)); });
}

LayerGrids Uniform(Index layers, const Grid& grid) {
  std::array<Grid, kSites> layer;
  layer.fill(grid);
  return LayerGrids(Size(layers), layer);
}

constexpr Grid kTwoBits{.bits = 2, .group_size = 64};
constexpr Grid kFourBits{.bits = 4, .group_size = 64};

class RandomGrids : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(RandomGrids, AreReadAsTheyWereWritten) {
  constexpr std::array kGrids{Grid{2, 64, Offset::kSymmetric},  Grid{2, 64, Offset::kInteger},
                              Grid{3, 128, Offset::kSymmetric}, Grid{4, 0, Offset::kSymmetric},
                              Grid{4, 32, Offset::kSymmetric},  Grid{8, 256, Offset::kInteger},
                              Grid{2, 64, Offset::kHalf},       Grid{2, 64, Offset::kFloat},
                              Grid{4, 0, Offset::kFloat}};
  Rng rng(GetParam());
  const Index layers = 1 + rng.Below(130);
  const std::uint32_t kinds = 1 + rng.Below(kGrids.size());
  LayerGrids grids(Size(layers));
  for (auto& layer : grids) {
    const bool mixed = rng.Below(4) == 0;
    Grid grid = kGrids[rng.Below(kinds)];
    for (const Unit unit : kAllUnits) {
      if (mixed) grid = kGrids[rng.Below(kinds)];
      for (const Site site : SitesOf(unit)) layer[static_cast<std::size_t>(site)] = grid;
    }
  }

  const Record record = QuantizationConfig({.layers = grids});

  EXPECT_EQ(Parse(Json::parse(record.dump()), Model(layers)), grids) << record.dump(1);
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomGrids, testing::Range(std::uint64_t{0}, std::uint64_t{60}));

TEST(QuantizationConfig, SaysTheSameAsTheLibraryWould) {
  LayerGrids grids = Uniform(24, kTwoBits);
  for (const std::size_t layer : {0u, 1u, 23u}) grids[layer].fill(kFourBits);

  const Record record = QuantizationConfig({.layers = grids});

  EXPECT_EQ(record.at("quant_method"), "compressed-tensors");
  EXPECT_EQ(record.at("format"), "pack-quantized");
  EXPECT_EQ(record.at("quantization_status"), "compressed");
  EXPECT_EQ(record.at("ignore"), Record::array({"lm_head"}));
  EXPECT_EQ(record.at("config_groups").at("group_0").at("weights").dump(),
            R"({"num_bits":4,"type":"int","strategy":"group","group_size":64,)"
            R"("symmetric":true,"dynamic":false})");
  EXPECT_EQ(record.at("config_groups").at("group_0").at("targets").dump(),
            R"(["re:^model\\.layers\\.(?:[01]|23)\\.(?:self_attn|mlp)\\.[a-z_]+_proj$"])");
  EXPECT_EQ(
      record.at("config_groups").at("group_1").at("targets").dump(),
      R"(["re:^model\\.layers\\.(?:[2-9]|2[0-2]|1[0-9])\\.(?:self_attn|mlp)\\.[a-z_]+_proj$"])");
}

TEST(QuantizationConfig, GivesAnEmbeddingOfEightBitsAFormatOfItsOwn) {
  const Grid byte{.bits = 8, .group_size = 64};
  const LayerGrids grids = Uniform(2, byte);  // of the same grid, and yet another group
  ModelConfig config = Model(2);
  for (const bool tied : {false, true}) {
    config.tied = tied;
    EndGrids ends{.embedding = byte, .head = {}};
    if (!tied) ends.head = byte;

    const Record record = QuantizationConfig({.layers = grids, .ends = ends}, tied);

    EXPECT_EQ(record.at("format"), "mixed-precision");
    EXPECT_EQ(record.at("ignore"), Record::array());
    const Record& packed = record.at("config_groups").at("group_0");
    const Record& bytes = record.at("config_groups").at("group_1");
    EXPECT_EQ(packed.at("format"), "pack-quantized");
    EXPECT_EQ(bytes.at("format"), "int-quantized");
    EXPECT_EQ(bytes.at("targets"), tied ? Record::array({"model.embed_tokens", "lm_head"})
                                        : Record::array({"model.embed_tokens"}));
    EXPECT_EQ(ParseEndGrids(Json::parse(record.dump()), config, "config.json"), ends);
    EXPECT_EQ(ParseQuantizationConfig(Json::parse(record.dump()), config, "config.json"), grids);
  }
}

TEST(QuantizationConfig, NamesSitesWhereTheUnitsOfALayerDiffer) {
  LayerGrids grids = Uniform(2, kTwoBits);
  for (const Site site : {Site::kQ, Site::kK, Site::kV, Site::kDown}) {
    grids[1][static_cast<std::size_t>(site)] = kFourBits;
  }

  const Record groups = QuantizationConfig({.layers = grids}).at("config_groups");

  EXPECT_EQ(groups.at("group_0").at("targets").dump(),
            R"(["re:^model\\.layers\\.1\\.(?:self_attn\\.(?:q|k|v)|mlp\\.down)_proj$"])");
  EXPECT_EQ(groups.at("group_1").at("targets").dump(),
            R"(["re:^model\\.layers\\.0\\.(?:self_attn|mlp)\\.[a-z_]+_proj$",)"
            R"("re:^model\\.layers\\.1\\.(?:self_attn\\.o|mlp\\.(?:gate|up))_proj$"])");
}

TEST(QuantizationConfig, IsOfAMethodOfItsOwnWhereEnginesWouldMisreadAnOffset) {
  LayerGrids grids = Uniform(2, kFourBits);
  EXPECT_EQ(QuantizationConfig({.layers = grids}).at("quant_method"), "compressed-tensors");
  for (const Offset offset : {Offset::kHalf, Offset::kFloat}) {
    grids[1].fill({.bits = 2, .group_size = 64, .offset = offset});

    const Record record = QuantizationConfig({.layers = grids});

    EXPECT_EQ(record.at("quant_method"), "lieq");
    EXPECT_FALSE(record.at("config_groups").at("group_0").at("weights").contains("offset"));
    EXPECT_EQ(record.at("config_groups").at("group_1").at("weights").dump(),
              R"({"num_bits":2,"type":"int","strategy":"group","group_size":64,)"
              R"("symmetric":false,"offset":")" +
                  std::string(Name(offset)) + R"(","dynamic":false})");
  }
}

TEST(QuantizationConfig, NamesKQuants) {
  LayerGrids grids = Uniform(2, kFourBits);
  for (const KQuant& kind : KQuants()) {
    grids[1].fill(kind.grid);

    const Record record = QuantizationConfig({.layers = grids});

    EXPECT_EQ(record.at("quant_method"), "lieq");
    const std::string dumped = record.dump();
    EXPECT_THAT(dumped, HasSubstr(R"("grid":")" + std::string(kind.name) + '"'));
    EXPECT_THAT(dumped, Not(HasSubstr("offset")));
    EXPECT_EQ(Parse(ParseJson(dumped, "record"), Model(2)), grids) << kind.name;
  }
}

TEST(QuantizationConfig, NeedsOneTargetForAUniformModelAndNullForWholeRows) {
  const Record record = QuantizationConfig({.layers = Uniform(12, {.bits = 8, .group_size = 0})});

  const Record& group = record.at("config_groups").at("group_0");
  EXPECT_EQ(group.at("targets").dump(),
            R"(["re:^model\\.layers\\.[0-9]+\\.(?:self_attn|mlp)\\.[a-z_]+_proj$"])");
  EXPECT_EQ(group.at("weights").at("strategy"), "channel");
  EXPECT_TRUE(group.at("weights").at("group_size").is_null());
}

TEST(QuantizationConfig, TargetsAreDisjointAndMatchFusedNamesToo) {
  LayerGrids grids = Uniform(40, kTwoBits);
  Rng rng(3);
  for (auto& layer : grids) {
    if (rng.Below(2) == 0) layer.fill(kFourBits);
  }
  const Record record = QuantizationConfig({.layers = grids});
  std::vector<NamePattern> patterns;
  for (const auto& group : record.at("config_groups")) {
    for (const auto& target : group.at("targets")) {
      patterns.emplace_back(target.get<std::string>().substr(3), "x");
    }
  }

  for (Index layer = 0; layer < 40; ++layer) {
    // vLLM asks for its fused modules first.
    for (const char* module : {"self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj"}) {
      const std::string name = "model.layers." + std::to_string(layer) + "." + module;
      EXPECT_EQ(std::count_if(patterns.begin(), patterns.end(),
                              [&](const NamePattern& pattern) { return pattern.Matches(name); }),
                1)
          << name;
    }
  }
}

TEST(QuantizationConfig, SplitsTargetsThatWouldGrowTooLong) {
  LayerGrids grids = Uniform(2600, kTwoBits);
  Rng rng(1);
  for (auto& layer : grids) {
    if (rng.Below(2) == 0) layer.fill(kFourBits);
  }

  const Json json = Json::parse(QuantizationConfig({.layers = grids}).dump());

  for (const auto& group : json.at("config_groups")) {
    EXPECT_GT(group.at("targets").size(), 1u);
    EXPECT_THAT(group.at("targets").get<std::vector<std::string>>(),
                Each(AllOf(StartsWith("re:^"),
                           testing::ResultOf([](const std::string& text) { return text.size(); },
                                             testing::Lt(4096u)))));
  }
  EXPECT_EQ(Parse(json, Model(2600)), grids);
}

/// What llm-compressor writes for a uniform model, with the keys of its versions.
Json Theirs() {
  return Json::parse(R"({
    "config_groups": {"group_0": {
      "format": "pack-quantized", "input_activations": null, "output_activations": null,
      "targets": ["Linear"],
      "weights": {"actorder": null, "block_structure": null, "dynamic": false, "group_size": 128,
        "num_bits": 4, "observer": "minmax", "observer_kwargs": {}, "scale_dtype": null,
        "strategy": "group", "symmetric": true, "type": "int", "zp_dtype": null}}},
    "format": "pack-quantized", "global_compression_ratio": null, "ignore": ["lm_head"],
    "kv_cache_scheme": null, "quant_method": "compressed-tensors",
    "quantization_status": "compressed", "sparsity_config": {}, "transform_config": {},
    "version": "0.12.2"})");
}
Json& Group(Json& json) {
  return json["config_groups"]["group_0"];
}

TEST(ParseQuantizationConfig, ReadsWhatOthersWrite) {
  Json json = Theirs();
  EXPECT_EQ(Parse(json, Model(3)), Uniform(3, {.bits = 4, .group_size = 128}));

  Group(json)["weights"] = {{"num_bits", 8}, {"group_size", -1}, {"symmetric", false}};
  EXPECT_EQ(Parse(json, Model(3)),
            Uniform(3, {.bits = 8, .group_size = 0, .offset = Offset::kInteger}));

  Group(json)["weights"] = {{"num_bits", 4}, {"group_size", 32}, {"actorder", "static"}};
  Group(json).erase("format");
  EXPECT_EQ(Parse(json, Model(3)), Uniform(3, {.bits = 4, .group_size = 32}));
}

TEST(ParseQuantizationConfig, ReadsOffsetsOfOurOwnMethodAlone) {
  Json json = Theirs();
  Group(json)["weights"]["symmetric"] = false;
  Group(json)["weights"]["offset"] = "float";
  EXPECT_THAT(ParseError(json), AllOf(HasSubstr("/config_groups/group_0/weights/offset"),
                                      HasSubstr("none, or quant_method lieq")));
  json["quant_method"] = "lieq";
  EXPECT_EQ(Parse(json, Model(2)),
            Uniform(2, {.bits = 4, .group_size = 128, .offset = Offset::kFloat}));
  for (const Json& wrong : {Json("integer"), Json("real"), Json(1)}) {
    Group(json)["weights"]["offset"] = wrong;
    EXPECT_THAT(ParseError(json), HasSubstr("/config_groups/group_0/weights/offset"));
  }
  Group(json)["weights"]["offset"] = "half";
  Group(json)["weights"]["symmetric"] = true;
  EXPECT_THAT(ParseError(json), HasSubstr("/config_groups/group_0/weights/symmetric"));
}

TEST(ParseQuantizationConfig, ReadsKQuantsOfOurOwnMethodAlone) {
  const auto theirs = [](const Json& weights, bool own) {
    Json json = Theirs();
    if (own) json["quant_method"] = "lieq";
    Group(json)["weights"] = weights;
    return json;
  };
  const Json good{{"num_bits", 2}, {"group_size", 16}, {"symmetric", false}, {"grid", "q2_k"}};
  EXPECT_EQ(Parse(theirs(good, true), Model(2)), Uniform(2, KQuantOfBits(2)->grid));
  EXPECT_THAT(ParseError(theirs(good, false)),
              AllOf(HasSubstr("/config_groups/group_0/weights/grid"),
                    HasSubstr("none, or quant_method lieq")));
  for (const auto& [key, value] : std::vector<std::pair<std::string, Json>>{{"num_bits", 4},
                                                                            {"group_size", 32},
                                                                            {"symmetric", true},
                                                                            {"offset", "float"},
                                                                            {"grid", "q5_k"},
                                                                            {"grid", 2}}) {
    Json wrong = good;
    wrong[key] = value;
    EXPECT_THAT(ParseError(theirs(wrong, true)), HasSubstr("/config_groups/group_0/weights/grid"))
        << key;
  }
}

TEST(ParseQuantizationConfig, PrefersNamesToPatternsToTheClass) {
  Json json = Theirs();
  Json four = Group(json), two = Group(json), eight = Group(json);
  two["weights"]["num_bits"] = 2;
  two["targets"] = {"re:.*layers\\.1\\..*"};
  eight["weights"]["num_bits"] = 8;
  eight["targets"] = {"model.layers.1.mlp.down_proj"};
  json["config_groups"] = {{"a", eight}, {"b", two}, {"c", four}};

  const LayerGrids grids = Parse(json, Model(2));

  EXPECT_EQ(grids[0][0].bits, 4);
  EXPECT_EQ(grids[1][0].bits, 2);
  EXPECT_EQ(grids[1][static_cast<std::size_t>(Site::kDown)].bits, 8);
}

TEST(ParseQuantizationConfig, RefusesTargetsThatEnginesWouldReadDifferently) {
  Json json = Theirs();
  Json other = Group(json);
  other["weights"]["num_bits"] = 2;
  json["config_groups"]["group_1"] = other;
  EXPECT_THAT(ParseError(json), HasSubstr("the same target stands in two groups"));

  Group(json)["targets"] = {"re:.*_proj"};
  json["config_groups"]["group_1"]["targets"] = {"re:.*down_proj"};
  EXPECT_THAT(ParseError(json),
              AllOf(HasSubstr("two targets with different grids match"),
                    HasSubstr("model.layers.0.mlp.down_proj"), HasSubstr("re:.*down_proj")));

  json["config_groups"]["group_1"]["weights"]["num_bits"] = 4;  // then it does not matter
  EXPECT_EQ(Parse(json, Model(2)), Uniform(2, {.bits = 4, .group_size = 128}));
}

TEST(ParseQuantizationConfig, RefusesLinearsLeftInFloat) {
  Json json = Theirs();
  json["ignore"] = {"lm_head", "re:.*layers\\.1\\.mlp.*"};
  EXPECT_THAT(ParseError(json), AllOf(HasSubstr("a linear is left in float"),
                                      HasSubstr("model.layers.1.mlp.gate_proj")));
  json["ignore"] = {"model.layers.0.self_attn.q_proj"};
  EXPECT_THAT(ParseError(json), HasSubstr("model.layers.0.self_attn.q_proj"));
  json["ignore"] = nullptr;
  Group(json)["targets"] = {"re:.*self_attn.*"};
  EXPECT_THAT(ParseError(json), AllOf(HasSubstr("no target matches a linear"),
                                      HasSubstr("model.layers.0.mlp.gate_proj")));
}

TEST(ParseQuantizationConfig, RefusesUnitsWithDifferentGrids) {
  Json json = Theirs();
  Json other = Group(json);
  other["weights"]["num_bits"] = 8;
  other["targets"] = {"re:.*k_proj"};
  json["config_groups"]["group_1"] = other;
  EXPECT_THAT(ParseError(json), AllOf(HasSubstr("linears that share their input"),
                                      HasSubstr("model.layers.0.self_attn.k_proj"),
                                      HasSubstr("model.layers.0.self_attn.q_proj")));
}

struct Spoilt {
  std::string_view pointer;  // where in what others write
  std::string_view value;    // JSON
  std::string_view part;     // of the message
};

class SpoiltConfig : public testing::TestWithParam<Spoilt> {};

TEST_P(SpoiltConfig, IsRefusedByName) {
  Json json = Theirs();
  json[Json::json_pointer(std::string(GetParam().pointer))] = Json::parse(GetParam().value);

  EXPECT_THAT(ParseError(json), AllOf(StartsWith("config.json: /quantization_config"),
                                      HasSubstr(std::string(GetParam().part))));
}
INSTANTIATE_TEST_SUITE_P(
    Table, SpoiltConfig,
    testing::Values(
        Spoilt{"/quant_method", "\"gptq\"", "gptq"},
        Spoilt{"/config_groups/group_0/format", "\"float-quantized\"", "float-quantized"},
        Spoilt{"/config_groups/group_0/format", "\"marlin-24\"", "marlin-24"},
        Spoilt{"/quantization_status", "\"frozen\"", "frozen"},
        Spoilt{"/kv_cache_scheme", R"({"num_bits":8})", "KV cache"},
        Spoilt{"/sparsity_config", R"({"format":"sparse-24-bitmask"})", "sparse-24-bitmask"},
        Spoilt{"/transform_config", R"({"config_groups":{"u":{}}})", "transform_config"},
        Spoilt{"/ignore", "\"lm_head\"", "array of strings"},
        Spoilt{"/ignore", "[1]", "array of strings"}, Spoilt{"/config_groups", "[]", "object"},
        Spoilt{"/config_groups", "{}", "no target matches"},
        Spoilt{"/config_groups/group_0", R"(["Linear"])", "not a JSON object"},
        Spoilt{"/config_groups/group_0/targets", "[]", "no target matches"},
        Spoilt{"/config_groups/group_0/targets", R"(["re:("])", "unbalanced"},
        Spoilt{"/config_groups/group_0/input_activations", R"({"num_bits":8})", "activations"},
        Spoilt{"/config_groups/group_0/weights", "null", "not a JSON object"},
        Spoilt{"/config_groups/group_0/weights/num_bits", "7", "2, 3, 4, 5, 6 or 8"},
        Spoilt{"/config_groups/group_0/weights/num_bits", "4294967298", "2, 3, 4, 5, 6 or 8"},
        Spoilt{"/config_groups/group_0/weights/type", "\"float\"", "float"},
        Spoilt{"/config_groups/group_0/weights/dynamic", "true", "dynamic"},
        Spoilt{"/config_groups/group_0/weights/dynamic", "\"local\"", "local"},
        Spoilt{"/config_groups/group_0/weights/actorder", "\"group\"", "g_idx"},
        Spoilt{"/config_groups/group_0/weights/actorder", "true", "g_idx"},
        Spoilt{"/config_groups/group_0/weights/strategy", "\"tensor\"", "tensor"},
        Spoilt{"/config_groups/group_0/weights/strategy", "\"channel\"", "group_size does not go"},
        Spoilt{"/config_groups/group_0/weights/group_size", "null", "group_size does not go"},
        Spoilt{"/config_groups/group_0/weights/group_size", "0", "group_size does not go"},
        Spoilt{"/config_groups/group_0/weights/group_size", "96", "does not divide the row"},
        Spoilt{"/config_groups/group_0/weights/group_size", "9223372036854775807",
               "does not divide the row"}));

TEST(ParseQuantizationConfig, BoundsTheWorkOfPatterns) {
  Json json = Theirs();
  Group(json)["targets"] = std::vector<std::string>(20, "re:" + std::string(4000, 'a'));
  EXPECT_THAT(ParseError(json), HasSubstr("too many patterns"));

  // Few bytes and one pattern, but asked for every linear of thousands of layers.
  std::string costly;
  for (int i = 0; i < 2; ++i) costly += "(?:.?){999}";
  Group(json)["targets"] = {"re:" + costly};
  EXPECT_EQ(ParseError(json), "");
  EXPECT_THAT(ParseError(json, 4096),
              AllOf(HasSubstr("too many patterns"), HasSubstr("steps in all for 28674 names")));
  Group(json)["targets"] = {"re:(?=" + costly + ").*"};
  EXPECT_THAT(ParseError(json, 4096), HasSubstr("too many patterns"));
  Group(json)["targets"] = {"re:(?:.|..)+[!?]"};
  EXPECT_THAT(ParseError(json, 1), HasSubstr("pattern takes too many steps"));
  Group(json)["targets"] = {"Linear"};
  json["ignore"] = {"re:(?!" + costly + ")"};
  EXPECT_THAT(ParseError(json, 4096), HasSubstr("too many patterns"));
}

}  // namespace
}  // namespace lieq
