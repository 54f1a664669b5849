#include "lieq/container/gguf_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/container/exporters.h"
#include "lieq/container/model_folder.h"
#include "tests/support/error_of.h"
#include "tests/support/keyed_gguf.h"
#include "tests/support/places.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

RawGguf::Key F32(const std::string& name, float value) {
  return {name, 6, RawGguf::Number(value)};
}
RawGguf::Key U32(const std::string& name, std::uint32_t value) {
  return {name, 4, RawGguf::Number(value)};
}
RawGguf::Key Bool(const std::string& name, bool value) {
  return {name, 7, std::string(1, value ? '\1' : '\0')};
}
RawGguf::Key Text(const std::string& name, const std::string& value) {
  return {name, 8, RawGguf::String(value)};
}

/// A tiny file of each architecture, with a key more.
class GgufKeysOf : public testing::TestWithParam<const char*> {
 protected:
  GgufKeysOf() {
    const std::string name = GetParam();
    MakeTinyModel(folder_ / "model", {.architecture = name == "llama"   ? "LlamaForCausalLM"
                                                      : name == "qwen2" ? "Qwen2ForCausalLM"
                                                                        : "Qwen3ForCausalLM",
                                      .layers = 1});
    FindExporter("gguf").write(OpenModel(folder_ / "model"), folder_ / "good.gguf", {});
    good_ = ReadText(folder_ / "good.gguf");
  }
  [[nodiscard]] std::string Own(const std::string& name) const {
    return std::string(GetParam()) + "." + name;
  }
  std::filesystem::path With(const RawGguf::Key& key) {
    WriteText(folder_ / "other.gguf", WithKey(good_, key));
    return folder_ / "other.gguf";
  }
  std::string ErrorWith(const RawGguf::Key& key) {
    const auto path = With(key);
    return ErrorOf([&] { return OpenModel(path); });
  }

  TempFolder folder_;
  std::string good_;
};
INSTANTIATE_TEST_SUITE_P(Architectures, GgufKeysOf, testing::Values("llama", "qwen2", "qwen3"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(GgufKeysOf, AreRefusedByNameWhereTheyChangeTheArithmetic) {
  const std::vector<RawGguf::Key> changing{F32(Own("rope.scaling.factor"), 0.5F),
                                           Text(Own("rope.scaling.type"), "longrope"),
                                           Text(Own("rope.scaling.type"), ""),
                                           F32(Own("rope.scaling.attn_factor"), 1.2F),
                                           F32(Own("rope.scaling.attn_factor"), 0),
                                           F32(Own("rope.scaling.alpha"), 1000),
                                           Bool(Own("attention.causal"), false),
                                           U32(Own("attention.sliding_window"), 64),
                                           F32(Own("attention.scale"), 0.5F),
                                           F32(Own("attention.clamp_kqv"), 8),
                                           F32(Own("attention.max_alibi_bias"), 8),
                                           F32(Own("attn_logit_softcapping"), 50),
                                           F32(Own("final_logit_softcapping"), 30),
                                           F32(Own("logit_scale"), 0.1F),
                                           F32(Own("residual_scale"), 0.2F),
                                           F32(Own("embedding_scale"), 12),
                                           U32(Own("expert_count"), 8),
                                           U32(Own("expert_used_count"), 2),
                                           U32(Own("embedding_length_out"), 64),
                                           U32(Own("attention.key_length_mla"), 32),
                                           U32(Own("ssm.state_size"), 16),
                                           Bool(Own("use_parallel_residual"), true),
                                           Text(Own("hidden_activation"), "gelu"),
                                           U32(Own("nextn_predict_layers"), 1),
                                           Text("adapter.type", "lora"),
                                           U32("general.quantization_version", 1)};
  for (const RawGguf::Key& key : changing) {
    EXPECT_THAT(ErrorWith(key), AllOf(HasSubstr("option is not supported"),
                                      HasSubstr("key '" + key.name + "'"), HasSubstr("expected")))
        << key.name;
  }
}

TEST_P(GgufKeysOf, AreTakenWhereTheyChangeNothing) {
  const std::vector<RawGguf::Key> neutral{F32(Own("rope.scaling.factor"), 1),
                                          F32(Own("rope.scaling.factor"), 0),
                                          F32(Own("rope.scale_linear"), 1),
                                          Text(Own("rope.scaling.type"), "none"),
                                          Text(Own("rope.scaling.type"), "linear"),
                                          F32(Own("rope.scaling.attn_factor"), 1),
                                          Bool(Own("attention.causal"), true),
                                          U32(Own("attention.sliding_window"), 0),
                                          U32(Own("attention.sliding_window"), 1 << 20),
                                          F32(Own("attention.scale"), 0.17677669F),  // 1 / sqrt(32)
                                          F32(Own("logit_scale"), 1),
                                          U32(Own("expert_count"), 0),
                                          U32(Own("embedding_length_out"), 128),
                                          U32(Own("pooling_type"), 3),
                                          U32(Own("rope.scaling.original_context_length"), 4096),
                                          Bool(Own("rope.scaling.finetuned"), true),
                                          Text(Own("tensor_data_layout"), "Meta"),
                                          U32("general.quantization_version", 2),
                                          Text("quantize.imatrix.file", "x")};
  for (const RawGguf::Key& key : neutral) {
    EXPECT_THAT(ErrorWith(key), IsEmpty()) << key.name;
    EXPECT_THAT(OpenModel(With(key)).notes, IsEmpty()) << key.name;
  }
}

TEST_P(GgufKeysOf, ScaleRope) {
  // A factor without a type scales linearly in llama.cpp.
  for (const RawGguf::Key& key :
       {F32(Own("rope.scaling.factor"), 4), F32(Own("rope.scale_linear"), 4)}) {
    const Rope rope = OpenModel(With(key)).weights.config.rope;
    EXPECT_EQ(rope.scaling, RopeScaling::kLinear) << key.name;
    EXPECT_EQ(rope.factor, 4) << key.name;
  }
  EXPECT_EQ(OpenModel(With(Text(Own("rope.scaling.type"), "yarn"))).weights.config.rope.scaling,
            RopeScaling::kYarn);
}

TEST_P(GgufKeysOf, AreNotedWhereNoRowHasThem) {
  EXPECT_THAT(OpenModel(With(F32(Own("some.new_scale"), 2))).notes,
              Contains(AllOf(HasSubstr(Own("some.new_scale")), HasSubstr("left aside"))));
  EXPECT_THAT(OpenModel(With(F32("other.some.new_scale", 2))).notes, IsEmpty());
}

TEST(GgufKeyRows, RefuseWhateverIsNotNeutral) {
  for (const GgufKeyRow& row : GgufKeyRows()) {
    if (row.use != GgufKeyUse::kNeutral) continue;
    std::string name(row.name);
    if (name.ends_with('.') || name.ends_with('_')) name += "x";
    const std::string key = row.whole ? name : "llama." + name;
    for (const auto& [type, value] :
         {std::pair{6u, RawGguf::Number(-3.5F)}, std::pair{8u, RawGguf::String("other")},
          std::pair{8u, RawGguf::String("")},
          std::pair{9u, RawGguf::Array(6, 2, RawGguf::Number(0.F) + RawGguf::Number(-3.5F))}}) {
      RawGguf file;
      file.keys = {{key, type, value}};
      const std::string bytes = file.Render();
      const GgufHeader header = ParseGguf(std::as_bytes(std::span(bytes)), "m.gguf");
      EXPECT_THAT(ErrorOf([&] {
                    return CheckGgufKeys(header.keys, "llama",
                                         {.hidden = 64, .head_dim = 16, .context = 512});
                  }),
                  AllOf(HasSubstr("'" + key + "'"), HasSubstr(std::string(row.says))))
          << key << " type " << type;
    }
  }
}

TEST(GgufKeyRows, AreAllInTheDocumentation) {
  const std::string text = ReadText(std::filesystem::path(LIEQ_SOURCE_DIR) / "docs" / "formats.md");
  for (const GgufKeyRow& row : GgufKeyRows()) {
    EXPECT_THAT(text, HasSubstr("`" + std::string(row.name))) << row.name;
  }
}

TEST(GgufLayerKeys, MayBeOneNumberForEachLayer) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.architecture = "LlamaForCausalLM", .layers = 2});
  FindExporter("gguf").write(OpenModel(folder / "model"), folder / "good.gguf", {});
  const std::string good = ReadText(folder / "good.gguf");
  // Renamed, so that the key that is put in front stands alone.
  const auto error_with = [&](std::uint32_t first, std::uint32_t second) {
    std::string bytes = good;
    const std::string key = "llama.feed_forward_length";
    bytes.replace(bytes.find(key), key.size(), "testx.feed_forward_length");
    const std::string items = RawGguf::Number(first) + RawGguf::Number(second);
    WriteText(folder / "other.gguf", WithKey(bytes, {key, 9, RawGguf::Array(4, 2, items)}));
    return ErrorOf([&] { return OpenModel(folder / "other.gguf"); });
  };
  EXPECT_EQ(error_with(256, 256), "");
  EXPECT_THAT(error_with(256, 128),
              AllOf(HasSubstr("layers that differ"), HasSubstr("llama.feed_forward_length")));
}

}  // namespace
}  // namespace lieq
