// config.json of architectures beyond Llama's: both generations of keys, defaults of the classes,
// and what is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "lieq/container/model_folder.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ModelConfig Parse(const Json& json) {
  return ParseModelConfig(json, "config.json");
}

Json Small(const char* name, const Json& more) {
  Json json{{"architectures", {name}},  {"hidden_size", 64},
            {"intermediate_size", 96},  {"num_hidden_layers", 6},
            {"num_attention_heads", 4}, {"num_key_value_heads", 2},
            {"vocab_size", 100},        {"max_position_embeddings", 512}};
  json.update(more);
  return json;
}

std::string Refusal(const char* name, const Json& more) {
  return ErrorOf([&] { return Parse(Small(name, more)); });
}

TEST(Phi3Config, HasFusedLinearsAndTheLongRopeOfTheLengthsThatItSays) {
  const Json factors{
      {"type", "su"}, {"short_factor", {1, 1, 1, 1, 1, 2}}, {"long_factor", {2, 2, 2, 2, 2, 3}}};
  const ModelConfig config =
      Parse(Small("Phi3ForCausalLM", {{"rope_scaling", factors},
                                      {"partial_rotary_factor", 0.75},
                                      {"original_max_position_embeddings", 128}}));
  EXPECT_EQ(config.RotaryDim(), 12);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kLongRope);
  EXPECT_EQ(config.rope.original_context, 128);
  EXPECT_DOUBLE_EQ(config.rope.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(128.0)));
  EXPECT_EQ(config.Sites(0).size(), 4u);
  EXPECT_EQ(config.Module(0, Site::kQ), "self_attn.qkv_proj");
  EXPECT_EQ(config.Out(0, Site::kQ), 128);
  EXPECT_EQ(config.Out(0, Site::kGate), 192);
  EXPECT_TRUE(config.shapes.empty());  // no window where the key is left out

  Json short_of_one = factors;
  short_of_one["long_factor"] = {2, 2};
  EXPECT_THAT(
      Refusal("Phi3ForCausalLM", {{"rope_scaling", short_of_one}, {"partial_rotary_factor", 0.75}}),
      AllOf(HasSubstr("rope_scaling"), HasSubstr("6 factors")));
}

TEST(Gemma3Config, IsReadFromBothGenerationsAlike) {
  const ModelConfig old = Parse(
      Small("Gemma3ForCausalLM", {{"rope_theta", 500000.0},
                                  {"rope_local_base_freq", 20000.0},
                                  {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}},
                                  {"sliding_window", 32},
                                  {"sliding_window_pattern", 3}}));
  const char* const kLocal = "sliding_attention";
  const char* const kFull = "full_attention";
  const ModelConfig later =
      Parse(Small("Gemma3ForCausalLM",
                  {{"rope_parameters",
                    {{kFull, {{"rope_type", "linear"}, {"rope_theta", 500000.0}, {"factor", 8.0}}},
                     {kLocal, {{"rope_type", "default"}, {"rope_theta", 20000.0}}}}},
                   {"sliding_window", 32},
                   {"layer_types", {kLocal, kLocal, kFull, kLocal, kLocal, kFull}}}));
  EXPECT_EQ(old.rope, later.rope);
  EXPECT_EQ(old.local_rope, later.local_rope);
  EXPECT_EQ(old.shapes, later.shapes);
  EXPECT_EQ(old.shapes[1], (LayerShape{.window = 32, .local_rope = true}));
  EXPECT_EQ(old.shapes[2], LayerShape{});
  EXPECT_EQ(old.embedding_multiplier, 8);
  EXPECT_EQ(old.attention_multiplier, 1.0 / 16);
  EXPECT_TRUE(old.tied);
  EXPECT_EQ(old.logit_cap, 0);

  EXPECT_THAT(Refusal("Gemma3ForCausalLM", {{"attn_logit_softcapping", 50.0}}),
              HasSubstr("attn_logit_softcapping"));
  EXPECT_THAT(Refusal("Gemma3ForCausalLM", {{"use_bidirectional_attention", true}}),
              HasSubstr("use_bidirectional_attention"));
  EXPECT_THAT(Refusal("Gemma3ForCausalLM", {{"hidden_activation", "gelu"}}),
              HasSubstr("hidden_activation"));
  EXPECT_THAT(Refusal("Gemma3ForCausalLM", {{"rope_parameters", {{"rope_theta", 10000.0}}}}),
              HasSubstr("rope_parameters/rope_theta"));
}

TEST(Gemma2Config, HasCapsUnlessTheyAreNull) {
  EXPECT_EQ(Parse(Small("Gemma2ForCausalLM", Json::object())).attention_cap, 50);
  EXPECT_EQ(Parse(Small("Gemma2ForCausalLM", Json::object())).logit_cap, 30);
  const ModelConfig none =
      Parse(Small("Gemma2ForCausalLM",
                  {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}}));
  EXPECT_EQ(none.attention_cap, 0);
  EXPECT_EQ(none.logit_cap, 0);
}

TEST(Qwen35Config, MixesThreeOfFourLayersByTheDeltaRule) {
  const ModelConfig config = Parse(Small("Qwen3_5ForCausalLM", {{"linear_num_key_heads", 2},
                                                                {"linear_num_value_heads", 4},
                                                                {"linear_key_head_dim", 8},
                                                                {"linear_value_head_dim", 16},
                                                                {"head_dim", 32}}));
  EXPECT_EQ(config.Shape(2).mixer, Mixer::kGatedDelta);
  EXPECT_EQ(config.Shape(3).mixer, Mixer::kAttention);
  EXPECT_EQ(config.RotaryDim(), 8);
  EXPECT_EQ(config.Out(0, Site::kQ), 2 * 16 + 64);
  EXPECT_EQ(config.In(0, Site::kO), 64);
  EXPECT_EQ(config.In(3, Site::kO), 128);
  EXPECT_EQ(config.Out(3, Site::kQ), 2 * 128);
  EXPECT_EQ(config.Ins(Site::kO).size(), 2u);
  EXPECT_FALSE(config.Has(0, Site::kV));

  EXPECT_THAT(Refusal("Qwen3_5ForCausalLM", {{"attn_output_gate", false}}),
              HasSubstr("attn_output_gate"));
  EXPECT_THAT(Refusal("Qwen3_5ForCausalLM", {{"linear_num_key_heads", 3}}),
              HasSubstr("linear_num_key_heads"));
  EXPECT_THAT(Refusal("Qwen3_5ForCausalLM", {{"layer_types", {"linear_attention"}}}),
              HasSubstr("layer_types"));
}

TEST(Lfm2Config, WidensItsMlpAsTheClassDoes) {
  const ModelConfig config =
      Parse(Small("Lfm2ForCausalLM", {{"block_ff_dim", 1000}, {"full_attn_idxs", {1, 4}}}));
  EXPECT_EQ(config.intermediate, 768);  // two thirds, in steps of 256
  EXPECT_EQ(config.Shape(0).mixer, Mixer::kShortConv);
  EXPECT_EQ(config.Shape(1).mixer, Mixer::kAttention);
  EXPECT_EQ(config.Module(0, Site::kO), "conv.out_proj");
  EXPECT_EQ(config.Module(1, Site::kO), "self_attn.out_proj");
  EXPECT_EQ(config.rms_eps, 1e-5);
}

TEST(Exaone4Config, TurnsLayersWithAWindowAloneWhereSomeHaveOne) {
  const ModelConfig windows = Parse(Small("Exaone4ForCausalLM", {{"sliding_window", 32}}));
  EXPECT_EQ(windows.Shape(0), (LayerShape{.window = 32}));
  EXPECT_EQ(windows.Shape(3), (LayerShape{.rotates = false}));
  EXPECT_TRUE(Parse(Small("Exaone4ForCausalLM", {{"sliding_window", nullptr}})).shapes.empty());
}

TEST(DynamicRope, CountsFromTheContextThatTheModelWasMadeFor) {
  const ModelConfig config = Parse(
      Small("LlamaForCausalLM", {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}}));
  EXPECT_EQ(config.rope.scaling, RopeScaling::kDynamic);
  EXPECT_EQ(config.rope.original_context, 512);
}

TEST(RopeByTypeOfLayer, IsRefusedForClassesThatHaveOne) {
  EXPECT_THAT(Refusal("LlamaForCausalLM",
                      {{"rope_parameters",
                        {{"rope_type", "default"}, {"full_attention", {{"rope_theta", 1e4}}}}}}),
              AllOf(HasSubstr("by type of layer"), HasSubstr("full_attention")));
}

TEST(Qwen3MoeConfig, HasExpertsButInLayersThatAreSaidToBeDense) {
  const ModelConfig config = Parse(Small("Qwen3MoeForCausalLM", {{"num_experts", 8},
                                                                 {"num_experts_per_tok", 2},
                                                                 {"moe_intermediate_size", 32},
                                                                 {"norm_topk_prob", true},
                                                                 {"decoder_sparse_step", 2},
                                                                 {"mlp_only_layers", {3}}}));
  EXPECT_EQ(config.experts, (ExpertShape{.count = 8, .used = 2, .inner = 32, .normalised = true}));
  for (Index layer = 0; layer < 6; ++layer) {
    EXPECT_EQ(config.Shape(layer).experts, layer == 1 || layer == 5) << layer;
  }
  EXPECT_EQ(config.Out(0, Site::kUp), 96);
  EXPECT_EQ(config.Out(1, Site::kUp), 8 * 32);
  EXPECT_EQ(config.Out(1, Site::kDown), 8 * 64);
  EXPECT_EQ(config.In(1, Site::kDown), 32);
  EXPECT_EQ(config.Module(1, Site::kDown), "mlp.experts.down_proj");
  EXPECT_EQ(ModuleName(config, 1, Site::kDown, 7), "model.layers.1.mlp.experts.7.down_proj");
  EXPECT_EQ(ModuleName(config, 0, Site::kDown, 0), "model.layers.0.mlp.down_proj");
  // As a tensor of all experts counts: the plan's bytes are those of the file.
  EXPECT_EQ(config.LayerWeightCount(1), 64 * 64 * 2 + 2 * 64 * 32 + 8 * 3 * 32 * 64);
}

TEST(Qwen3MoeConfig, TakesEitherNameOfTheNumberAndDefaultsOfTheClass) {
  const Json other{{"num_local_experts", 16}};
  EXPECT_EQ(Parse(Small("Qwen3MoeForCausalLM", other)).experts,
            (ExpertShape{.count = 16, .used = 8, .inner = 768}));
  EXPECT_EQ(Parse(Small("Qwen3MoeForCausalLM", Json::object())).experts.count, 128);
  EXPECT_FALSE(Parse(Small("Qwen3MoeForCausalLM", {{"num_experts", 0}})).HasExperts());
  const ModelConfig windows =
      Parse(Small("Qwen3MoeForCausalLM", {{"use_sliding_window", true}, {"sliding_window", 100}}));
  EXPECT_EQ(windows.Shape(0).window, 100);  // of all layers
  EXPECT_EQ(Parse(Small("Qwen3MoeForCausalLM", {{"sliding_window", 100}})).Shape(0).window, 0);
}

TEST(Qwen3MoeConfig, RefusesByName) {
  const char* name = "Qwen3MoeForCausalLM";
  EXPECT_THAT(Refusal(name, {{"num_experts", 8}, {"num_local_experts", 4}}),
              HasSubstr("num_local_experts"));
  EXPECT_THAT(Refusal(name, {{"num_experts", 8}, {"num_experts_per_tok", 9}}),
              HasSubstr("num_experts_per_tok"));
  EXPECT_THAT(Refusal(name, {{"num_experts", -1}}), HasSubstr("num_experts"));
  EXPECT_THAT(Refusal(name, {{"num_experts", 1 << 20}}), HasSubstr("num_experts"));
  EXPECT_THAT(Refusal(name, {{"moe_intermediate_size", 0}}), HasSubstr("moe_intermediate_size"));
  EXPECT_THAT(Refusal(name, {{"decoder_sparse_step", 0}}), HasSubstr("decoder_sparse_step"));
  EXPECT_THAT(Refusal(name, {{"mlp_only_layers", "0"}}), HasSubstr("mlp_only_layers"));
}

TEST(OlmoeConfig, HasExpertsInEveryLayerAndABoundOnWhatAttentionReads) {
  const ModelConfig config = Parse(Small(
      "OlmoeForCausalLM", {{"num_experts", 4}, {"num_experts_per_tok", 1}, {"clip_qkv", 2.5}}));
  EXPECT_EQ(config.experts, (ExpertShape{.count = 4, .used = 1, .inner = 96}));
  EXPECT_TRUE(config.Shape(5).experts);
  EXPECT_EQ(config.qkv_clip, 2.5);
  EXPECT_TRUE(config.whole_qk_norm);
  EXPECT_EQ(Parse(Small("OlmoeForCausalLM", {{"clip_qkv", nullptr}})).qkv_clip, 0);
  EXPECT_THAT(Refusal("OlmoeForCausalLM", {{"clip_qkv", -1}}), HasSubstr("clip_qkv"));
  EXPECT_THAT(Refusal("OlmoeForCausalLM", {{"num_experts", 0}}), HasSubstr("num_experts"));
}

}  // namespace
}  // namespace lieq
