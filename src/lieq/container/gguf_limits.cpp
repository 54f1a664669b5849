#include "lieq/container/gguf_limits.h"

#include <cmath>
#include <string>

#include "lieq/model/architectures.h"

namespace lieq {

std::optional<Problem> WhyNoGguf(const ModelConfig& config) {
  const auto because = [&](std::string what, std::string expected) {
    return Problem{.what = std::move(what),
                   .where = "--to gguf",
                   .expected = std::move(expected),
                   .found = config.architecture};
  };
  const bool llama = config.architecture == "LlamaForCausalLM";
  const bool qwen2 = config.architecture == "Qwen2ForCausalLM";
  const Architecture* row = FindArchitecture(config.architecture);
  if (row == nullptr || row->gguf_name.empty()) {
    return because("GGUF files of this architecture are not written yet", "another container");
  }
  const bool on_llama = row->gguf_name == "llama";
  const RopeScaling scaling = config.rope.scaling;
  if (scaling == RopeScaling::kLlama3 && !on_llama && row->gguf_name != "exaone4") {
    return because("llama3 rope outside of a llama", "LlamaForCausalLM");
  }
  if (scaling == RopeScaling::kDynamic) {
    return because("llama.cpp has no rope scaling that goes by the length", "another rope type");
  }
  if (scaling == RopeScaling::kLongRope && row->gguf_name != "phi3") {
    return because("longrope outside of a phi3", "Phi3ForCausalLM");
  }
  if (scaling == RopeScaling::kYarn && !config.rope.truncate) {
    return because("llama.cpp rounds the dimensions that yarn begins and ends at",
                   "truncate: true");
  }
  const bool square = config.heads * config.head_dim == config.hidden;
  const bool wants_square = row->gguf_name == "phi3" || row->gguf_name == "granite" ||
                            row->gguf_name == "olmo2" || row->gguf_name == "exaone4" ||
                            row->gguf_name == "lfm2" || row->gguf_name == "olmoe";
  if (wants_square && !square) {
    return because("llama.cpp has no head size of its own in this architecture",
                   "heads as wide as the stream together");
  }
  if ((row->gguf_name == "olmo2" || row->gguf_name == "olmoe") && config.tied) {
    return because("llama.cpp wants a head of its own in this architecture", "an untied head");
  }
  if (const auto& local = config.local_rope; local && local->scaling != RopeScaling::kNone) {
    return because("llama.cpp scales no rope of layers with windows", "a plain one");
  }
  if (row->gguf_name == "olmo2" && config.local_rope &&
      config.local_rope->theta != config.rope.theta) {
    return because("llama.cpp has one theta for all layers of this architecture", "one theta");
  }
  if (row->gemma) {
    const bool largest = config.layers == (row->attention_cap != 0 ? 46 : 62);
    const Index scalar = largest ? config.hidden / config.heads : config.head_dim;
    if (std::fabs(config.attention_multiplier * std::sqrt(static_cast<double>(scalar)) - 1) >
        1e-6) {
      return because("llama.cpp takes the scale of scores from the size of a head",
                     "query_pre_attn_scalar " + std::to_string(scalar));
    }
    if (row->attention_cap != 0 && (config.attention_cap == 0 || config.logit_cap == 0)) {
      return because("llama.cpp caps scores and logits of this architecture always", "both caps");
    }
  }
  if (row->gguf_name == "olmoe" && config.kv_heads != config.heads) {
    return because("llama.cpp has as many heads of keys as of queries in this architecture",
                   "num_key_value_heads = num_attention_heads");
  }
  if (row->experts.count > 0) {
    // qwen3moe divides by the sum of what is chosen, olmoe does not.
    if (config.experts.normalised != row->dense_between) {
      return because("llama.cpp has it of the architecture whether experts add up to 1",
                     row->dense_between ? "norm_topk_prob: true" : "norm_topk_prob: false");
    }
    for (Index layer = 0; layer < config.layers; ++layer) {
      if (config.Shape(layer).experts) continue;
      return because("llama.cpp has experts in every layer of this architecture",
                     "no mlp_only_layers, and decoder_sparse_step 1");
    }
    if (config.qkv_clip != 0) {
      return because("llama.cpp bounds no queries, keys and values in this architecture",
                     "clip_qkv: null");
    }
  }
  if (config.conv_bias) {
    return because("llama.cpp has no bias of short convolutions", "conv_bias: false");
  }
  if (row->gguf_name == "mistral3" && config.temperature != 0 &&
      config.rope.scaling != RopeScaling::kYarn) {
    return because("llama.cpp takes the temperature's context from yarn", "yarn");
  }
  if (config.Mixes(Mixer::kGatedDelta) && config.delta.key_dim != config.delta.value_dim) {
    return because("llama.cpp has one size for keys and values of the delta rule",
                   "linear_key_head_dim = linear_value_head_dim");
  }
  for (Index layer = 0; layer < config.layers; ++layer) {
    const LayerShape shape = config.Shape(layer);
    const bool has_windows = row->gguf_name == "olmo2" || row->gguf_name == "gemma2" ||
                             row->gguf_name == "gemma3" ||
                             (row->gguf_name == "exaone4" && config.layers == 64);
    if (shape.window > 0 && !has_windows) {
      return because("llama.cpp has no sliding windows in this architecture", "whole contexts");
    }
    if (row->unrotated_beyond_windows && has_windows) continue;
    // llama.cpp leaves out every fourth rotation of smollm3, and none of others.
    const bool rotates = !row->skips_rotations || (layer + 1) % 4 != 0;
    if (shape.rotates != rotates) {
      return because("layers rotate otherwise than llama.cpp has it", "every fourth layer without");
    }
  }
  if ((config.qkv_bias && !llama && !qwen2) || ((config.o_bias || config.mlp_bias) && !llama)) {
    return because("llama.cpp reads no such biases in this architecture", "a model without them");
  }
  return std::nullopt;
}

}  // namespace lieq
