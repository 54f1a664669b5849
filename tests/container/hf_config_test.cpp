#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/model/architectures.h"
#include "tests/support/error_of.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

ModelConfig Parse(const Json& json) {
  return ParseModelConfig(json, "config.json");
}
std::string ParseError(const Json& json) {
  return ErrorOf([&] { return Parse(json); });
}
Json Config(const std::string& architecture) {
  return Json::parse(TinyModelConfig({.architecture = architecture}).dump());
}
Json Named(const std::string& architecture) {
  return {{"architectures", {architecture}}};
}

class EachArchitecture : public testing::TestWithParam<Architecture> {};

TEST_P(EachArchitecture, ReadsItsShapesFromTheConfig) {
  Json json = Config(std::string(GetParam().name));
  if (GetParam().ropes_by_type) {
    json.erase("rope_theta");
    json["rope_parameters"] = {{"full_attention", {{"rope_theta", 1e6}}}};
  }
  const ModelConfig config = Parse(json);

  EXPECT_EQ(config.architecture, GetParam().name);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.hidden, 128);
  EXPECT_EQ(config.intermediate, 256);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.vocab, 288);
  EXPECT_EQ(config.max_positions, 2048);
  EXPECT_TRUE(config.tied);
}

TEST_P(EachArchitecture, TakesMissingKeysFromItsRow) {
  const ModelConfig config = Parse(Named(std::string(GetParam().name)));

  EXPECT_EQ(config.layers, GetParam().layers);
  EXPECT_EQ(config.hidden, GetParam().hidden);
  EXPECT_EQ(config.heads, GetParam().heads);
  EXPECT_EQ(config.kv_heads, GetParam().kv_heads == 0 ? GetParam().heads : GetParam().kv_heads);
  EXPECT_EQ(config.head_dim,
            GetParam().head_dim != 0 ? GetParam().head_dim : GetParam().hidden / GetParam().heads);
  EXPECT_EQ(config.vocab, GetParam().vocab);
  if (GetParam().mixer != Mixer::kShortConv) {  // whose class widens it
    EXPECT_EQ(config.intermediate, GetParam().intermediate);
  }
  EXPECT_EQ(config.rms_eps, GetParam().rms_eps);
  EXPECT_EQ(config.rope.theta, GetParam().rope_theta);
  EXPECT_EQ(config.tied, GetParam().tied);
  EXPECT_EQ(config.qk_norm, GetParam().qk_norm);
}

TEST_P(EachArchitecture, IsFoundByModelTypeWhereNoClassIsNamed) {
  const Json json{{"model_type", std::string(GetParam().model_type)}};
  EXPECT_EQ(Parse(json).architecture, GetParam().name);
}

TEST_P(EachArchitecture, RefusesTheModelTypeOfAnother) {
  Json json = Config(std::string(GetParam().name));
  json["model_type"] = "bert";
  EXPECT_THAT(ParseError(json), AllOf(HasSubstr("/model_type"), HasSubstr("disagree")));
}
INSTANTIATE_TEST_SUITE_P(Rows, EachArchitecture,
                         testing::ValuesIn(Architectures().begin(), Architectures().end()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(ParseModelConfig, ListsWhatIsSupportedWhereTheArchitectureIsNot) {
  EXPECT_THAT(ParseError(Named("MixtralForCausalLM")),
              AllOf(HasSubstr("config.json: /architectures: architecture is not supported"),
                    HasSubstr(ArchitectureNames()), HasSubstr("MixtralForCausalLM")));
  EXPECT_THAT(ParseError({{"model_type", "gpt2"}}), HasSubstr("gpt2"));
  EXPECT_THAT(ParseError(Json::object()), HasSubstr("neither architectures nor model_type"));
  EXPECT_THAT(ParseError({{"architectures", "LlamaForCausalLM"}}), HasSubstr("not supported"));
  EXPECT_THAT(ParseError(Json::array()), HasSubstr("not a JSON object"));
}

TEST(ParseModelConfig, KnowsWhichLinearsHaveABias) {
  Json llama = Config("LlamaForCausalLM");
  EXPECT_FALSE(Parse(llama).qkv_bias || Parse(llama).o_bias || Parse(llama).mlp_bias);
  llama["attention_bias"] = true;
  llama["mlp_bias"] = true;
  EXPECT_TRUE(Parse(llama).qkv_bias && Parse(llama).o_bias && Parse(llama).mlp_bias);

  Json qwen3 = Config("Qwen3ForCausalLM");
  qwen3["attention_bias"] = true;
  EXPECT_TRUE(Parse(qwen3).qkv_bias && Parse(qwen3).o_bias);

  Json qwen2 = Config("Qwen2ForCausalLM");
  qwen2["attention_bias"] = false;  // not a key of that class
  EXPECT_TRUE(Parse(qwen2).qkv_bias);
  EXPECT_FALSE(Parse(qwen2).o_bias);
}

TEST(ParseModelConfig, FindsHeadSizeAndKeyHeadsWhereTheyAreNotSaid) {
  Json llama = Config("LlamaForCausalLM");
  llama["head_dim"] = nullptr;
  llama.erase("num_key_value_heads");
  EXPECT_EQ(Parse(llama).head_dim, 32);
  EXPECT_EQ(Parse(llama).kv_heads, 4);

  Json qwen2 = Config("Qwen2ForCausalLM");
  qwen2.erase("head_dim");
  qwen2["num_key_value_heads"] = nullptr;
  EXPECT_EQ(Parse(qwen2).head_dim, 32);
  EXPECT_EQ(Parse(qwen2).kv_heads, 4);

  Json qwen3 = Config("Qwen3ForCausalLM");
  qwen3.erase("head_dim");
  EXPECT_EQ(Parse(qwen3).head_dim, 128);  // not hidden / heads
}

const Json kLlama3{{"rope_type", "llama3"},
                   {"factor", 32.0},
                   {"low_freq_factor", 1.0},
                   {"high_freq_factor", 4.0},
                   {"original_max_position_embeddings", 8192}};

void ExpectLlama3(const Rope& rope) {
  EXPECT_EQ(rope.theta, 500000.0);
  EXPECT_TRUE(rope.scaling == RopeScaling::kLlama3);
  EXPECT_EQ(rope.factor, 32.0);
  EXPECT_EQ(rope.low_freq_factor, 1.0);
  EXPECT_EQ(rope.high_freq_factor, 4.0);
  EXPECT_EQ(rope.original_context, 8192.0);
}

Json WithoutRope() {
  Json json = Config("LlamaForCausalLM");
  json.erase("rope_parameters");
  return json;
}

TEST(RopeKeys, OfBothGenerationsMeanTheSame) {
  Json old_keys = WithoutRope();
  old_keys["rope_theta"] = 500000;
  old_keys["rope_scaling"] = kLlama3;
  Json new_keys = WithoutRope();
  new_keys["rope_parameters"] = kLlama3;
  new_keys["rope_parameters"]["rope_theta"] = 500000.0;
  Json oldest_key = old_keys;
  oldest_key["rope_scaling"].erase("rope_type");
  oldest_key["rope_scaling"]["type"] = "llama3";
  Json both = old_keys;
  both["rope_parameters"] = new_keys["rope_parameters"];

  for (const Json& json : {old_keys, new_keys, oldest_key, both}) ExpectLlama3(Parse(json).rope);
}

TEST(RopeKeys, MayBeAbsentNullEmptyOrDefault) {
  Json json = WithoutRope();
  EXPECT_EQ(Parse(json).rope.theta, 10000.0);
  json["rope_theta"] = 1e6;
  for (const Json& scaling : {Json(), Json::object(), Json{{"rope_type", "default"}},
                              Json{{"type", "default"}, {"factor", 2.0}}}) {
    json["rope_scaling"] = scaling;
    EXPECT_EQ(Parse(json).rope.theta, 1e6);
    EXPECT_FALSE(Parse(json).rope.scaling == RopeScaling::kLlama3);
  }
}

TEST(RopeKeys, MustNotContradictOneAnother) {
  Json json = WithoutRope();
  json["rope_theta"] = 10000.0;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 20000.0}};
  EXPECT_THAT(ParseError(json), HasSubstr("rope_theta is given twice and differs"));

  json.erase("rope_theta");
  json["rope_scaling"] = {{"rope_type", "default"}};
  EXPECT_THAT(ParseError(json), HasSubstr("rope_scaling and rope_parameters disagree"));

  json.erase("rope_parameters");
  json["rope_scaling"] = {{"rope_type", "default"}, {"type", "yarn"}};
  EXPECT_THAT(ParseError(json), HasSubstr("rope_type and type disagree"));

  json["rope_scaling"] = kLlama3;
  json["original_max_position_embeddings"] = 4096;
  EXPECT_THAT(ParseError(json), HasSubstr("original_max_position_embeddings is given twice"));
}

TEST(RopeKeys, OfOtherTypesAreRefusedByName) {
  for (const char* type : {"mrope", "proportional", "su"}) {
    for (const char* key : {"rope_type", "type"}) {
      Json json = WithoutRope();
      json["rope_scaling"] = {{key, type}, {"factor", 4.0}};
      EXPECT_THAT(ParseError(json), AllOf(HasSubstr("rope type is not supported"), HasSubstr(type),
                                          HasSubstr(std::string("/rope_scaling/") + key)));
    }
  }
  Json json = WithoutRope();
  json["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}}}};
  EXPECT_THAT(ParseError(json), HasSubstr("by type of layer"));
}

TEST(RopeKeys, OfLlama3MustBeCompleteAndInRange) {
  for (const char* key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    Json json = WithoutRope();
    json["rope_scaling"] = kLlama3;
    json["rope_scaling"].erase(key);
    EXPECT_THAT(ParseError(json),
                HasSubstr(std::string("/rope_scaling/") + key + ": key is missing"));
  }
  Json json = WithoutRope();
  json["rope_scaling"] = kLlama3;
  json["rope_scaling"]["high_freq_factor"] = 1.0;  // equal to the low one: a division by zero
  EXPECT_THAT(ParseError(json), HasSubstr("low_freq_factor < high_freq_factor"));
}

struct Option {
  std::string_view architecture, key;
  std::string_view value;  // JSON
  std::string_view part;   // of the message; empty where it must be accepted
};

class Options : public testing::TestWithParam<Option> {};

TEST_P(Options, ThatChangeTheArithmeticAreReadOrRefused) {
  const Option& option = GetParam();
  Json json = Config(std::string(option.architecture));
  json[std::string(option.key)] = Json::parse(option.value);

  const std::string message = ParseError(json);

  if (option.part.empty()) {
    EXPECT_THAT(message, IsEmpty());
  } else {
    EXPECT_THAT(message, AllOf(HasSubstr("config.json: /" + std::string(option.key)),
                               HasSubstr(std::string(option.part))));
  }
}
constexpr std::string_view kLlama = "LlamaForCausalLM";
constexpr std::string_view kQwen2 = "Qwen2ForCausalLM";
constexpr std::string_view kQwen3 = "Qwen3ForCausalLM";
INSTANTIATE_TEST_SUITE_P(
    Table, Options,
    testing::Values(
        Option{kLlama, "hidden_act", "\"gelu\"", "gelu"}, Option{kLlama, "hidden_act", "null", ""},
        Option{kLlama, "sliding_window", "1024", "sliding-window"},
        Option{kLlama, "sliding_window", "2048", ""},  // the whole context
        Option{kLlama, "sliding_window", "null", ""}, Option{kQwen2, "sliding_window", "4096", ""},
        Option{kQwen2, "use_sliding_window", "true", ""},  // 4096, where none is given
        Option{kQwen3, "use_sliding_window", "false", ""},
        Option{kQwen3, "layer_types", R"(["full_attention","sliding_attention"])", "sliding_att"},
        Option{kLlama, "layer_types", R"(["linear_attention"])", "linear_attention"},
        Option{kLlama, "layer_types", "[7]", "full_attention"},
        Option{kLlama, "layer_types", "\"full_attention\"", "an array"},
        Option{kQwen3, "layer_types", R"(["full_attention"])", ""},
        Option{kLlama, "partial_rotary_factor", "0.5", "0.5"},
        Option{kLlama, "partial_rotary_factor", "1.0", ""},
        Option{kQwen3, "num_experts", "128", "128"}, Option{kQwen3, "num_experts", "0", ""},
        Option{kLlama, "num_local_experts", "8", "8"},
        Option{kLlama, "rope_interleaved", "true", "true"},
        Option{kLlama, "rope_interleaved", "false", ""},
        Option{kLlama, "final_logit_softcapping", "30.0", "30.0"},
        Option{kLlama, "embedding_multiplier", "12", "12"},
        Option{kLlama, "use_qk_norm", "true", "true"}, Option{kQwen3, "use_qk_norm", "true", ""},
        Option{kLlama, "quantization_config", R"({"quant_method":"awq","bits":4})", "awq"},
        Option{kLlama, "quantization_config", R"({"quant_method":"gptq","bits":4})", ""},
        Option{kLlama, "quantization_config", R"({"quant_method":"bitsandbytes"})", "bitsandbytes"},
        Option{kLlama, "quantization_config", R"({"load_in_4bit":true})", "bitsandbytes"},
        Option{kLlama, "quantization_config", R"({"quant_method":"awq"})", ".qweight, .qzeros"},
        Option{kLlama, "quantization_config", R"({"quant_method":"compressed-tensors"})", ""},
        Option{kLlama, "quantization_config", "{}", "quant_method"},
        Option{kLlama, "attention_dropout", "0.1", ""}, Option{kLlama, "dtype", "\"x\"", ""},
        Option{kLlama, "torch_dtype", "\"float16\"", ""}, Option{kLlama, "pretraining_tp", "1", ""},
        // values out of range
        Option{kLlama, "hidden_size", "0", "1 to"}, Option{kLlama, "hidden_size", "\"a\"", "whole"},
        Option{kLlama, "hidden_size", "-9223372036854775808", "1 to"},
        Option{kLlama, "num_attention_heads", "0", "1 to"},
        Option{kLlama, "num_attention_heads", "-1", "1 to"},
        Option{kLlama, "num_key_value_heads", "3", "divisor"},
        Option{kLlama, "num_hidden_layers", "1000000", "at most 4096"},
        Option{kLlama, "head_dim", "33", "even"}, Option{kLlama, "vocab_size", "1e30", "whole"},
        Option{kLlama, "max_position_embeddings", "0", "at least 1"},
        Option{kLlama, "rms_norm_eps", "0", "positive"},
        Option{kLlama, "tie_word_embeddings", "1", "true or false"}));

TEST(Quantization, ByAnotherMethodSaysWhatIsThereAndWhatToDo) {
  for (const char* method : {"bitsandbytes", "fp8", "fbgemm_fp8", "awq", "hqq", "quanto", "torchao",
                             "aqlm", "mxfp4", "never_heard_of"}) {
    Json json = Config("LlamaForCausalLM");
    json["quantization_config"] = {{"quant_method", method}};
    EXPECT_THAT(ParseError(json),
                AllOf(HasSubstr("a method that is not read"), HasSubstr(method),
                      HasSubstr("a folder of " + std::string(method) + " holds"),
                      HasSubstr("start from the float model"),
                      HasSubstr("delete \"quantization_config\" from config.json")));
  }
}

/// Windows of the layers, "whole, 1024, 1024"; what is refused.
std::string Windows(const Json& json) {
  const std::string error = ParseError(json);
  if (!error.empty()) return error;
  const ModelConfig config = Parse(json);
  std::string text;
  for (Index layer = 0; layer < config.layers; ++layer) {
    const Index window = config.Shape(layer).window;
    text +=
        (layer == 0 ? "" : ", ") + (window == 0 ? std::string("whole") : std::to_string(window));
  }
  return text;
}

TEST(SlidingWindow, OfQwenIsSwitchedOnAndBeginsAtALayer) {
  for (const char* architecture : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    Json json = Config(architecture);  // 3 layers, 2048 positions
    json["use_sliding_window"] = true;
    json["sliding_window"] = 1024;
    json["max_window_layers"] = 2;
    EXPECT_EQ(Windows(json), "whole, whole, 1024");
    json["layer_types"] = {"full_attention", "full_attention", "full_attention"};
    EXPECT_EQ(Windows(json), "whole, whole, whole");  // they are asked before the number
    json["layer_types"][0] = "sliding_attention";
    EXPECT_EQ(Windows(json), "1024, whole, whole");
    json["layer_types"] = {"sliding_attention"};
    EXPECT_THAT(Windows(json), HasSubstr("a type for each layer"));
    json["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
    json["sliding_window"] = 2048;
    EXPECT_EQ(Windows(json), "whole, whole, whole");  // of all positions that there are
    json.erase("layer_types");
    json["sliding_window"] = 1024;
    json["max_window_layers"] = 3;
    EXPECT_EQ(Windows(json), "whole, whole, whole");
    json.erase("max_window_layers");  // 28
    EXPECT_EQ(Windows(json), "whole, whole, whole");
    json["max_window_layers"] = 0;
    EXPECT_EQ(Windows(json), "1024, 1024, 1024");
    json["sliding_window"] = nullptr;
    EXPECT_EQ(Windows(json), "whole, whole, whole");
    json["use_sliding_window"] = false;
    json["sliding_window"] = 1024;
    EXPECT_EQ(Windows(json), "whole, whole, whole");
    json["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
    EXPECT_THAT(Windows(json), HasSubstr("/layer_types/1"));  // without a window
    json["use_sliding_window"] = true;
    json["sliding_window"] = -1;
    EXPECT_THAT(Windows(json), HasSubstr("/sliding_window"));
  }
}

TEST(SlidingWindow, OfMistralIsOfAllLayersAndOfMinistralByTheirTypes) {
  Json mistral = Config("MistralForCausalLM");
  mistral["sliding_window"] = 512;
  EXPECT_EQ(Windows(mistral), "512, 512, 512");
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(Windows(mistral), "whole, whole, whole");
  mistral.erase("sliding_window");  // 4096, more than the positions
  EXPECT_EQ(Windows(mistral), "whole, whole, whole");
  mistral["max_position_embeddings"] = 8192;
  EXPECT_EQ(Windows(mistral), "4096, 4096, 4096");

  Json ministral = Config("MinistralForCausalLM");
  ministral["sliding_window"] = 512;
  EXPECT_EQ(Windows(ministral), "512, 512, 512");
  ministral["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(Windows(ministral), "512, whole, 512");
}

TEST(Rotations, OfSmolLM3AreLeftOutInEveryFourthLayerOrWhereItIsSaid) {
  const auto rotates = [](const Json& json) {
    const std::string error = ParseError(json);
    if (!error.empty()) return error;
    std::string text;
    const ModelConfig config = Parse(json);
    for (Index layer = 0; layer < config.layers; ++layer) {
      text += config.Shape(layer).rotates ? '1' : '0';
    }
    return text;
  };
  Json json = Config("SmolLM3ForCausalLM");
  json["num_hidden_layers"] = 9;
  EXPECT_EQ(rotates(json), "111011101");
  json["no_rope_layer_interval"] = 3;
  EXPECT_EQ(rotates(json), "110110110");
  json["no_rope_layers"] = {1, 1, 1, 1, 0, 1, 1, 1, 1};
  EXPECT_EQ(rotates(json), "111101111");
  json["use_sliding_window"] = true;
  json["sliding_window"] = 100;
  EXPECT_EQ(Windows(json), "whole, whole, whole, whole, 100, whole, whole, whole, whole");
  json["no_rope_layers"] = {1, 1};
  EXPECT_THAT(rotates(json), HasSubstr("/no_rope_layers"));
  json["no_rope_layers"] = {1, 1, 1, 1, 2, 1, 1, 1, 1};
  EXPECT_THAT(rotates(json), HasSubstr("/no_rope_layers/4"));
  json.erase("no_rope_layers");
  json["no_rope_layer_interval"] = 0;
  EXPECT_THAT(rotates(json), HasSubstr("/no_rope_layer_interval"));
}

TEST(RopeScalings, AreReadWithTheirNumbers) {
  Json json = Config("Qwen2ForCausalLM");
  json.erase("rope_parameters");
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2.5}};
  EXPECT_EQ(Parse(json).rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(Parse(json).rope.factor, 2.5);
  json["rope_scaling"] = {
      {"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}};
  const Rope yarn = Parse(json).rope;
  EXPECT_EQ(yarn.scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn.original_context, 512);
  EXPECT_EQ(yarn.beta_fast, 32);
  EXPECT_NEAR(yarn.attention_factor, 0.1 * std::log(4.0) + 1, 1e-12);
  json["rope_scaling"]["mscale"] = 2.0;
  json["rope_scaling"]["mscale_all_dim"] = 1.0;
  EXPECT_NEAR(Parse(json).rope.attention_factor,
              (0.2 * std::log(4.0) + 1) / (0.1 * std::log(4.0) + 1), 1e-12);
  json["rope_scaling"]["attention_factor"] = 1.5;
  EXPECT_EQ(Parse(json).rope.attention_factor, 1.5);
  json["rope_scaling"]["factor"] = 0.5;
  EXPECT_THAT(ParseError(json), HasSubstr("factor >= 1"));
  json["rope_scaling"] = {{"rope_type", "proportional"}, {"factor", 4.0}};
  EXPECT_THAT(ParseError(json), HasSubstr("default, linear, llama3, yarn, dynamic or longrope"));
}

TEST(ModuleName, IsThatOfTheCheckpoint) {
  EXPECT_EQ(ModuleName(3, Site::kDown), "model.layers.3.mlp.down_proj");
}

}  // namespace
}  // namespace lieq
