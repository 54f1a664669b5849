// config.json and the patterns in it: a config that keeps its invariants, or an Error.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/fuzz_input.h"
#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/name_pattern.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

template <class F>
void AllowErrors(F&& call) {
  try {
    call();
  } catch (const Error&) {
  }
}

void ParseConfig(const Json& json) {
  const ModelConfig config = ParseModelConfig(json, "config.json");
  Require(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0, "heads divide");
  Require(config.LayerWeightCount() > 0, "weights can be counted");
  for (const Site site : kAllSites) {
    Require(config.In(site) >= 1 && config.Out(site) >= 1, "extents are at least 1");
  }
}

void ParseGrids(const Json& json) {
  ModelConfig config;
  config.layers = 12;
  config.hidden = config.intermediate = 1024;
  config.heads = config.kv_heads = 4;
  config.head_dim = 64;
  const LayerGrids grids = ParseQuantizationConfig(json, config, "config.json");
  Require(grids.size() == 12, "a grid for every layer");
  for (const auto& layer : grids) {
    for (const Site site : kAllSites) {
      const Grid& grid = layer[static_cast<std::size_t>(site)];
      Require(config.In(site) % GroupColumns(grid, config.In(site)) == 0, "groups divide");
    }
  }
  // What was read can be said again in our own words.
  const Json again = Json::parse(QuantizationConfig({.layers = grids}).dump());
  Require(ParseQuantizationConfig(again, config, "again") == grids, "written as it was read");
}

constexpr std::array<std::string_view, 48> kKeys{"architectures",
                                                 "model_type",
                                                 "num_hidden_layers",
                                                 "hidden_size",
                                                 "intermediate_size",
                                                 "num_attention_heads",
                                                 "num_key_value_heads",
                                                 "head_dim",
                                                 "vocab_size",
                                                 "max_position_embeddings",
                                                 "rms_norm_eps",
                                                 "rope_theta",
                                                 "rope_scaling",
                                                 "rope_parameters",
                                                 "rope_type",
                                                 "type",
                                                 "factor",
                                                 "low_freq_factor",
                                                 "high_freq_factor",
                                                 "original_max_position_embeddings",
                                                 "partial_rotary_factor",
                                                 "tie_word_embeddings",
                                                 "attention_bias",
                                                 "mlp_bias",
                                                 "hidden_act",
                                                 "sliding_window",
                                                 "use_sliding_window",
                                                 "layer_types",
                                                 "quantization_config",
                                                 "num_experts",
                                                 "config_groups",
                                                 "targets",
                                                 "weights",
                                                 "num_bits",
                                                 "group_size",
                                                 "strategy",
                                                 "symmetric",
                                                 "offset",
                                                 "actorder",
                                                 "ignore",
                                                 "format",
                                                 "num_local_experts",
                                                 "num_experts_per_tok",
                                                 "moe_intermediate_size",
                                                 "norm_topk_prob",
                                                 "decoder_sparse_step",
                                                 "mlp_only_layers",
                                                 "clip_qkv"};
constexpr std::array<std::string_view, 19> kValues{"llama3",
                                                   "lieq",
                                                   "half",
                                                   "float",
                                                   "default",
                                                   "yarn",
                                                   "silu",
                                                   "full_attention",
                                                   "LlamaForCausalLM",
                                                   "qwen2",
                                                   "compressed-tensors",
                                                   "pack-quantized",
                                                   "group",
                                                   "channel",
                                                   "Linear",
                                                   "re:.*_proj$",
                                                   "re:^model\\.layers\\.(?:[0-5]|1[01])\\.",
                                                   "model.layers.0.mlp.up_proj",
                                                   ""};

/// A small JSON value of any kind.
Json Value(FuzzInput& input, int depth) {
  switch (input.Below(depth > 4 ? 7 : 10)) {
    case 0:
      return nullptr;
    case 1:
      return input.Below(2) == 0;
    case 2:
      return input.Number();
    case 3:
      return -static_cast<std::int64_t>(input.Number() >> 1);
    case 4:
      return static_cast<double>(input.Below(64)) / 8;
    case 5:
    case 6:
      return kValues[input.Below(kValues.size())];
    case 7: {
      Json array = Json::array();
      for (std::uint32_t i = input.Below(4); i > 0; --i) array.push_back(Value(input, depth + 1));
      return array;
    }
    default: {
      Json object = Json::object();
      for (std::uint32_t i = input.Below(6); i > 0; --i) {
        object[std::string(kKeys[input.Below(kKeys.size())])] = Value(input, depth + 1);
      }
      return object;
    }
  }
}

/// A config that is right but for a few keys.
Json Config(FuzzInput& input) {
  const auto rows = Architectures();
  const Architecture& row = rows[input.Below(static_cast<std::uint32_t>(rows.size()))];
  Json json{{"architectures", {row.name}}, {"hidden_size", 64}, {"num_attention_heads", 4}};
  while (!input.empty()) {
    Json* at = &json;
    if (input.Rarely()) at = &json["rope_scaling"];
    if (!at->is_object()) *at = Json::object();
    (*at)[std::string(kKeys[input.Below(kKeys.size())])] = Value(input, 0);
  }
  return json;
}

Json Quantization(FuzzInput& input) {
  Json json{{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}};
  for (std::uint32_t group = input.Below(4) + 1; group > 0; --group) {
    Json weights{{"num_bits", 4}, {"group_size", 64}};
    for (std::uint32_t i = input.Below(4); i > 0; --i) {
      weights[std::string(kKeys[input.Below(kKeys.size())])] = Value(input, 2);
    }
    if (input.Below(4) == 0) weights["num_bits"] = input.Below(9);
    Json targets = Json::array();
    for (std::uint32_t i = input.Below(4); i > 0; --i) {
      targets.push_back(kValues[9 + input.Below(7)]);
    }
    json["config_groups"][std::to_string(group)] = {{"weights", weights}, {"targets", targets}};
  }
  Json spoilt = Json::object();
  if (input.Rarely()) spoilt[std::string(kKeys[input.Below(kKeys.size())])] = Value(input, 2);
  if (input.Rarely()) spoilt["ignore"] = Value(input, 2);
  // The rest is one more pattern.
  json["config_groups"]["1"]["targets"].push_back("re:" + std::string(input.Text()));
  json.update(spoilt);
  return json;
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lieq;  // NOLINT(google-build-using-namespace): the whole of this function
  FuzzInput input(data, size);
  switch (input.Below(4)) {
    case 0:
      AllowErrors([&] {
        const Json json = ParseJson(input.Text(), "config.json");
        AllowErrors([&] { ParseConfig(json); });
        if (json.is_object() && json.contains("quantization_config")) {
          ParseGrids(json["quantization_config"]);
        }
      });
      break;
    case 1:
      AllowErrors([&] { ParseConfig(Config(input)); });
      break;
    case 2:
      AllowErrors([&] { ParseGrids(Quantization(input)); });
      break;
    default: {  // a pattern, a newline, a name
      const std::string_view text = input.Text();
      const std::size_t line = text.find('\n');
      AllowErrors([&] {
        const NamePattern pattern(text.substr(0, line), "pattern");
        (void)pattern.Matches(line == std::string_view::npos ? "model.layers.0.mlp.up_proj"
                                                             : text.substr(line + 1, 128));
      });
      break;
    }
  }
  return 0;
}
