#include "lieq/container/gptq_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "lieq/container/name_pattern.h"
#include "lieq/container/packed_reader.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::uint32_t> Words(const TensorFile& file, const std::string& name) {
  const TensorRef& tensor = file.At(name);
  std::vector<std::uint32_t> words(tensor.bytes.size() / 4);
  std::memcpy(words.data(), tensor.bytes.data(), tensor.bytes.size());
  return words;
}

TensorFile Write(const TempFolder& folder, const QMatrix& matrix, GptqVersion version) {
  TensorWriter writer(folder / "m.safetensors", GptqSpecs("m", matrix), {});
  WriteGptq(writer, "m", matrix, version);
  writer.Commit();
  return TensorFile::Open(folder / "m.safetensors");
}

// ---- layout -------------------------------------------------------------------------------------

TEST(GptqFolder, PacksTheCodesOfAColumnFromTheLowestBitUp) {
  // Row 5 of the matrix is column 5 of the file; its codes count up.
  const std::vector<std::vector<std::uint32_t>> golden{
      {0xE4E4E4E4}, {0x88FAC688, 0xC688FAC6, 0xFAC688FA}, {0x76543210}};
  std::size_t each = 0;
  for (const int bits : {2, 3, 4}) {
    const TempFolder folder;
    QMatrix matrix(32, 32, {.bits = bits, .group_size = 32});
    std::vector<std::uint8_t> codes(32);
    for (std::size_t i = 0; i < 32; ++i) {
      codes[i] = static_cast<std::uint8_t>(i % std::min<std::size_t>(8, 1u << bits));
    }
    matrix.SetRow(5, codes);

    const TensorFile file = Write(folder, matrix, GptqVersion::kV2);

    const std::vector<std::uint32_t> words = Words(file, "m.qweight");
    ASSERT_EQ(words.size(), Size(bits * 32));
    for (std::size_t word = 0; word < golden[each].size(); ++word) {
      EXPECT_EQ(words[word * 32 + 5], golden[each][word]) << bits << " bits, word " << word;
      EXPECT_EQ(words[word * 32 + 4], 0u);
    }
    ++each;
  }
}

TEST(GptqFolder, StoresOneLessThanTheZeroPointInVersionOne) {
  struct Golden {
    int bits;
    std::vector<std::uint32_t> v1, v2;
  };
  const std::vector<Golden> table{
      {2, {0x55555555}, {0xAAAAAAAA}},
      {3, {0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D}, {0x24924924, 0x49249249, 0x92492492}},
      {4, {0x77777777}, {0x88888888}},
      {8, {0x7F7F7F7F}, {0x80808080}}};
  for (const Golden& golden : table) {
    for (const GptqVersion version : {GptqVersion::kV1, GptqVersion::kV2}) {
      const TempFolder folder;
      const QMatrix matrix(32, 64, {.bits = golden.bits, .group_size = 32});

      const TensorFile file = Write(folder, matrix, version);

      const auto& expected = version == GptqVersion::kV1 ? golden.v1 : golden.v2;
      const std::vector<std::uint32_t> words = Words(file, "m.qzeros");
      ASSERT_EQ(words.size(), Size(2 * golden.bits));
      for (std::size_t i = 0; i < words.size(); ++i) {
        EXPECT_EQ(words[i], expected[i % expected.size()]) << golden.bits << " bits, word " << i;
      }
    }
  }
}

TEST(GptqFolder, HasTheScaleOfAGroupInItsRowAndTheGroupOfAColumn) {
  const TempFolder folder;
  QMatrix matrix(32, 64, {.bits = 4, .group_size = 32});
  matrix.scales()(3, 1) = -0.5f;

  const TensorFile file = Write(folder, matrix, GptqVersion::kV1);

  const TensorRef& scales = file.At("m.scales");
  EXPECT_EQ(scales.dtype, DType::kF16);
  EXPECT_THAT(scales.shape, ElementsAre(2, 32));
  std::uint16_t item = 0;
  std::memcpy(&item, scales.bytes.data() + 2 * (32 + 3), 2);
  EXPECT_EQ(ToFloat(F16{item}), -0.5f);
  const std::vector<std::uint32_t> order = Words(file, "m.g_idx");
  EXPECT_THAT(std::vector(order.begin(), order.begin() + 32), Each(0u));
  EXPECT_THAT(std::vector(order.begin() + 32, order.end()), Each(1u));
}

TEST(GptqFolder, VersionOneHasNoZeroPointOfZero) {
  const TempFolder folder;
  QMatrix matrix(32, 32, {.bits = 2, .group_size = 32, .offset = Offset::kInteger});
  for (Index row = 0; row < 32; ++row) matrix.zeros()(row, 0) = 1;
  EXPECT_NO_THROW(Write(folder, matrix, GptqVersion::kV1));
  matrix.zeros()(7, 0) = 0;

  const Problem problem = ProblemOf([&] { (void)Write(folder, matrix, GptqVersion::kV1); });

  EXPECT_THAT(problem.where, HasSubstr("row 7, group 0"));
  EXPECT_THAT(problem.hint, HasSubstr("version 2"));
  const TensorFile file = Write(folder, matrix, GptqVersion::kV2);
  EXPECT_EQ(ReadGptq(file, "m", 32, 32, matrix.grid(), GptqVersion::kV2).zeros()(7, 0), 0);
}

// ---- config -------------------------------------------------------------------------------------

Grid Of(int bits, Index group = 64, Offset offset = Offset::kSymmetric) {
  return {.bits = bits, .group_size = group, .offset = offset};
}

LayerGrids Layers(const std::vector<Grid>& grids) {
  LayerGrids layers;
  for (const Grid& grid : grids) {
    layers.emplace_back();
    layers.back().fill(grid);
  }
  return layers;
}

TEST(GptqConfig, HasTheNarrowestWidthAsItsBaseAndRulesForTheOthers) {
  std::vector<Grid> grids(24, Of(2));
  grids[0] = grids[1] = grids[23] = Of(4);
  const Record record = GptqConfig(Layers(grids), GptqVersion::kV1, "lieq:9");

  EXPECT_EQ(record.at("quant_method"), "gptq");
  EXPECT_EQ(record.at("checkpoint_format"), "gptq");
  EXPECT_EQ(record.at("bits"), 2);
  EXPECT_EQ(record.at("group_size"), 64);
  EXPECT_EQ(record.at("sym"), true);
  EXPECT_EQ(record.at("desc_act"), false);
  EXPECT_EQ(record.at("meta").at("quantizer").at(0), "lieq:9");
  ASSERT_EQ(record.at("dynamic").size(), 1u);
  const auto rule = record.at("dynamic").begin();
  const std::string key = rule.key();
  EXPECT_EQ(rule.value().at("bits"), 4);
  ASSERT_TRUE(key.starts_with("+:"));
  const NamePattern pattern(key.substr(2), "test");
  for (Index layer = 0; layer < 24; ++layer) {
    // The names of linears, and those that vLLM asks for.
    for (const char* module : {"self_attn.q_proj", "self_attn.qkv_proj", "self_attn.o_proj",
                               "mlp.gate_proj", "mlp.gate_up_proj", "mlp.down_proj"}) {
      const std::string name = "model.layers." + std::to_string(layer) + "." + module;
      EXPECT_EQ(pattern.Matches(name), layer < 2 || layer == 23) << name;
    }
  }
}

TEST(GptqConfig, HasRulesForUnitsThatHoldForFusedNames) {
  LayerGrids grids = Layers({Of(2), Of(2), Of(2)});
  for (const Site site : SitesOf(Unit::kQkv)) grids[1][static_cast<std::size_t>(site)] = Of(4, 32);
  for (const Site site : SitesOf(Unit::kDown)) {
    grids[1][static_cast<std::size_t>(site)] = Of(8, 0, Offset::kInteger);
  }
  const Record record = GptqConfig(grids, GptqVersion::kV2, "lieq");

  const auto matches = [&](const std::string& module) {
    std::vector<int> bits;
    for (const auto& [key, rule] : record.at("dynamic").items()) {
      if (NamePattern(key.substr(2), "test").Matches("model.layers.1." + module)) {
        bits.push_back(rule.at("bits").get<int>());
        EXPECT_EQ(rule.contains("sym"), bits.back() == 8);
        EXPECT_EQ(rule.at("group_size"), bits.back() == 8 ? -1 : 32);
      }
    }
    return bits;
  };
  for (const char* module :
       {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.qkv_proj"}) {
    EXPECT_THAT(matches(module), ElementsAre(4)) << module;
  }
  EXPECT_THAT(matches("mlp.down_proj"), ElementsAre(8));
  EXPECT_THAT(matches("mlp.gate_up_proj"), ElementsAre());
  EXPECT_THAT(matches("self_attn.o_proj"), ElementsAre());
  EXPECT_EQ(record.at("checkpoint_format"), "gptq_v2");
}

// ---- folders of others --------------------------------------------------------------------------

class GptqOfOthers : public testing::Test {
 protected:
  void Make(const Grid& grid, int version = 0) {
    source = RandomQuantizedModel(folder / "model", {.layers = 12}, grid);
    std::filesystem::create_directory(out());
    FindExporter("gptq").write(source, out(), {.gptq_version = version});
  }
  std::filesystem::path out() const { return folder / "out"; }
  void SetQuantization(const std::string& key, const Record& value) {
    Record config = ReadRecord(out() / "config.json");
    config["quantization_config"][key] = value;
    WriteText(out() / "config.json", config.dump());
  }
  std::string Opened() {
    return ErrorOf([&] { return OpenModel(out()); });
  }
  bool Same() { return CompareModels(source, OpenModel(out())).equal(); }

  TempFolder folder;
  ModelFolder source;
};

TEST_F(GptqOfOthers, TheFirstRuleThatMatchesDecides) {
  Make(Of(2));
  SetQuantization("bits", 8);  // what no module has
  SetQuantization("group_size", 128);
  SetQuantization("dynamic", {{"+:z.*", {{"bits", 3}}},
                              {"+:model\\.layers\\.1", {{"bits", 2}, {"group_size", 64}}},
                              {".*", {{"bits", 2}, {"group_size", 64}}},
                              {"+:.*down_proj", {{"bits", 4}}}});
  EXPECT_TRUE(Same());
}

TEST_F(GptqOfOthers, AModuleThatARuleTakesOutIsFloat) {
  Make(Of(2));
  SetQuantization("dynamic", {{"-:.*layers\\.3\\.mlp\\.up_proj", Record::object()}});
  auto tensors = ReadRaw(out() / "model.safetensors");
  const std::string module = "model.layers.3.mlp.up_proj";
  std::erase_if(tensors,
                [&](const RawTensor& each) { return each.spec.name.starts_with(module + "."); });
  tensors.push_back(
      Raw<float>(module + ".weight", DType::kF32, {256, 128}, std::vector<float>(256 * 128, 0.5f)));
  WriteRaw(out() / "model.safetensors", tensors);

  const ModelFolder opened = OpenModel(out());

  const AnyMatrix& weight = opened.weights.layers[3].At(Site::kUp).weight;
  EXPECT_TRUE((std::holds_alternative<View<const float, 2>>(weight)));
  EXPECT_TRUE(opened.quantized);
}

TEST_F(GptqOfOthers, BothVersionsAreRead) {
  Make(Of(4), 1);
  EXPECT_TRUE(Same());
  SetQuantization("checkpoint_format", "gptq_v2");
  EXPECT_THAT(Opened(), HasSubstr("not symmetric"));  // 7, where 8 is the middle
}

TEST_F(GptqOfOthers, AMissingOrderIsTheOrderOfColumns) {
  Make(Of(4));
  auto tensors = ReadRaw(out() / "model.safetensors");
  std::erase_if(tensors, [](const RawTensor& each) { return each.spec.name.ends_with(".g_idx"); });
  WriteRaw(out() / "model.safetensors", tensors);
  SetQuantization("desc_act", true);
  EXPECT_TRUE(Same());
}

TEST_F(GptqOfOthers, ColumnsInAnotherOrderAreRefusedByName) {
  Make(Of(4));
  auto tensors = ReadRaw(out() / "model.safetensors");
  RawTensor& order = FindRaw(tensors, "model.layers.2.mlp.down_proj.g_idx");
  std::swap(order.bytes[0], order.bytes[4 * 64]);
  WriteRaw(out() / "model.safetensors", tensors);
  EXPECT_THAT(Opened(), AllOf(HasSubstr("model.layers.2.mlp.down_proj.g_idx"),
                              HasSubstr("another order"), HasSubstr("0 at column 0")));
}

TEST_F(GptqOfOthers, AVersionOneZeroThatCarriesIsRefused) {
  Make(Of(2, 64, Offset::kInteger), 2);  // zero-points 0 to 3
  SetQuantization("checkpoint_format", "gptq");
  EXPECT_THAT(Opened(),
              AllOf(HasSubstr("qzeros"), HasSubstr("version 1"), HasSubstr("4 in group")));
}

struct Spoilt {
  std::string key;
  Record value;
  std::string message;
};

TEST_F(GptqOfOthers, OptionsThatAreNotReadAreRefusedByName) {
  Make(Of(2));
  const std::string before = ReadText(out() / "config.json");
  const std::vector<Spoilt> table{
      {"bits", 5, "2, 3, 4 or 8"},
      {"bits", nullptr, "bits"},
      {"bits", "4", "bits"},
      {"bits", 4, "qweight"},
      {"group_size", 0, "group_size"},
      {"group_size", -2, "group_size"},
      {"group_size", 9223372036854775807, "group_size"},
      {"group_size", 96, "group size does not divide"},
      {"group_size", 32, "qzeros"},
      {"checkpoint_format", "marlin", "gptq or gptq_v2"},
      {"pack_dtype", "int16", "int32"},
      {"lm_head", "yes", "lm_head"},
      {"sym", "yes", "sym"},
      {"dynamic", "all", "an object of rules"},
      {"dynamic", {{"+:(?<=a)b", {{"bits", 4}}}}, "dynamic"},
      {"dynamic", {{"+:.*", 4}}, "dynamic"},
      {"dynamic", {{"+:.*", {{"bits", 7}}}}, "2, 3, 4 or 8"},
      {"dynamic", {{"+:" + std::string(70000, 'a'), {{"bits", 4}}}}, "too many patterns"},
      {"dynamic", {{"-:(?:.|..)+[!?]", Record::object()}}, "too many steps"}};
  for (const Spoilt& each : table) {
    WriteText(out() / "config.json", before);
    SetQuantization(each.key, each.value);
    EXPECT_THAT(Opened(), HasSubstr(each.message))
        << each.key << ": " << each.value.dump().substr(0, 60);
  }
}

TEST_F(GptqOfOthers, TensorsOfAnotherKindAreRefusedByName) {
  Make(Of(2));
  const auto good = ReadRaw(out() / "model.safetensors");
  const std::string module = "model.layers.1.self_attn.o_proj.";
  const auto spoil = [&](const std::string& suffix, const auto& change) {
    auto tensors = good;
    change(FindRaw(tensors, module + suffix));
    WriteRaw(out() / "model.safetensors", tensors);
    return Opened();
  };
  const auto turn = [](RawTensor& tensor) {
    std::swap(tensor.spec.shape[0], tensor.spec.shape[1]);
  };
  for (const std::string suffix : {"qweight", "qzeros", "scales"}) {
    EXPECT_THAT(spoil(suffix, turn), AllOf(HasSubstr(module + suffix), HasSubstr("wrong type or")));
  }
  EXPECT_THAT(spoil("qweight", [](RawTensor& tensor) { tensor.spec.dtype = DType::kU32; }),
              HasSubstr("I32"));
  EXPECT_THAT(spoil("scales", [](RawTensor& tensor) { tensor.spec.dtype = DType::kI16; }),
              HasSubstr("F16, BF16 or F32"));
  EXPECT_THAT(spoil("scales",
                    [](RawTensor& tensor) {
                      tensor.bytes[0] = std::byte{0};
                      tensor.bytes[1] = std::byte{0x7C};
                    }),
              HasSubstr("not finite"));
  auto tensors = good;
  std::erase_if(tensors,
                [&](const RawTensor& each) { return each.spec.name == module + "scales"; });
  WriteRaw(out() / "model.safetensors", tensors);
  EXPECT_THAT(Opened(), HasSubstr(module + "scales"));
}

TEST_F(GptqOfOthers, AQuantizedHeadIsRead) {
  source = RandomQuantizedModel(folder / "model", {.layers = 1, .tied = false}, Of(2));
  std::filesystem::create_directory(out());
  FindExporter("gptq").write(source, out(), {});
  const QMatrix head = RandomQMatrix(288, 128, Of(2), 99);
  {
    TensorWriter writer(folder / "head.safetensors", GptqSpecs("lm_head", head), {});
    WriteGptq(writer, "lm_head", head, GptqVersion::kV1);
    writer.Commit();
  }
  auto tensors = ReadRaw(out() / "model.safetensors");
  std::erase_if(tensors, [](const RawTensor& each) { return each.spec.name == "lm_head.weight"; });
  for (RawTensor& each : ReadRaw(folder / "head.safetensors")) tensors.push_back(std::move(each));
  WriteRaw(out() / "model.safetensors", tensors);
  EXPECT_THAT(Opened(), HasSubstr("head"));
  SetQuantization("lm_head", true);

  const ModelFolder opened = OpenModel(out());

  ASSERT_TRUE(opened.ends.head.has_value());
  const auto& read = *std::get<std::shared_ptr<const QMatrix>>(opened.weights.head);
  EXPECT_TRUE(std::ranges::equal(read.words(), head.words()));
}

TEST(GptqExport, RefusesAQuantizedEmbeddingAndUnitsOfSeveralGrids) {
  const TempFolder folder;
  ModelFolder source = RandomQuantizedModel(folder / "model", {}, Of(2));
  std::filesystem::create_directory(folder / "out");
  const auto error = [&] {
    return ErrorOf([&] { FindExporter("gptq").write(source, folder / "out", {}); });
  };
  source.ends.embedding = Of(4);
  EXPECT_THAT(error(), HasSubstr("no quantized embedding"));
  source.ends.embedding.reset();
  source.weights.layers[1].At(Site::kK).weight =
      std::make_shared<const QMatrix>(RandomQMatrix(64, 128, Of(4), 1));
  EXPECT_THAT(error(), AllOf(HasSubstr("different grids"), HasSubstr("layers.1.self_attn.k_proj")));
}

}  // namespace
}  // namespace lieq
