#include "lieq/container/gguf_open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "lieq/container/gguf_names.h"
#include "lieq/io/gguf_file.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A tiny llama as a file, its keys and tensors changed on the way.
class OpenGgufTest : public testing::Test {
 protected:
  OpenGgufTest() {
    MakeTinyModel(folder_ / "model", {.architecture = "LlamaForCausalLM", .layers = 1});
    FindExporter("gguf").write(OpenModel(folder_ / "model"), good_, {});
  }

  /// Replaces `from`, which is there once, by as many bytes.
  std::string ErrorWith(const std::string& from, const std::string& to) {
    std::string bytes = ReadText(good_);
    const std::size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    EXPECT_EQ(from.size(), to.size());
    bytes.replace(at, to.size(), to);
    WriteText(folder_ / "bad.gguf", bytes);
    return ErrorOf([&] { return OpenModel(folder_ / "bad.gguf"); });
  }

  TempFolder folder_;
  std::filesystem::path good_ = folder_ / "good.gguf";
};

TEST_F(OpenGgufTest, NamesWhatItDoesNotRead) {
  EXPECT_EQ(ErrorOf([&] { return OpenModel(good_); }), "");
  EXPECT_THAT(ErrorWith("general.architecture", "general.Architecture"),
              AllOf(HasSubstr("bad.gguf"), HasSubstr("key is missing")));
  EXPECT_THAT(ErrorWith("llama.block_count", "llama.block_COUNT"), HasSubstr("key is missing"));
  EXPECT_THAT(ErrorWith("blk.0.ffn_up.weight", "blk.0.ffn_UP.weight"),
              HasSubstr("a tensor 'blk.0.ffn_up.weight'"));
  EXPECT_THAT(ErrorWith("llama.vocab_size", "llama.expert_cou"), "");  // unknown keys are kept
}

TEST_F(OpenGgufTest, RefusesKeysThatDoNotAgreeWithTensors) {
  const auto number = [](std::uint32_t value) {
    return std::string("llama.feed_forward_length") + std::string("\4\0\0\0", 4) +
           std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  EXPECT_THAT(ErrorWith(number(256), number(512)), HasSubstr("shape does not agree"));
  EXPECT_NE(ErrorWith(number(256), number(0)), "");
  EXPECT_NE(ErrorWith(number(256), number(~0u)), "");
}

TEST_F(OpenGgufTest, RefusesAFileCutAtAnyOf64Places) {
  const std::string whole = ReadText(good_);
  for (std::size_t part = 0; part < 64; ++part) {
    WriteText(folder_ / "bad.gguf", whole.substr(0, whole.size() * part / 64));
    EXPECT_THAT(ErrorOf([&] { return OpenModel(folder_ / "bad.gguf"); }), HasSubstr("bad.gguf"));
  }
}

TEST_F(OpenGgufTest, GivesATokenizerWithoutWhatPadsTheEmbedding) {
  const ModelFolder model = OpenModel(good_);
  const Json tokenizer = Json::parse(model.tokenizer);
  const Json source = ReadJson(folder_ / "model" / "tokenizer.json");

  // The file has the added token among the others.
  EXPECT_EQ(tokenizer.at("model").at("vocab").size(),
            source.at("model").at("vocab").size() + source.at("added_tokens").size());
  EXPECT_EQ(tokenizer.at("model").at("merges").size(), source.at("model").at("merges").size());
  EXPECT_EQ(tokenizer.at("added_tokens").at(0).at("id"), source.at("added_tokens").at(0).at("id"));
}

TEST_F(OpenGgufTest, IsWrittenOrRefusedWhateverTheTokenizerSays) {
  const auto written_with = [&](const char* file, const Json& content) {
    WriteText(folder_ / "model" / file, content.dump());
    return ErrorOf([&] {
      FindExporter("gguf").write(OpenModel(folder_ / "model"), folder_ / "other.gguf", {});
    });
  };
  Json tokenizer = ReadJson(folder_ / "model" / "tokenizer.json");
  for (const Json& type : {Json(7), Json(nullptr), Json::array()}) {
    tokenizer["post_processor"] = {{"type", type}};
    EXPECT_EQ(written_with("tokenizer.json", tokenizer), "");
  }
  EXPECT_EQ(written_with("tokenizer_config.json", {{"chat_template", {{{"name", 7}}}}}), "");
  const Json named{{"name", "default"}, {"template", 7}};
  EXPECT_THAT(written_with("tokenizer_config.json", {{"chat_template", Json::array({named})}}),
              AllOf(HasSubstr("chat_template/template"), HasSubstr("a string")));
}

TEST(GgufRowOrder, InterleavesTheHalvesOfEachHeadOfALlama) {
  ModelConfig config{.architecture = "LlamaForCausalLM", .heads = 2, .kv_heads = 1, .head_dim = 4};
  EXPECT_THAT(GgufRowOrder(config, 0, Site::kQ), testing::ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(GgufRowOrder(config, 0, Site::kK), testing::ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(GgufRowOrder(config, 0, Site::kV), testing::IsEmpty());
  config.architecture = "Qwen3ForCausalLM";
  EXPECT_THAT(GgufRowOrder(config, 0, Site::kQ), testing::IsEmpty());
}

TEST(RopeFactors, AreThoseOfLlama32AndAreFoundAgain) {
  const Rope rope{.theta = 500000, .scaling = RopeScaling::kLlama3, .factor = 32};
  const std::vector<float> factors = RopeFactors(rope, 64);

  ASSERT_EQ(factors.size(), 32u);
  EXPECT_EQ(std::ranges::count(factors, 1.0f), 15);
  EXPECT_NEAR(factors[15], 1.65133, 1e-5);
  EXPECT_NEAR(factors[16], 3.29226, 1e-5);
  EXPECT_NEAR(factors[17], 9.66673, 1e-5);
  EXPECT_EQ(std::ranges::count(factors, 32.0f), 14);

  Rope found{.theta = 500000};
  ASSERT_TRUE(FindRopeScaling(factors, 64, found));
  EXPECT_EQ(found.factor, 32);
  EXPECT_EQ(found.high_freq_factor, 4);
  EXPECT_EQ(found.original_context, 8192);
  EXPECT_FALSE(FindRopeScaling(std::vector<float>(32, 2.5f), 64, found));
}

TEST(ExportGguf, TakesTheTypesThatAreAllowed) {
  const TempFolder folder;
  const ModelFolder source =
      RandomQuantizedModel(folder / "model", {.layers = 1}, {.bits = 2, .group_size = 32});
  const Exporter& gguf = FindExporter("gguf");
  EXPECT_THAT(ErrorOf([&] { gguf.write(source, folder / "m.gguf", {}); }),
              AllOf(HasSubstr("does not hold exactly"), HasSubstr("Q4_0, Q4_1, Q5_0, Q8_0")));
  EXPECT_FALSE(std::filesystem::exists(folder / "m.gguf"));

  gguf.write(source, folder / "m.gguf", {.types = {"Q8_0", "Q4_0"}});

  EXPECT_TRUE(CompareModels(source, OpenModel(folder / "m.gguf")).equal());
  const GgufFile file = GgufFile::Open(folder / "m.gguf");
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with("attn_q.weight")) {
      EXPECT_EQ(tensor.type->name, "Q4_0");
    }
  }
  EXPECT_THAT(ErrorOf([&] { gguf.write(source, folder / "m.gguf", {.types = {"Q9_9"}}); }),
              AllOf(HasSubstr("no such type"), HasSubstr("TQ2_0")));
}

TEST(ExportGguf, LabelsAFileByTheTypeOfMostMatrices) {
  const TempFolder folder;
  std::vector<std::pair<Grid, int>> labels{{{.bits = 8, .group_size = 32}, 7},
                                           {{.bits = 4, .group_size = 32}, 2}};
  for (const KQuant& row : KQuants()) {
    constexpr std::array kOfBits{0, 0, 10, 12, 15, 17, 18};  // of llama.cpp's enum llama_ftype
    labels.emplace_back(row.grid, kOfBits.at(Size(row.grid.bits)));
  }
  for (const auto& [grid, label] : labels) {
    const ModelFolder source =
        RandomQuantizedModel(folder / "model", {.layers = 1, .hidden = 256, .heads = 8}, grid);
    FindExporter("gguf").write(source, folder / "m.gguf", {});
    const GgufFile file = GgufFile::Open(folder / "m.gguf");
    EXPECT_EQ(file.keys().Integer("general.file_type"), label);
    std::filesystem::remove(folder / "m.gguf");
  }
}

std::string TypeIn(const std::filesystem::path& file, const std::string& name) {
  const GgufFile gguf = GgufFile::Open(file);
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (tensor.name == name) return std::string(tensor.type->name);
  }
  return "";
}

TEST(ExportGguf, RoundsEmbeddingAndHeadWhereToldTo) {
  const TempFolder folder;
  const ModelFolder source = RandomQuantizedModel(folder / "model", {.layers = 1, .tied = false},
                                                  {.bits = 2, .group_size = 64});
  for (const std::string type : {"Q8_0", "F16", "BF16", "F32"}) {
    const std::filesystem::path file = folder / (type + ".gguf");
    FindExporter("gguf").write(source, file, {.embedding_type = type, .head_type = "Q8_0"});
    EXPECT_EQ(TypeIn(file, "token_embd.weight"), type);
    EXPECT_EQ(TypeIn(file, "output.weight"), "Q8_0");

    const ModelFolder found = OpenModel(file);
    const Comparison strict = CompareModels(source, found);
    EXPECT_FALSE(strict.equal()) << type;
    const Comparison comparison = CompareModels(source, found, RoundedMatrices::kEnds);
    EXPECT_TRUE(comparison.equal()) << type;
    EXPECT_EQ(comparison.rounded.at("Q8_0"), type == "Q8_0" ? 2 : 1);
  }
}

TEST(ExportGguf, SaysWhyATypeIsNotForAnEnd) {
  const TempFolder folder;
  const ModelFolder source =
      RandomQuantizedModel(folder / "model", {.layers = 1}, {.bits = 2, .group_size = 64});
  const Exporter& gguf = FindExporter("gguf");
  EXPECT_THAT(ErrorOf([&] { gguf.write(source, folder / "m", {.embedding_type = "Q4_K"}); }),
              AllOf(HasSubstr("--embedding-type"), HasSubstr("Q8_0, F16, BF16, F32")));
  EXPECT_THAT(ErrorOf([&] { gguf.write(source, folder / "m", {.head_type = "Q8_0"}); }),
              AllOf(HasSubstr("--head-type"), HasSubstr("--embedding-type is for both")));
}

TEST(ExportGguf, ApproximateRoundsWhatNoTypeHolds) {
  const TempFolder folder;
  const ModelFolder source =
      RandomQuantizedModel(folder / "model", {.layers = 1}, {.bits = 2, .group_size = 32});
  const Exporter& gguf = FindExporter("gguf");
  for (const std::string type : {"", "F16", "Q8_0"}) {
    ExportSettings settings{.approximate = true};
    if (!type.empty()) settings.types = {"Q2_0", type};
    gguf.write(source, folder / "m.gguf", settings);
    // Codes of 2 bits are codes of 4 and 8 too; F16 holds products of them with most scales only.
    const Comparison comparison =
        CompareModels(source, OpenModel(folder / "m.gguf"), RoundedMatrices::kAll);
    EXPECT_TRUE(comparison.equal()) << type;
    EXPECT_EQ(TypeIn(folder / "m.gguf", "blk.0.attn_q.weight"), type.empty() ? "Q4_0" : type);
  }
  EXPECT_THAT(
      ErrorOf([&] { gguf.write(source, folder / "n", {.types = {"Q2_0"}, .approximate = true}); }),
      AllOf(HasSubstr("--approximate"), HasSubstr("--types Q2_0")));
}

TEST(ExportGguf, FloatsChangeTheirTypeOnlyWhereNothingIsLostOrToldTo) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.layers = 1});  // BF16
  const ModelFolder source = OpenModel(folder / "model");
  const Exporter& gguf = FindExporter("gguf");
  gguf.write(source, folder / "f32.gguf", {.types = {"F32"}});
  EXPECT_EQ(TypeIn(folder / "f32.gguf", "blk.0.ffn_up.weight"), "F32");
  EXPECT_TRUE(CompareModels(source, OpenModel(folder / "f32.gguf")).equal());

  EXPECT_THAT(ErrorOf([&] { gguf.write(source, folder / "f16.gguf", {.types = {"F16"}}); }),
              AllOf(HasSubstr("layer 0, q"), HasSubstr("BF16 or F32"), HasSubstr("--approximate")));
  gguf.write(source, folder / "f16.gguf", {.types = {"F16"}, .approximate = true});
  EXPECT_EQ(TypeIn(folder / "f16.gguf", "blk.0.ffn_up.weight"), "F16");
  EXPECT_TRUE(CompareModels(source, OpenModel(folder / "f16.gguf"), RoundedMatrices::kAll).equal());
}

TEST(CompareModels, FindsARoundedRowThatIsAnother) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.layers = 1});
  const ModelFolder source = OpenModel(folder / "model");
  FindExporter("gguf").write(source, folder / "m.gguf", {.embedding_type = "Q8_0"});
  std::string bytes = ReadText(folder / "m.gguf");
  const GgufFile file = GgufFile::Open(folder / "m.gguf");
  const GgufTensor& embedding = file.tensors().front();
  ASSERT_EQ(embedding.name, "token_embd.weight");
  const std::size_t begin = bytes.size() - [&] {
    std::size_t all = 0;
    for (const GgufTensor& tensor : file.tensors()) all += (tensor.bytes.size() + 31) / 32 * 32;
    return all;
  }();
  const std::size_t row = embedding.bytes.size() / static_cast<std::size_t>(embedding.shape[0]);
  bytes[begin + 3 * row + 34 + 5] ^= 1;  // a code of the second block
  WriteText(folder / "bad.gguf", bytes);

  const Comparison comparison =
      CompareModels(source, OpenModel(folder / "bad.gguf"), RoundedMatrices::kEnds);

  ASSERT_EQ(comparison.differences.size(), 1u);
  EXPECT_EQ(comparison.differences[0].kind, "rounding");
  EXPECT_EQ(comparison.differences[0].row, 3);
  EXPECT_EQ(comparison.differences[0].col, 32);
  EXPECT_EQ(comparison.differences[0].count, 1);
}

}  // namespace
}  // namespace lieq
