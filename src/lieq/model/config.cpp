#include "lieq/model/config.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/model/architectures.h"

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
    case RopeScaling::kDynamic:
      return "dynamic";
    case RopeScaling::kLongRope:
      return "longrope";
    case RopeScaling::kNone:
      break;
  }
  return "default";
}

namespace {

/// The linears of a layer by how many its first and its third unit have: of q, k and v the first
/// ones, of gate and up the same.
constexpr std::array<std::array<std::array<Site, kSites>, 2>, 3> kSiteLists{
    {{{{Site::kQ, Site::kO, Site::kGate, Site::kDown},
       {Site::kQ, Site::kO, Site::kGate, Site::kUp, Site::kDown}}},
     {{{Site::kQ, Site::kK, Site::kO, Site::kGate, Site::kDown},
       {Site::kQ, Site::kK, Site::kO, Site::kGate, Site::kUp, Site::kDown}}},
     {{{Site::kQ, Site::kK, Site::kV, Site::kO, Site::kGate, Site::kDown},
       {Site::kQ, Site::kK, Site::kV, Site::kO, Site::kGate, Site::kUp, Site::kDown}}}}};

/// Linears of the first unit: of the gated delta rule one of queries, keys and values and one of
/// gates; of the short convolution one of all three parts.
std::size_t InputLinears(const ModelConfig& config, const LayerShape& shape) noexcept {
  switch (shape.mixer) {
    case Mixer::kGatedDelta:
      return 2;
    case Mixer::kShortConv:
      return 1;
    case Mixer::kAttention:
      break;
  }
  return config.fused_qkv ? 1 : 3;
}

}  // namespace

std::span<const Site> ModelConfig::Sites(const LayerShape& shape) const noexcept {
  const std::size_t inputs = InputLinears(*this, shape), gated = fused_gate_up ? 1 : 2;
  return std::span(kSiteLists[inputs - 1][gated - 1]).first(inputs + gated + 2);
}

std::span<const Site> ModelConfig::SitesOf(const LayerShape& shape, Unit unit) const noexcept {
  const std::span<const Site> all = lieq::SitesOf(unit);
  if (unit == Unit::kQkv) return all.first(InputLinears(*this, shape));
  return unit == Unit::kGateUp && fused_gate_up ? all.first(1) : all;
}

bool ModelConfig::Has(Index layer, Site site) const {
  return std::ranges::count(Sites(layer), site) > 0;
}

Index ModelConfig::Out(const LayerShape& shape, Site site) const noexcept {
  const Index queries = heads * head_dim, keys = kv_heads * head_dim;
  const bool attends = shape.mixer == Mixer::kAttention;
  switch (site) {
    case Site::kQ:
      if (shape.mixer == Mixer::kGatedDelta) return delta.channels();
      if (shape.mixer == Mixer::kShortConv) return 3 * hidden;
      return fused_qkv ? queries + 2 * keys : gated_attention ? 2 * queries : queries;
    case Site::kK:
      if (shape.mixer == Mixer::kGatedDelta) return delta.values();
      return attends && !fused_qkv ? keys : 0;
    case Site::kV:
      return attends && !fused_qkv ? keys : 0;
    case Site::kGate:
      if (shape.experts) return experts.count * experts.inner;
      return fused_gate_up ? 2 * intermediate : intermediate;
    case Site::kUp:
      if (shape.experts) return experts.count * experts.inner;
      return fused_gate_up ? 0 : intermediate;
    case Site::kO:
      return hidden;
    case Site::kDown:
      return shape.experts ? experts.count * hidden : hidden;
  }
  return 0;
}

Index ModelConfig::In(const LayerShape& shape, Site site) const noexcept {
  if (site == Site::kDown) return shape.experts ? experts.inner : intermediate;
  if (site != Site::kO || shape.mixer == Mixer::kShortConv) return hidden;
  return shape.mixer == Mixer::kGatedDelta ? delta.values() : heads * head_dim;
}

namespace {

/// Calls f for each shape that layers have; those that follow one another alike, once.
template <class Function>
void ForShapes(const ModelConfig& config, const Function& f) {
  if (config.shapes.empty()) f(LayerShape{});
  for (std::size_t i = 0; i < config.shapes.size(); ++i) {
    if (i == 0 || !(config.shapes[i] == config.shapes[i - 1])) f(config.shapes[i]);
  }
}

}  // namespace

Index ModelConfig::Out(Site site) const noexcept {
  Index most = 0;
  ForShapes(*this, [&](const LayerShape& shape) { most = std::max(most, Out(shape, site)); });
  return most;
}

Index ModelConfig::In(Site site) const noexcept {
  Index most = 0;
  ForShapes(*this, [&](const LayerShape& shape) { most = std::max(most, In(shape, site)); });
  return most;
}

std::vector<Index> ModelConfig::Ins(Site site) const {
  std::vector<Index> all;
  ForShapes(*this, [&](const LayerShape& shape) {
    const Index in = In(shape, site);
    if (std::ranges::count(all, in) == 0) all.push_back(in);
  });
  return all;
}

bool ModelConfig::HasBias(const LayerShape& shape, Site site) const noexcept {
  const bool mixes = UnitOf(site) == Unit::kQkv || site == Site::kO;
  if (!mixes) return mlp_bias;
  if (shape.mixer == Mixer::kShortConv) return conv_bias;
  return shape.mixer == Mixer::kAttention && (site == Site::kO ? o_bias : qkv_bias);
}

bool ModelConfig::IsOfExperts(const LayerShape& shape, Site site) const noexcept {
  return shape.experts && UnitOf(site) >= Unit::kGateUp;
}

Index ModelConfig::Parts(const LayerShape& shape, Site site) const noexcept {
  return IsOfExperts(shape, site) ? experts.count : 1;
}

std::string_view ModelConfig::Module(Index layer, Site site) const {
  const Architecture* row = FindArchitecture(architecture);
  const LayerNames& names = row != nullptr ? *row->names : LayerNames{};
  const bool mixes = UnitOf(site) == Unit::kQkv || site == Site::kO;
  if (IsOfExperts(layer, site)) return names.experts[static_cast<std::size_t>(site)];
  const bool attends = Shape(layer).mixer == Mixer::kAttention;
  return (mixes && !attends ? names.mixer : names.linears)[static_cast<std::size_t>(site)];
}

bool ModelConfig::Mixes(Mixer mixer) const noexcept {
  if (shapes.empty()) return mixer == Mixer::kAttention;
  return std::ranges::count(shapes, mixer, &LayerShape::mixer) > 0;
}

bool ModelConfig::HasExperts() const noexcept {
  return std::ranges::count(shapes, true, &LayerShape::experts) > 0;
}

namespace {

std::int64_t WeightsOf(const ModelConfig& config, const LayerShape& shape) noexcept {
  std::int64_t count = 0;
  for (const Site site : config.Sites(shape)) {
    count += config.Out(shape, site) * config.In(shape, site);
  }
  return count;
}

}  // namespace

std::int64_t ModelConfig::LayerWeightCount(Index layer) const {
  return WeightsOf(*this, Shape(layer));
}

std::int64_t ModelConfig::LayerWeightCount() const noexcept {
  std::int64_t most = 0;
  ForShapes(*this,
            [&](const LayerShape& shape) { most = std::max(most, WeightsOf(*this, shape)); });
  return most;
}

std::int64_t ModelConfig::WeightCount() const {
  if (shapes.empty()) return layers * LayerWeightCount(0);
  std::int64_t count = 0;
  for (Index layer = 0; layer < layers; ++layer) count += LayerWeightCount(layer);
  return count;
}

namespace {

void CheckRope(const Rope& rope, Index dim, std::string_view where) {
  Require(std::isfinite(rope.theta) && rope.theta > 1, where, "rope_theta", "a number above 1",
          std::to_string(rope.theta));
  const auto scaling = [&](bool good, std::string expected, std::string found) {
    Require(good, where, "rope_scaling", std::move(expected), std::move(found));
  };
  switch (rope.scaling) {
    case RopeScaling::kLinear:
    case RopeScaling::kYarn:
      scaling(rope.factor >= 1 && rope.original_context >= 1 && rope.beta_slow > 0 &&
                  rope.beta_fast >= rope.beta_slow && rope.attention_factor > 0 &&
                  std::isfinite(rope.factor * rope.beta_fast * rope.attention_factor),
              "factor >= 1, 0 < beta_slow <= beta_fast, attention_factor > 0",
              std::to_string(rope.factor) + ", " + std::to_string(rope.beta_slow) + ", " +
                  std::to_string(rope.beta_fast) + ", " + std::to_string(rope.attention_factor));
      break;
    case RopeScaling::kLlama3:
      scaling(rope.factor >= 1 && rope.low_freq_factor > 0 &&
                  rope.high_freq_factor > rope.low_freq_factor && rope.original_context >= 1,
              "factor >= 1, 0 < low_freq_factor < high_freq_factor",
              std::to_string(rope.factor) + ", " + std::to_string(rope.low_freq_factor) + ", " +
                  std::to_string(rope.high_freq_factor));
      break;
    case RopeScaling::kDynamic:
      scaling(
          rope.factor >= 1 && rope.original_context >= 1 && dim > 2 && std::isfinite(rope.factor),
          "factor >= 1, and more than 2 dimensions that turn", std::to_string(rope.factor));
      break;
    case RopeScaling::kLongRope:
      for (const auto* factors : {&rope.short_factors, &rope.long_factors}) {
        scaling(static_cast<Index>(factors->size()) == dim / 2,
                std::to_string(dim / 2) + " factors of either kind",
                std::to_string(factors->size()));
        for (const double factor : *factors) {
          scaling(std::isfinite(factor) && factor > 0, "positive factors", std::to_string(factor));
        }
      }
      scaling(rope.original_context >= 1 && rope.attention_factor > 0 &&
                  std::isfinite(rope.attention_factor),
              "attention_factor > 0", std::to_string(rope.attention_factor));
      break;
    case RopeScaling::kNone:
      break;
  }
}

/// Of layers that do not attend, and of what only some architectures have.
void CheckMixers(const ModelConfig& config, std::string_view where) {
  constexpr Index kMost = Index{1} << 16;
  const auto extent = [&](std::string_view key, Index value) {
    Require(value >= 1 && value <= kMost, where, key, "1 to " + std::to_string(kMost),
            std::to_string(value));
  };
  const bool delta = config.Mixes(Mixer::kGatedDelta);
  if (delta || config.Mixes(Mixer::kShortConv)) {
    extent(delta ? "linear_conv_kernel_dim" : "conv_L_cache", config.conv_kernel);
  }
  if (delta) {
    extent("linear_num_key_heads", config.delta.key_heads);
    extent("linear_num_value_heads", config.delta.value_heads);
    extent("linear_key_head_dim", config.delta.key_dim);
    extent("linear_value_head_dim", config.delta.value_dim);
    extent("linear_num_key_heads * linear_key_head_dim", config.delta.keys());
    extent("linear_num_value_heads * linear_value_head_dim", config.delta.values());
    Require(config.delta.value_heads % config.delta.key_heads == 0, where, "linear_num_key_heads",
            "a divisor of linear_num_value_heads = " + std::to_string(config.delta.value_heads),
            std::to_string(config.delta.key_heads));
  }
  if (config.HasExperts()) {
    const ExpertShape& experts = config.experts;
    extent("num_experts", experts.count);
    extent("moe_intermediate_size", experts.inner);
    constexpr Index kMostRows = Index{1} << 24;
    Require(experts.count * std::max(experts.inner, config.hidden) <= kMostRows, where,
            "num_experts", "at most " + std::to_string(kMostRows) + " rows of all",
            std::to_string(experts.count));
    // Each has three modules by its own name.
    constexpr Index kMostExperts = Index{1} << 18;
    Require(config.layers * experts.count <= kMostExperts, where, "num_experts",
            "at most " + std::to_string(kMostExperts) + " in all layers",
            std::to_string(config.layers * experts.count));
    Require(experts.used >= 1 && experts.used <= experts.count, where, "num_experts_per_tok",
            "1 to num_experts = " + std::to_string(experts.count), std::to_string(experts.used));
  }
  for (const auto& [key, value] : {std::pair{"attn_logit_softcapping", config.attention_cap},
                                   {"final_logit_softcapping", config.logit_cap},
                                   {"clip_qkv", config.qkv_clip},
                                   {"llama_4_scaling_beta", config.temperature}}) {
    Require(std::isfinite(value) && value >= 0, where, key, "null, or a positive number",
            std::to_string(value));
  }
  Require(config.temperature == 0 ||
              (std::isfinite(config.temperature_context) && config.temperature_context >= 1),
          where, "original_max_position_embeddings", "at least 1",
          std::to_string(config.temperature_context));
}

}  // namespace

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
  Require(
      config.rotary_dim >= 0 && config.rotary_dim <= config.head_dim && config.rotary_dim % 2 == 0,
      where, "partial_rotary_factor", "an even number of a head's dimensions",
      std::to_string(config.rotary_dim));
  CheckRope(config.rope, config.RotaryDim(), where);
  if (config.local_rope) CheckRope(*config.local_rope, config.RotaryDim(), where);
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
  CheckMixers(config, where);
}

}  // namespace lieq
