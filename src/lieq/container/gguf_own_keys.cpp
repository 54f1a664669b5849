#include "lieq/container/gguf_own_keys.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace lieq {
namespace {

/// What llama.cpp multiplies cosines and sines by itself, where it scales by yarn.
double YarnMagnitude(const Rope& rope) {
  return 0.1 * std::log(rope.factor) + 1.0;
}

void AddScalingKeys(const ModelConfig& config, const std::string& name, GgufKeyWriter& keys) {
  const Rope& rope = config.rope;
  const auto key = [&](const char* rest) { return name + ".rope.scaling." + rest; };
  const auto real = [&](const char* rest, double value) {
    keys.F32(key(rest), static_cast<float>(value));
  };
  switch (rope.scaling) {
    case RopeScaling::kLinear:
      keys.String(key("type"), "linear");
      real("factor", rope.factor);
      break;
    case RopeScaling::kYarn: {
      keys.String(key("type"), "yarn");
      real("factor", rope.factor);
      keys.U32(key("original_context_length"), static_cast<std::uint32_t>(rope.original_context));
      real("yarn_beta_fast", rope.beta_fast);
      real("yarn_beta_slow", rope.beta_slow);
      // A tempered model has its own magnitude taken out first.
      const bool apart = config.temperature != 0;
      if (apart) real("yarn_log_multiplier", 1);
      const double magnitude = rope.attention_factor / (apart ? 1 : YarnMagnitude(rope));
      if (std::fabs(magnitude - 1) > 1e-9) real("attn_factor", magnitude);
      break;
    }
    case RopeScaling::kLongRope:
      keys.String(key("type"), "longrope");
      keys.U32(key("original_context_length"), static_cast<std::uint32_t>(rope.original_context));
      real("attn_factor", rope.attention_factor);
      break;
    default:
      break;
  }
}

void AddDeltaKeys(const ModelConfig& config, const std::string& name, GgufKeyWriter& keys) {
  const DeltaShape& delta = config.delta;
  const auto number = [&](const char* key, Index value) {
    keys.U32(name + "." + key, static_cast<std::uint32_t>(value));
  };
  number("ssm.conv_kernel", config.conv_kernel);
  number("ssm.state_size", delta.key_dim);
  number("ssm.group_count", delta.key_heads);
  number("ssm.time_step_rank", delta.value_heads);
  number("ssm.inner_size", delta.values());
  std::vector<bool> recurrent;
  for (Index layer = 0; layer < config.layers; ++layer) {
    recurrent.push_back(config.Shape(layer).mixer == Mixer::kGatedDelta);
  }
  keys.Bools(name + ".attention.recurrent_layers", recurrent);
  // Of pictures; text has the same position in all sections.
  const std::array<std::int32_t, 4> sections{11, 11, 10, 0};
  keys.I32s(name + ".rope.dimension_sections", sections);
}

/// Layers with a window, by the rope that they turn by where that tells them apart.
void AddWindowKeys(const ModelConfig& config, const std::string& name, GgufKeyWriter& keys) {
  Index window = 0;
  std::vector<bool> slides;
  for (Index layer = 0; layer < config.layers; ++layer) {
    const LayerShape shape = config.Shape(layer);
    window = std::max(window, shape.window);
    slides.push_back(shape.window > 0 || shape.local_rope);
  }
  if (std::ranges::find(slides, true) == slides.end()) return;
  // One that narrows no layer's context was left aside; its layers turn by their own rope still.
  if (window == 0) window = config.max_positions;
  keys.U32(name + ".attention.sliding_window", static_cast<std::uint32_t>(window));
  keys.Bools(name + ".attention.sliding_window_pattern", slides);
  if (config.local_rope) {
    keys.F32(name + ".rope.freq_base_swa", static_cast<float>(config.local_rope->theta));
  }
}

void AddShortConvKeys(const ModelConfig& config, const std::string& name, GgufKeyWriter& keys) {
  keys.U32(name + ".shortconv.l_cache", static_cast<std::uint32_t>(config.conv_kernel));
  std::vector<std::int32_t> heads;
  for (Index layer = 0; layer < config.layers; ++layer) {
    const bool attends = config.Shape(layer).mixer == Mixer::kAttention;
    heads.push_back(attends ? static_cast<std::int32_t>(config.kv_heads) : 0);
  }
  keys.I32s(name + ".attention.head_count_kv", heads);
}

}  // namespace

void AddOwnKeys(const ModelConfig& config, const Architecture& row, GgufKeyWriter& keys) {
  const std::string name(row.gguf_name);
  const auto real = [&](const char* key, double value) {
    keys.F32(name + "." + key, static_cast<float>(value));
  };
  AddScalingKeys(config, name, keys);
  if (row.multiplies) {
    if (config.attention_multiplier != 0) real("attention.scale", config.attention_multiplier);
    real("embedding_scale", config.embedding_multiplier);
    real("residual_scale", config.residual_multiplier);
    real("logit_scale", config.logits_scaling);
  }
  if (config.attention_cap != 0) real("attn_logit_softcapping", config.attention_cap);
  if (config.logit_cap != 0) real("final_logit_softcapping", config.logit_cap);
  if (config.temperature != 0) real("attention.temperature_scale", config.temperature);
  if (row.windows == WindowRule::kPattern) AddWindowKeys(config, name, keys);
  if (config.Mixes(Mixer::kGatedDelta)) AddDeltaKeys(config, name, keys);
  if (config.Mixes(Mixer::kShortConv)) AddShortConvKeys(config, name, keys);
}

}  // namespace lieq
