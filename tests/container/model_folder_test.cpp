#include "lieq/container/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "tests/support/error_of.h"
#include "tests/support/places.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string OpenError(const std::filesystem::path& folder) {
  return ErrorOf([&] { return OpenModel(folder); });
}

using Tensors = std::vector<RawTensor>;

void Remove(Tensors& tensors, std::string_view name) {
  std::erase_if(tensors, [&](const RawTensor& each) { return each.spec.name == name; });
}

void SetConfig(const std::filesystem::path& folder, const std::string& key, const Json& value) {
  Json json = ReadJson(folder / "config.json");
  json[key] = value;
  WriteText(folder / "config.json", json.dump());
}

std::vector<float> Widened(const AnyMatrix& matrix) {
  Matrix<float> wide(Rows(matrix), Cols(matrix));
  WidenRows(matrix, 0, wide.view());
  return {wide.data(), wide.data() + wide.size()};
}

// ---- what opens -------------------------------------------------------------------------------

struct Variant {
  std::string_view label;
  TinyModelOptions options;
};

class EachVariant : public testing::TestWithParam<Variant> {};

TEST_P(EachVariant, OpensWithEveryTensorInItsPlace) {
  const TinyModelOptions& options = GetParam().options;
  const TempFolder folder;
  MakeTinyModel(folder.path(), options);

  const ModelFolder model = OpenModel(folder.path());

  const ModelConfig& config = model.weights.config;
  EXPECT_EQ(config.architecture, options.architecture);
  EXPECT_EQ(model.dtype, options.dtype);
  EXPECT_FALSE(model.quantized);
  EXPECT_EQ(model.config.at("architectures").at(0), options.architecture);
  EXPECT_EQ(model.weights.maps.size(), static_cast<std::size_t>(options.shards));
  EXPECT_THAT(model.weights.owners, IsEmpty());  // nothing had to be copied
  ASSERT_EQ(model.weights.layers.size(), Size(options.layers));
  for (const LayerWeights& layer : model.weights.layers) {
    for (const Site site : kAllSites) {
      EXPECT_EQ(Rows(layer.At(site).weight), config.Out(site));
      EXPECT_EQ(Cols(layer.At(site).weight), config.In(site));
      EXPECT_EQ(layer.At(site).bias.size(), config.HasBias(site) ? Size(config.Out(site)) : 0u);
    }
    EXPECT_EQ(layer.attention_norm.size(), Size(options.hidden));
    EXPECT_EQ(layer.q_norm.size(), config.qk_norm ? Size(options.head_dim) : 0u);
    EXPECT_NEAR(layer.mlp_norm[0], 1.0f, 0.4f);
  }
  EXPECT_EQ(Widened(model.weights.head) == Widened(model.weights.embedding), options.tied);
  double squares = 0;
  const std::vector<float> embedding = Widened(model.weights.embedding);
  for (const float value : embedding) squares += value * value;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(embedding.size())), 0.05, 0.005);
}
INSTANTIATE_TEST_SUITE_P(
    All, EachVariant,
    testing::Values(
        Variant{"Llama", {.architecture = "LlamaForCausalLM", .tied = false, .llama3_rope = true}},
        Variant{"LlamaBiases",
                {.architecture = "LlamaForCausalLM", .attention_bias = true, .mlp_bias = true}},
        Variant{"LlamaOldRopeKeys",
                {.architecture = "LlamaForCausalLM", .llama3_rope = true, .old_rope_keys = true}},
        Variant{"Qwen2", {.architecture = "Qwen2ForCausalLM", .dtype = DType::kF16}},
        Variant{"Qwen2OldRopeKeys", {.architecture = "Qwen2ForCausalLM", .old_rope_keys = true}},
        Variant{"Qwen3", {.head_dim = 64}}, Variant{"Qwen3Biases", {.attention_bias = true}},
        Variant{"Qwen3Float32", {.dtype = DType::kF32}},
        Variant{"Qwen3Shards", {.tied = false, .shards = 3}}),
    [](const auto& each) { return std::string(each.param.label); });

TEST(MakeTinyModel, GivesTheSameBytesForTheSameOptions) {
  const TempFolder a, b, c;
  MakeTinyModel(a.path());
  MakeTinyModel(b.path());
  MakeTinyModel(c.path(), {.seed = 2});
  const auto weights = [](const TempFolder& folder) {
    return ReadText(folder / "model.safetensors");
  };
  EXPECT_EQ(weights(a), weights(b));
  EXPECT_NE(weights(a), weights(c));
}

TEST(OpenModel, ReadsTheSampleOfTheRepository) {
  const ModelFolder model = OpenModel(std::filesystem::path(LIEQ_SOURCE_DIR) / "models" / "sample");
  EXPECT_EQ(model.weights.config.architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(model.weights.layers.size(), 6u);
  EXPECT_EQ(model.weights.maps.size(), 2u);
}

TEST(OpenModel, ReadsTheReferenceModels) {
  const auto shared = std::filesystem::path(LIEQ_SOURCE_DIR) / ".." / "shared" / "models";
  if (!std::filesystem::exists(shared)) GTEST_SKIP() << "no ../shared/models beside the repository";
  for (const char* name : {"qwen3-24l", "qwen3-tiny", "llama-tiny", "qwen2-tiny"}) {
    const ModelFolder model = OpenModel(shared / name);
    EXPECT_FALSE(model.quantized) << name;
    EXPECT_EQ(model.dtype, DType::kBF16) << name;
  }
  EXPECT_TRUE(OpenModel(shared / "llama-tiny").weights.config.rope.scaling == RopeScaling::kLlama3);
  EXPECT_EQ(OpenModel(shared / "qwen3-tiny").weights.config.head_dim, 128);
}

class TinyFolder : public testing::Test {
 protected:
  void SetUp() override { MakeTinyModel(folder_.path(), {.layers = 2}); }
  Tensors Weights() const { return ReadRaw(folder_ / "model.safetensors"); }
  std::string ErrorWith(const Tensors& tensors) const {
    WriteRaw(folder_ / "model.safetensors", tensors);
    return OpenError(folder_.path());
  }
  TempFolder folder_;
};

TEST_F(TinyFolder, KeepsEachTensorInItsOwnType) {
  Tensors tensors = Weights();
  RawTensor& norm = FindRaw(tensors, "model.norm.weight");
  norm.spec.dtype = DType::kF32;
  const std::vector<float> values(128, 1.25f);
  norm.bytes.assign(std::as_bytes(std::span(values)).begin(),
                    std::as_bytes(std::span(values)).end());
  RawTensor& up = FindRaw(tensors, "model.layers.1.mlp.up_proj.weight");
  up.spec.dtype = DType::kF16;
  ASSERT_THAT(ErrorWith(tensors), IsEmpty());

  const ModelFolder model = OpenModel(folder_.path());

  EXPECT_EQ(model.weights.final_norm, values);
  using HalfView = View<const F16, 2>;
  EXPECT_TRUE(std::holds_alternative<HalfView>(model.weights.layers[1].At(Site::kUp).weight));
}

TEST_F(TinyFolder, CopiesTensorsThatLieUnaligned) {
  const std::vector<float> before = Widened(OpenModel(folder_.path()).weights.embedding);
  Tensors tensors = Weights();
  // One odd byte in front moves every tensor behind it to an odd address.
  tensors.insert(tensors.begin(), {{"model.rotary_emb.inv_freq", DType::kU8, {1}}, {std::byte{1}}});
  ASSERT_THAT(ErrorWith(tensors), IsEmpty());

  ModelFolder model = OpenModel(folder_.path());
  const lieq::Weights copy = model.weights;
  model = {};  // the copy alone keeps the memory

  EXPECT_EQ(copy.owners.size(), 1u + 2 * kSites);
  EXPECT_EQ(Widened(copy.embedding), before);
  EXPECT_EQ(Widened(copy.head), before);
  copy.ReleaseLayer(0);  // of no use for memory that is not mapped, and no harm
  EXPECT_EQ(Widened(copy.layers[0].At(Site::kQ).weight).size(), 128u * 128u);
}

TEST_F(TinyFolder, IgnoresTheTableOfRotaryFrequencies) {
  Tensors tensors = Weights();
  tensors.push_back(
      {{"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kU8, {1}}, {std::byte{1}}});
  EXPECT_THAT(ErrorWith(tensors), IsEmpty());
}

TEST_F(TinyFolder, TakesATiedHeadOnlyWhereItIsTheEmbedding) {
  Tensors tensors = Weights();
  RawTensor head = FindRaw(tensors, "model.embed_tokens.weight");
  head.spec.name = "lm_head.weight";
  tensors.push_back(head);
  EXPECT_THAT(ErrorWith(tensors), IsEmpty());

  tensors.back().bytes[0] ^= std::byte{1};
  EXPECT_THAT(ErrorWith(tensors),
              AllOf(HasSubstr("tensor 'lm_head.weight'"), HasSubstr("differs from the embedding")));
  SetConfig(folder_.path(), "tie_word_embeddings", false);
  EXPECT_THAT(OpenError(folder_.path()), IsEmpty());
}

TEST_F(TinyFolder, TakesATiedHeadOfAnotherTypeWhereItsNumbersAreTheSame) {
  const std::vector<float> values = Widened(OpenModel(folder_.path()).weights.embedding);
  const Tensors whole = Weights();
  Tensors tensors = whole;
  tensors.push_back(Raw("lm_head.weight", DType::kF32, {288, 128}, values));
  ASSERT_THAT(ErrorWith(tensors), IsEmpty());

  const ModelFolder model = OpenModel(folder_.path());
  EXPECT_THAT(model.notes, testing::Contains(HasSubstr("read as tied")));
  EXPECT_FALSE(model.tensors.Has("lm_head.weight"));  // so that no result has it
  EXPECT_EQ(Widened(model.weights.head), values);

  // The other way round: the head keeps the narrow type.
  tensors = whole;
  RawTensor head = FindRaw(tensors, "model.embed_tokens.weight");
  head.spec.name = "lm_head.weight";
  FindRaw(tensors, "model.embed_tokens.weight") =
      Raw("model.embed_tokens.weight", DType::kF32, {288, 128}, values);
  tensors.push_back(head);
  EXPECT_THAT(ErrorWith(tensors), IsEmpty());

  std::vector<float> other = values;
  other.back() += 1;
  tensors = whole;
  tensors.push_back(Raw("lm_head.weight", DType::kF32, {288, 128}, other));
  EXPECT_THAT(ErrorWith(tensors), AllOf(HasSubstr("differs from the embedding"),
                                        HasSubstr("\"tie_word_embeddings\": false")));
}

TEST_F(TinyFolder, NeedsAHeadWhereItIsNotTied) {
  SetConfig(folder_.path(), "tie_word_embeddings", false);
  EXPECT_THAT(OpenError(folder_.path()),
              AllOf(HasSubstr("the head is missing"), HasSubstr("lm_head.weight"),
                    HasSubstr("\"tie_word_embeddings\": true")));
}

TEST_F(TinyFolder, ReadsTheClassByItsModelTypeOrItsBody) {
  for (const Json& names : {Json::array(), Json(nullptr), Json::array({"Qwen3Model"})}) {
    SetConfig(folder_.path(), "architectures", names);
    const ModelFolder model = OpenModel(folder_.path());
    EXPECT_EQ(model.weights.config.architecture, "Qwen3ForCausalLM") << names;
    EXPECT_EQ(model.config.at("architectures"), Record::array({"Qwen3ForCausalLM"})) << names;
    EXPECT_THAT(model.notes, testing::SizeIs(1)) << names;
  }
  SetConfig(folder_.path(), "architectures", Json::array({"Qwen3ForSequenceClassification"}));
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("architecture is not supported"));
  SetConfig(folder_.path(), "architectures", Json::array());
  SetConfig(folder_.path(), "model_type", "mamba");
  EXPECT_THAT(OpenError(folder_.path()), AllOf(HasSubstr("/model_type"), HasSubstr("mamba")));
}

TEST_F(TinyFolder, NotesNumbersThatTheConfigLeavesOut) {
  EXPECT_THAT(OpenModel(folder_.path()).notes, IsEmpty());
  SetConfig(folder_.path(), "rms_norm_eps", nullptr);
  SetConfig(folder_.path(), "rope_parameters", nullptr);
  EXPECT_THAT(OpenModel(folder_.path()).notes,
              testing::ElementsAre(
                  AllOf(HasSubstr("rms_norm_eps 1e-06"), HasSubstr("rope_theta 10000.0"))));
}

TEST_F(TinyFolder, NotesASlidingWindowThatNoLayerHas) {
  SetConfig(folder_.path(), "use_sliding_window", true);
  SetConfig(folder_.path(), "sliding_window", 64);
  SetConfig(folder_.path(), "max_window_layers", 2);
  EXPECT_THAT(OpenModel(folder_.path()).notes, testing::Contains(HasSubstr("sliding window")));
}

// ---- what does not ----------------------------------------------------------------------------

TEST_F(TinyFolder, NamesTensorsThatAreMissing) {
  const Tensors whole = Weights();
  for (const char* name :
       {"model.embed_tokens.weight", "model.norm.weight", "model.layers.1.self_attn.q_norm.weight",
        "model.layers.1.post_attention_layernorm.weight",
        "model.layers.0.self_attn.v_proj.weight"}) {
    Tensors tensors = whole;
    Remove(tensors, name);
    EXPECT_THAT(ErrorWith(tensors), AllOf(HasSubstr("tensor is missing"), HasSubstr(name)));
  }
}

TEST_F(TinyFolder, NamesTheFirstOfTheTensorsThatNobodyAskedFor) {
  Tensors tensors = Weights();
  for (const char* name : {"a.bias", "b.bias", "c.bias", "d.bias", "e.bias"}) {
    tensors.push_back({{name, DType::kU8, {1}}, {std::byte{0}}});
  }
  EXPECT_THAT(ErrorWith(tensors), AllOf(HasSubstr("tensor not expected in a Qwen3ForCausalLM"),
                                        HasSubstr("a.bias, b.bias, c.bias and 2 more")));
}

TEST_F(TinyFolder, NamesLayersBeyondTheConfig) {
  SetConfig(folder_.path(), "num_hidden_layers", 1);
  EXPECT_THAT(OpenError(folder_.path()),
              AllOf(HasSubstr("tensor not expected"), HasSubstr("model.layers.1.")));
}

TEST_F(TinyFolder, NamesTensorsOfAnotherShapeOrType) {
  Tensors tensors = Weights();
  FindRaw(tensors, "model.layers.0.mlp.up_proj.weight").spec.shape = {128, 256};
  EXPECT_THAT(ErrorWith(tensors),
              AllOf(HasSubstr("model.layers.0.mlp.up_proj.weight"), HasSubstr("config.json"),
                    HasSubstr("BF16 [256, 128]"), HasSubstr("BF16 [128, 256]")));

  FindRaw(tensors, "model.layers.0.mlp.up_proj.weight").spec = {
      "model.layers.0.mlp.up_proj.weight", DType::kI16, {256, 128}};
  EXPECT_THAT(ErrorWith(tensors), AllOf(HasSubstr("BF16, F16 or F32"), HasSubstr("I16")));
}

TEST_F(TinyFolder, NamesNormsThatAreNotFinite) {
  Tensors tensors = Weights();
  const std::array<std::uint8_t, 2> nan{0xC0, 0x7F};
  std::memcpy(FindRaw(tensors, "model.layers.1.input_layernorm.weight").bytes.data() + 10,
              nan.data(), 2);
  EXPECT_THAT(ErrorWith(tensors), AllOf(HasSubstr("model.layers.1.input_layernorm.weight"),
                                        HasSubstr("value is not finite"), HasSubstr("column 5")));
}

TEST_F(TinyFolder, RefusesAFileCutAtAnyOf64Places) {
  const auto path = folder_ / "model.safetensors";
  const std::uint64_t size = std::filesystem::file_size(path);
  for (std::size_t part = 64; part-- > 0;) {
    std::filesystem::resize_file(path, size * part / 64);
    EXPECT_THAT(OpenError(folder_.path()), HasSubstr("model.safetensors")) << part;
  }
}

TEST_F(TinyFolder, RefusesAConfigThatIsNoConfig) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{\"a\":\"\xFF\"}"),
        std::string("{\"hidden_size\":1,\"hidden_size\":2}")}) {
    WriteText(folder_ / "config.json", text);
    EXPECT_THAT(OpenError(folder_.path()), HasSubstr("config.json")) << text;
  }
  WriteText(folder_ / "config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("too large"));
}

TEST(OpenModel, TellsHowToDownloadWhatLooksLikeAHubName) {
  EXPECT_THAT(OpenError("Qwen/Qwen3-0.6B"),
              AllOf(HasSubstr("no such folder"),
                    HasSubstr("hf download Qwen/Qwen3-0.6B --local-dir Qwen3-0.6B"),
                    HasSubstr("huggingface-cli download")));
  for (const char* path :
       {"nowhere", "/no/folder", "a/b/c", "./model", "../model", "a b/c", "$(x)/y", "a/", "/a"}) {
    EXPECT_THAT(OpenError(path), AllOf(HasSubstr("no such folder"), Not(HasSubstr("hf download"))))
        << path;
  }
}

TEST(OpenModel, SaysWhatAFolderIsInstead) {
  const TempFolder folder;
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("config.json is missing"));
  WriteText(folder / "params.json", "{}");
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("Meta's own layout"));
  WriteText(folder / "adapter_config.json", "{}");
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("merge it into its base model"));
  EXPECT_THAT(OpenError(folder / "params.json"), HasSubstr("not a folder"));
}

// ---- quantized folders ------------------------------------------------------------------------

using TwoGrids = std::array<Grid, 2>;
constexpr TwoGrids kGrids{Grid{.bits = 2, .group_size = 64},
                          Grid{.bits = 3, .group_size = 32, .offset = Offset::kInteger}};
constexpr TwoGrids kOwnGrids{Grid{.bits = 2, .group_size = 64, .offset = Offset::kHalf},
                             Grid{.bits = 3, .group_size = 32, .offset = Offset::kFloat}};

/// Turns a float folder into a quantized one, layer i on grid i % 2.
std::vector<QMatrix> QuantizeFolder(const std::filesystem::path& folder,
                                    const TwoGrids& both = kGrids) {
  const ModelConfig config = OpenModel(folder).weights.config;
  Tensors tensors = ReadRaw(folder / "model.safetensors");
  LayerGrids grids(Size(config.layers));
  std::vector<QMatrix> matrices;
  std::vector<std::string> modules;
  std::vector<TensorSpec> specs;
  for (Index layer = 0; layer < config.layers; ++layer) {
    const Grid& grid = both[Size(layer % 2)];
    grids[Size(layer)].fill(grid);
    for (const Site site : kAllSites) {
      modules.push_back(ModuleName(layer, site));
      Remove(tensors, modules.back() + ".weight");
      matrices.push_back(RandomQMatrix(config.Out(site), config.In(site), grid, modules.size()));
      std::ranges::move(
          PackedSpecs(modules.back(), config.Out(site), config.In(site), grid, DType::kBF16),
          std::back_inserter(specs));
    }
  }
  for (const RawTensor& tensor : tensors) specs.push_back(tensor.spec);
  TensorWriter writer(folder / "model.safetensors", specs, {});
  for (std::size_t i = 0; i < modules.size(); ++i) {
    WritePacked(writer, modules[i], matrices[i], DType::kBF16);
  }
  for (const RawTensor& tensor : tensors) writer.Write(tensor.spec.name, tensor.bytes);
  writer.Commit();
  SetConfig(folder, "quantization_config",
            Json::parse(QuantizationConfig({.layers = grids}).dump()));
  return matrices;
}

TEST(QuantizedFolder, OpensIntoTheSameMatrices) {
  for (const char* architecture : {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    for (const TwoGrids& both : {kGrids, kOwnGrids}) {
      const TempFolder folder;
      MakeTinyModel(folder.path(), {.architecture = architecture, .tied = false});
      const std::vector<QMatrix> matrices = QuantizeFolder(folder.path(), both);

      const ModelFolder model = OpenModel(folder.path());

      EXPECT_TRUE(model.quantized);
      EXPECT_EQ(model.dtype, DType::kBF16);
      std::size_t next = 0;
      for (const LayerWeights& layer : model.weights.layers) {
        for (const Site site : kAllSites) {
          const auto& held = std::get<std::shared_ptr<const QMatrix>>(layer.At(site).weight);
          const QMatrix& written = matrices[next++];
          EXPECT_EQ(held->grid(), written.grid());
          EXPECT_TRUE(std::ranges::equal(held->words(), written.words()));
          EXPECT_EQ(Widened(layer.At(site).weight),
                    Widened(std::make_shared<const QMatrix>(written)));
        }
      }
    }
  }
}

class SpoiltQuantizedFolder : public TinyFolder {
 protected:
  void SetUp() override {
    TinyFolder::SetUp();
    QuantizeFolder(folder_.path());
  }
};

TEST_F(SpoiltQuantizedFolder, NeedsItsQuantizationConfig) {
  SetConfig(folder_.path(), "quantization_config", nullptr);
  EXPECT_THAT(OpenError(folder_.path()),
              AllOf(HasSubstr("tensor is missing"), HasSubstr("q_proj.weight")));
}

TEST_F(SpoiltQuantizedFolder, NamesItsErrorsByTensor) {
  const Tensors whole = Weights();

  Tensors tensors = whole;
  FindRaw(tensors, "model.layers.0.mlp.up_proj.weight_shape").bytes[0] = std::byte{0xFF};
  EXPECT_THAT(ErrorWith(tensors), HasSubstr("model.layers.0.mlp.up_proj.weight_packed"));

  tensors = whole;
  tensors.push_back(
      {{"model.layers.0.mlp.up_proj.weight_g_idx", DType::kI32, {1}}, std::vector<std::byte>(4)});
  EXPECT_THAT(ErrorWith(tensors), HasSubstr("model.layers.0.mlp.up_proj.weight_g_idx"));

  tensors = whole;
  for (const char* suffix : {"shape", "packed", "scale"}) {  // gate's in place of down's
    const std::string down = "model.layers.0.mlp.down_proj.weight_" + std::string(suffix);
    const std::string gate = "model.layers.0.mlp.gate_proj.weight_" + std::string(suffix);
    FindRaw(tensors, down).bytes = FindRaw(tensors, gate).bytes;
    FindRaw(tensors, down).spec.shape = FindRaw(tensors, gate).spec.shape;
  }
  EXPECT_THAT(ErrorWith(tensors), AllOf(HasSubstr("model.layers.0.mlp.down_proj.weight_shape"),
                                        HasSubstr("128, 256"), HasSubstr("256, 128")));
}

TEST_F(SpoiltQuantizedFolder, RefusesAQuantizedHead) {
  SetConfig(folder_.path(), "tie_word_embeddings", false);
  Tensors tensors = Weights();
  tensors.push_back({{"lm_head.weight_packed", DType::kI32, {1}}, std::vector<std::byte>(4)});
  EXPECT_THAT(ErrorWith(tensors), HasSubstr("a quantized head"));
}

}  // namespace
}  // namespace lieq
