#include "lieq/container/gguf_open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

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
  EXPECT_THAT(GgufRowOrder(config, Site::kQ), testing::ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(GgufRowOrder(config, Site::kK), testing::ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(GgufRowOrder(config, Site::kV), testing::IsEmpty());
  config.architecture = "Qwen3ForCausalLM";
  EXPECT_THAT(GgufRowOrder(config, Site::kQ), testing::IsEmpty());
}

TEST(RopeFactors, AreThoseOfLlama32AndAreFoundAgain) {
  const Rope rope{.theta = 500000, .llama3 = true, .factor = 32};
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

}  // namespace
}  // namespace lieq
