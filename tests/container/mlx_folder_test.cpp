#include "lieq/container/mlx_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Grid Of(int bits, Index group = 64, Offset offset = Offset::kSymmetric) {
  return {.bits = bits, .group_size = group, .offset = offset};
}

TEST(MlxFolder, BiasesAreMinusScaleTimesZeroOrTheMinimum) {
  QMatrix integer(1, 64, Of(4, 64, Offset::kInteger));
  integer.scales()(0, 0) = 0.5f;
  integer.zeros()(0, 0) = 5;
  EXPECT_EQ(MlxBiases(integer)(0, 0), -2.5f);
  QMatrix half(1, 64, Of(2, 64, Offset::kHalf));
  half.scales()(0, 0) = -2;
  EXPECT_EQ(MlxBiases(half)(0, 0), 3.0f);
  QMatrix minimum(1, 64, Of(8, 64, Offset::kFloat));
  minimum.scales()(0, 0) = 1;
  minimum.minima()(0, 0) = -0.75f;
  EXPECT_EQ(MlxBiases(minimum)(0, 0), -0.75f);
}

TEST(MlxFolder, ScalesAreOfTheTypeThatHoldsTheBiasesToo) {
  QMatrix matrix(1, 64, Of(2, 64, Offset::kInteger));
  matrix.scales()(0, 0) = 255.0f / 256;  // 8 significant bits: times 3 there are 10
  matrix.zeros()(0, 0) = 2;
  EXPECT_EQ(MlxScaleType(matrix, DType::kBF16), DType::kBF16);
  matrix.zeros()(0, 0) = 3;
  EXPECT_EQ(MlxScaleType(matrix, DType::kBF16), DType::kF16);
  matrix.scales()(0, 0) = 1e30f;
  EXPECT_EQ(MlxScaleType(matrix, DType::kF16), std::nullopt);
}

TEST(MlxFolder, WordsAreThoseOfTheCodes) {
  const TempFolder folder;
  const QMatrix matrix = RandomQMatrix(8, 64, Of(3), 4);
  TensorWriter writer(folder / "m.safetensors", MlxSpecs("m", matrix, DType::kF16), {});
  WriteMlx(writer, "m", matrix, DType::kF16);
  writer.Commit();

  const TensorFile file = TensorFile::Open(folder / "m.safetensors");

  const TensorRef& weight = file.At("m.weight");
  EXPECT_EQ(weight.dtype, DType::kU32);
  EXPECT_THAT(weight.shape, ElementsAre(8, 6));
  EXPECT_TRUE(std::ranges::equal(weight.bytes, std::as_bytes(matrix.words())));
}

class MlxOfOthers : public testing::Test {
 protected:
  void Make(const std::function<Grid(Index, Unit)>& grid_of, const TinyModelOptions& options = {}) {
    source = RandomQuantizedModel(folder / "model", options, grid_of);
    std::filesystem::create_directory(out());
    FindExporter("mlx").write(source, out(), {});
  }
  std::filesystem::path out() const { return folder / "out"; }
  /// In both of its places.
  void SetQuantization(const std::string& key, const Record& value) {
    Record config = ReadRecord(out() / "config.json");
    config["quantization"][key] = value;
    config["quantization_config"] = config["quantization"];
    WriteText(out() / "config.json", config.dump());
  }
  std::string Opened() {
    return ErrorOf([&] { return OpenModel(out()); });
  }

  TempFolder folder;
  ModelFolder source;
};

TEST_F(MlxOfOthers, HasAnEntryForEachModuleThatDiffers) {
  Make(MixedGrid);
  const Record config = ReadRecord(out() / "config.json");
  const Record& quantization = config.at("quantization");
  EXPECT_EQ(quantization, config.at("quantization_config"));
  EXPECT_EQ(quantization.at("bits"), 2);
  EXPECT_EQ(quantization.at("group_size"), 64);
  EXPECT_EQ(quantization.at("mode"), "affine");
  EXPECT_EQ(quantization.at("model.layers.0.self_attn.q_proj").at("bits"), 4);
  EXPECT_EQ(quantization.at("model.layers.2.mlp.down_proj").at("bits"), 4);
  EXPECT_EQ(quantization.size(), 3u + 7 + 2);
  EXPECT_EQ(TensorFile::OpenFolder(out()).metadata().at("format"), "mlx");
}

/// mlx-lm does not read "rope_parameters" in most of its models, and says nothing.
TEST_F(MlxOfOthers, RopeIsSaidInTheOldKeysToo) {
  Make(MixedGrid, {.llama3_rope = true});
  const Record config = ReadRecord(out() / "config.json");
  Record scaling = config.at("rope_parameters");
  EXPECT_EQ(config.at("rope_theta"), scaling.at("rope_theta"));
  scaling.erase("rope_theta");
  EXPECT_EQ(config.at("rope_scaling"), scaling);
  EXPECT_EQ(OpenModel(out()).weights.config.rope, source.weights.config.rope);

  std::filesystem::remove_all(out());
  Make(MixedGrid);
  const Record plain = ReadRecord(out() / "config.json");
  EXPECT_TRUE(plain.contains("rope_theta"));
  EXPECT_FALSE(plain.contains("rope_scaling"));
}

TEST_F(MlxOfOthers, OffsetsAreKnownAgainByTheirBiases) {
  for (const Offset offset : kAllOffsets) {
    std::filesystem::remove_all(out());
    Make([&](Index, Unit) { return Of(2, 64, offset); });
    const ModelFolder opened = OpenModel(out());
    const Comparison comparison = CompareModels(source, opened);
    EXPECT_TRUE(comparison.equal()) << Name(offset);
    EXPECT_EQ(comparison.same_grids, comparison.linears) << Name(offset);
  }
}

TEST_F(MlxOfOthers, BiasesOfTheirOwnAreMinima) {
  Make([](Index, Unit) { return Of(4); });
  auto tensors = ReadRaw(out() / "model.safetensors");
  const std::string name = "model.layers.1.mlp.up_proj.biases";
  FindRaw(tensors, name).bytes[0] ^= std::byte{1};
  WriteRaw(out() / "model.safetensors", tensors);

  const ModelFolder opened = OpenModel(out());

  const auto& matrix =
      *std::get<std::shared_ptr<const QMatrix>>(opened.weights.layers[1].At(Site::kUp).weight);
  EXPECT_EQ(matrix.grid().offset, Offset::kFloat);
  const Comparison comparison = CompareModels(source, opened);
  ASSERT_FALSE(comparison.equal());
  EXPECT_EQ(comparison.differences[0].kind, "values");
  EXPECT_EQ(comparison.differences[0].tensor, "model.layers.1.mlp.up_proj");
}

TEST_F(MlxOfOthers, ModulesWithoutScalesAreFloatUnlessListed) {
  Make([](Index, Unit) { return Of(4); });
  auto tensors = ReadRaw(out() / "model.safetensors");
  const std::string module = "model.layers.1.mlp.up_proj";
  std::erase_if(tensors,
                [&](const RawTensor& each) { return each.spec.name.starts_with(module + "."); });
  tensors.push_back(
      Raw<float>(module + ".weight", DType::kF32, {256, 128}, std::vector<float>(256 * 128, 0.5f)));
  WriteRaw(out() / "model.safetensors", tensors);
  EXPECT_EQ(Opened(), "");
  SetQuantization(module, false);
  EXPECT_EQ(Opened(), "");
  SetQuantization(module, true);
  EXPECT_THAT(Opened(), HasSubstr(module));
}

TEST_F(MlxOfOthers, AQuantizedEmbeddingSurvives) {
  source = RandomQuantizedModel(folder / "model", {}, Of(2));
  source.weights.embedding = std::make_shared<const QMatrix>(RandomQMatrix(288, 128, Of(8), 3));
  source.weights.head = source.weights.embedding;
  source.ends.embedding = Of(8);
  std::filesystem::create_directory(out());
  FindExporter("mlx").write(source, out(), {});

  const ModelFolder opened = OpenModel(out());

  EXPECT_EQ(opened.ends.embedding, Of(8));
  EXPECT_TRUE(CompareModels(source, opened).equal());
}

TEST_F(MlxOfOthers, WhatIsNotReadIsRefusedByName) {
  Make([](Index, Unit) { return Of(2); });
  const std::string before = ReadText(out() / "config.json");
  struct Row {
    std::string key;
    Record value;
    std::string message;
  };
  const std::string module = "model.layers.1.mlp.up_proj";
  const std::vector<Row> table{{"bits", 7, "2, 3, 4, 5, 6 or 8"},
                               {"bits", 6, "weight"},
                               {"bits", nullptr, "bits"},
                               {"bits", 4, "weight"},
                               {"mode", "mxfp4", "affine"},
                               {"group_size", 0, "group_size"},
                               {"group_size", nullptr, "group_size"},
                               {"group_size", 9223372036854775807, "group_size"},
                               {"group_size", 48, "group size does not go"},
                               {"group_size", 128, "scales"},
                               {module, {{"bits", 4}}, module},
                               {module, {{"bits", "4"}}, "bits"}};
  for (const Row& each : table) {
    WriteText(out() / "config.json", before);
    SetQuantization(each.key, each.value);
    EXPECT_THAT(Opened(), HasSubstr(each.message)) << each.key << ": " << each.value.dump();
  }
  Record config = ParseRecord(before, "config.json");
  config["quantization_config"]["bits"] = 4;
  WriteText(out() / "config.json", config.dump());
  EXPECT_THAT(Opened(), HasSubstr("two descriptions"));

  WriteText(out() / "config.json", before);
  auto tensors = ReadRaw(out() / "model.safetensors");
  FindRaw(tensors, module + ".weight").spec.dtype = DType::kI32;
  WriteRaw(out() / "model.safetensors", tensors);
  EXPECT_THAT(Opened(), AllOf(HasSubstr(module + ".weight"), HasSubstr("U32")));
}

}  // namespace
}  // namespace lieq
