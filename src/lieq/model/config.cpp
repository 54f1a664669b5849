#include "lieq/model/config.h"

#include <cmath>

#include "lieq/base/error.h"

namespace lieq {
namespace {

struct SiteRow {
  std::string_view name;
  std::string_view module;
};
constexpr std::array<SiteRow, kSites> kSiteRows{{{"q", "self_attn.q_proj"},
                                                 {"k", "self_attn.k_proj"},
                                                 {"v", "self_attn.v_proj"},
                                                 {"o", "self_attn.o_proj"},
                                                 {"gate", "mlp.gate_proj"},
                                                 {"up", "mlp.up_proj"},
                                                 {"down", "mlp.down_proj"}}};

constexpr std::array<std::string_view, kUnits> kUnitNames{"qkv", "o", "gate_up", "down"};
// Sites are numbered in the order of computation, so the linears of a unit lie side by side.
constexpr std::array<int, kUnits + 1> kUnitBegin{0, 3, 4, 6, 7};

void Require(bool good, std::string_view where, std::string_view key, std::string expected,
             std::string found) {
  if (good) return;
  throw Error({.what = "value out of range",
               .where = std::string(where) + ": /" + std::string(key),
               .expected = std::move(expected),
               .found = std::move(found)});
}

}  // namespace

std::string_view Name(Site site) noexcept {
  return kSiteRows[static_cast<std::size_t>(site)].name;
}
std::string_view Module(Site site) noexcept {
  return kSiteRows[static_cast<std::size_t>(site)].module;
}

std::string_view Name(Unit unit) noexcept {
  return kUnitNames[static_cast<std::size_t>(unit)];
}
Unit UnitOf(Site site) noexcept {
  std::size_t unit = 0;
  while (static_cast<int>(site) >= kUnitBegin[unit + 1]) ++unit;
  return kAllUnits[unit];
}
std::span<const Site> SitesOf(Unit unit) noexcept {
  const auto index = static_cast<std::size_t>(unit);
  const auto begin = static_cast<std::size_t>(kUnitBegin[index]);
  const auto end = static_cast<std::size_t>(kUnitBegin[index + 1]);
  return std::span(kAllSites).subspan(begin, end - begin);
}

LayerShape ModelConfig::Shape(Index layer) const {
  return shapes.empty() ? LayerShape{} : shapes[Size(layer)];
}

std::string_view Name(RopeScaling scaling) noexcept {
  switch (scaling) {
    case RopeScaling::kLinear:
      return "linear";
    case RopeScaling::kLlama3:
      return "llama3";
    case RopeScaling::kYarn:
      return "yarn";
    case RopeScaling::kNone:
      break;
  }
  return "default";
}

Index ModelConfig::Out(Site site) const noexcept {
  switch (site) {
    case Site::kQ:
      return heads * head_dim;
    case Site::kK:
    case Site::kV:
      return kv_heads * head_dim;
    case Site::kGate:
    case Site::kUp:
      return intermediate;
    case Site::kO:
    case Site::kDown:
      return hidden;
  }
  return 0;
}

Index ModelConfig::In(Site site) const noexcept {
  if (site == Site::kO) return heads * head_dim;
  if (site == Site::kDown) return intermediate;
  return hidden;
}

bool ModelConfig::HasBias(Site site) const noexcept {
  switch (site) {
    case Site::kQ:
    case Site::kK:
    case Site::kV:
      return qkv_bias;
    case Site::kO:
      return o_bias;
    default:
      return mlp_bias;
  }
}

std::int64_t ModelConfig::LayerWeightCount() const noexcept {
  std::int64_t count = 0;
  for (const Site site : kAllSites) count += Out(site) * In(site);
  return count;
}

void CheckConfig(const ModelConfig& config, std::string_view where) {
  // Bounds far above any model in scope keep products of two extents within 64 bits.
  constexpr Index kMost = Index{1} << 24;
  const auto extent = [&](std::string_view key, Index value) {
    Require(value >= 1 && value <= kMost, where, key, "1 to " + std::to_string(kMost),
            std::to_string(value));
  };
  extent("num_hidden_layers", config.layers);
  extent("hidden_size", config.hidden);
  extent("intermediate_size", config.intermediate);
  extent("num_attention_heads", config.heads);
  extent("num_key_value_heads", config.kv_heads);
  extent("head_dim", config.head_dim);
  extent("vocab_size", config.vocab);
  Require(config.layers <= 4096, where, "num_hidden_layers", "at most 4096",
          std::to_string(config.layers));
  extent("num_attention_heads * head_dim", config.heads * config.head_dim);
  Require(config.heads % config.kv_heads == 0, where, "num_key_value_heads",
          "a divisor of num_attention_heads = " + std::to_string(config.heads),
          std::to_string(config.kv_heads));
  Require(config.head_dim % 2 == 0, where, "head_dim", "an even number",
          std::to_string(config.head_dim));
  Require(std::isfinite(config.rms_eps) && config.rms_eps > 0, where, "rms_norm_eps",
          "a positive number", std::to_string(config.rms_eps));
  Require(std::isfinite(config.rope.theta) && config.rope.theta > 1, where, "rope_theta",
          "a number above 1", std::to_string(config.rope.theta));
  const Rope& rope = config.rope;
  if (rope.scaling == RopeScaling::kLinear || rope.scaling == RopeScaling::kYarn) {
    Require(rope.factor >= 1 && rope.original_context >= 1 && rope.beta_slow > 0 &&
                rope.beta_fast >= rope.beta_slow && rope.attention_factor > 0 &&
                std::isfinite(rope.factor * rope.beta_fast * rope.attention_factor),
            where, "rope_scaling", "factor >= 1, 0 < beta_slow <= beta_fast, attention_factor > 0",
            std::to_string(rope.factor) + ", " + std::to_string(rope.beta_slow) + ", " +
                std::to_string(rope.beta_fast) + ", " + std::to_string(rope.attention_factor));
  }
  if (rope.scaling == RopeScaling::kLlama3) {
    Require(rope.factor >= 1 && rope.low_freq_factor > 0 &&
                rope.high_freq_factor > rope.low_freq_factor && rope.original_context >= 1,
            where, "rope_scaling", "factor >= 1, 0 < low_freq_factor < high_freq_factor",
            std::to_string(rope.factor) + ", " + std::to_string(rope.low_freq_factor) + ", " +
                std::to_string(rope.high_freq_factor));
  }
  for (const auto& [key, value] : {std::pair{"embedding_multiplier", config.embedding_multiplier},
                                   {"residual_multiplier", config.residual_multiplier},
                                   {"logits_scaling", config.logits_scaling}}) {
    Require(std::isfinite(value) && value > 0, where, key, "a positive number",
            std::to_string(value));
  }
  Require(std::isfinite(config.attention_multiplier) && config.attention_multiplier >= 0, where,
          "attention_multiplier", "a positive number", std::to_string(config.attention_multiplier));
  const auto shapes = static_cast<Index>(config.shapes.size());
  Require(shapes == 0 || shapes == config.layers, where, "layers with facts of their own",
          "none, or all " + std::to_string(config.layers), std::to_string(shapes));
  for (const LayerShape& shape : config.shapes) {
    Require(shape.window >= 0, where, "sliding_window", "0 or more", std::to_string(shape.window));
  }
}

}  // namespace lieq
