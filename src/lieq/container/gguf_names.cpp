#include "lieq/container/gguf_names.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lieq/base/assert.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, kSites> kModules{
    "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
constexpr std::array<std::string_view, kLayerVectors> kVectors{"attn_norm.weight",
                                                               "ffn_norm.weight",
                                                               "attn_q_norm.weight",
                                                               "attn_k_norm.weight",
                                                               "post_attention_norm.weight",
                                                               "post_ffw_norm.weight",
                                                               "ssm_conv1d.weight",
                                                               "shortconv.conv.bias",
                                                               "ssm_alpha.weight",
                                                               "ssm_beta.weight",
                                                               "ssm_a",
                                                               "ssm_dt.bias",
                                                               "ssm_norm.weight",
                                                               "ffn_gate_inp.weight"};
constexpr std::array<std::string_view, kSites> kExpertModules{
    "", "", "", "", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};

}  // namespace

std::string_view GgufFinalNorm(const ModelConfig& config) noexcept {
  return config.Mixes(Mixer::kShortConv) ? "token_embd_norm.weight" : "output_norm.weight";
}

std::string GgufLayerTensor(Index layer, std::string_view name) {
  return "blk." + std::to_string(layer) + "." + std::string(name);
}

std::string GgufModule(const ModelConfig& config, Index layer, Site site) {
  const Mixer mixer = config.Shape(layer).mixer;
  std::string_view name = kModules[static_cast<std::size_t>(site)];
  if (config.IsOfExperts(layer, site)) name = kExpertModules[static_cast<std::size_t>(site)];
  if (mixer == Mixer::kShortConv && site == Site::kQ) name = "shortconv.in_proj";
  if (mixer == Mixer::kShortConv && site == Site::kO) name = "shortconv.out_proj";
  if (mixer == Mixer::kGatedDelta && site == Site::kQ) name = "attn_qkv";
  if (mixer == Mixer::kGatedDelta && site == Site::kK) name = "attn_gate";
  if (mixer == Mixer::kGatedDelta && site == Site::kO) name = "ssm_out";
  if (mixer == Mixer::kAttention && site == Site::kQ && config.fused_qkv) name = "attn_qkv";
  if (site == Site::kGate && config.fused_gate_up) name = "ffn_up";
  return GgufLayerTensor(layer, name);
}

std::string GgufVector(const ModelConfig& config, Index layer, LayerVector which) {
  const Mixer mixer = config.Shape(layer).mixer;
  std::string_view name = kVectors[static_cast<std::size_t>(which)];
  if (which == LayerVector::kMlpNorm && config.Mixes(Mixer::kGatedDelta)) {
    name = "post_attention_norm.weight";
  }
  if (which == LayerVector::kConv && mixer == Mixer::kShortConv) name = "shortconv.conv.weight";
  return GgufLayerTensor(layer, name);
}

namespace {

/// Value heads of `dim` rows behind `before` others, those of one key head no longer side by side.
std::vector<Index> Tiled(const DeltaShape& delta, Index before, Index dim) {
  if (delta.key_heads == delta.value_heads) return {};
  std::vector<Index> order;
  for (Index i = 0; i < before; ++i) order.push_back(i);
  const Index shared = delta.value_heads / delta.key_heads;
  for (Index part = 0; part < shared; ++part) {
    for (Index key = 0; key < delta.key_heads; ++key) {
      for (Index i = 0; i < dim; ++i) order.push_back(before + (key * shared + part) * dim + i);
    }
  }
  return order;
}

}  // namespace

std::vector<Index> GgufRowOrder(const ModelConfig& config, Index layer, Site site) {
  if (config.Shape(layer).mixer == Mixer::kGatedDelta) {
    if (site == Site::kQ)
      return Tiled(config.delta, 2 * config.delta.keys(), config.delta.value_dim);
    return site == Site::kK ? Tiled(config.delta, 0, config.delta.value_dim) : std::vector<Index>{};
  }
  const Architecture* row = FindArchitecture(config.architecture);
  if (row == nullptr || !row->gguf_interleaves || (site != Site::kQ && site != Site::kK)) return {};
  const Index half = config.head_dim / 2;
  std::vector<Index> order;
  for (Index head = 0; head < config.Out(layer, site) / config.head_dim; ++head) {
    for (Index j = 0; j < half; ++j) {
      for (const Index part : {Index{0}, half}) order.push_back(head * config.head_dim + part + j);
    }
  }
  return order;
}

std::vector<Index> GgufColumnOrder(const ModelConfig& config, Index layer, Site site) {
  if (config.Shape(layer).mixer != Mixer::kGatedDelta || site != Site::kO) return {};
  return Tiled(config.delta, 0, config.delta.value_dim);
}

std::vector<Index> GgufVectorOrder(const ModelConfig& config, LayerVector which) {
  const DeltaShape& delta = config.delta;
  switch (which) {
    case LayerVector::kConv:
      return delta.value_heads == 0 ? std::vector<Index>{}
                                    : Tiled(delta, 2 * delta.keys(), delta.value_dim);
    case LayerVector::kDeltaA:
    case LayerVector::kDeltaB:
    case LayerVector::kDeltaDecay:
    case LayerVector::kDeltaShift:
      return Tiled(delta, 0, 1);
    default:
      return {};
  }
}

const Architecture* FindGgufName(std::string_view name) noexcept {
  for (const Architecture& row : Architectures()) {
    if (!row.gguf_name.empty() && row.gguf_name == name) return &row;
  }
  return nullptr;
}

std::vector<float> RopeFactors(const Rope& rope, Index head_dim) {
  LIEQ_ASSERT(rope.scaling == RopeScaling::kLlama3);
  std::vector<float> factors;
  for (Index i = 0; i < head_dim / 2; ++i) {
    const double frequency =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    double factor = 1;
    if (wavelength > rope.original_context / rope.low_freq_factor) {
      factor = rope.factor;
    } else if (wavelength >= rope.original_context / rope.high_freq_factor) {
      const double kept = (rope.original_context / wavelength - rope.low_freq_factor) /
                          (rope.high_freq_factor - rope.low_freq_factor);
      factor = 1 / ((1 - kept) / rope.factor + kept);
    }
    factors.push_back(static_cast<float>(factor));
  }
  return factors;
}

bool FindRopeScaling(const std::vector<float>& factors, Index head_dim, Rope& rope) {
  Rope trial = rope;
  trial.scaling = RopeScaling::kLlama3;
  trial.factor = static_cast<double>(std::ranges::max(factors));
  // Of the three numbers the two quotients count, so that one of them may be any.
  trial.low_freq_factor = 1;
  for (const double high : {4.0, 2.0, 8.0, 3.0, 16.0, 32.0}) {
    for (double context = 64; context <= 1 << 24; context *= 2) {
      trial.high_freq_factor = high;
      trial.original_context = context;
      const std::vector<float> found = RopeFactors(trial, head_dim);
      const bool same = std::ranges::equal(found, factors, [](float a, float b) {
        return std::fabs(a - b) <= 1e-6f * std::fabs(b);  // numpy's float arithmetic differs a bit
      });
      if (!same) continue;
      rope = trial;
      return true;
    }
  }
  return false;
}

}  // namespace lieq
