#include "lieq/model/layer_vectors.h"

#include <cmath>

namespace lieq {
namespace {

using enum LayerVector;

constexpr std::array<LayerVectorRow, kLayerVectors> kRows{{
    {kAttentionNorm, &LayerVectors::attention_norm, HeldAs::kLessOffset},
    {kMlpNorm, &LayerVectors::mlp_norm, HeldAs::kLessOffset},
    {kQNorm, &LayerVectors::q_norm, HeldAs::kLessOffset},
    {kKNorm, &LayerVectors::k_norm, HeldAs::kLessOffset},
    {kAttentionPostNorm, &LayerVectors::attention_post_norm, HeldAs::kLessOffset},
    {kMlpPostNorm, &LayerVectors::mlp_post_norm, HeldAs::kLessOffset},
    {kConv, &LayerVectors::conv},
    {kConvBias, &LayerVectors::conv_bias},
    {kDeltaA, &LayerVectors::delta_a},
    {kDeltaB, &LayerVectors::delta_b},
    {kDeltaDecay, &LayerVectors::delta_decay, HeldAs::kLogarithm},
    {kDeltaShift, &LayerVectors::delta_shift},
    {kDeltaNorm, &LayerVectors::delta_norm},
    {kRouter, &LayerVectors::router},
}};

}  // namespace

std::span<const LayerVectorRow> LayerVectorRows() noexcept {
  return kRows;
}

float ToStored(float value, HeldAs stored, const ModelConfig& config) noexcept {
  if (stored == HeldAs::kLogarithm) return std::log(value);
  return stored == HeldAs::kLessOffset ? value - static_cast<float>(config.norm_offset) : value;
}

float FromStored(float value, HeldAs stored, const ModelConfig& config) noexcept {
  if (stored == HeldAs::kLogarithm) return std::exp(value);
  return stored == HeldAs::kLessOffset ? value + static_cast<float>(config.norm_offset) : value;
}

std::array<Index, 2> ShapeOf(const ModelConfig& config, const LayerShape& shape,
                             LayerVector which) noexcept {
  const std::array<Index, 2> none{0, 0};
  const bool delta = shape.mixer == Mixer::kGatedDelta, conv = shape.mixer == Mixer::kShortConv;
  const bool normed = config.qk_norm && shape.mixer == Mixer::kAttention;
  const Index channels = delta ? config.delta.channels() : config.hidden;
  switch (which) {
    case kAttentionNorm:
    case kMlpNorm:
      return config.norms != NormPlace::kAfter ? std::array<Index, 2>{1, config.hidden} : none;
    case kAttentionPostNorm:
    case kMlpPostNorm:
      return config.norms != NormPlace::kBefore ? std::array<Index, 2>{1, config.hidden} : none;
    case kQNorm:
      if (!normed) return none;
      return {1, config.whole_qk_norm ? config.heads * config.head_dim : config.head_dim};
    case kKNorm:
      if (!normed) return none;
      return {1, config.whole_qk_norm ? config.kv_heads * config.head_dim : config.head_dim};
    case kConv:
      return delta || conv ? std::array<Index, 2>{channels, config.conv_kernel} : none;
    case kConvBias:
      return conv && config.conv_bias ? std::array<Index, 2>{1, channels} : none;
    case kDeltaA:
    case kDeltaB:
      return delta ? std::array<Index, 2>{config.delta.value_heads, config.hidden} : none;
    case kDeltaDecay:
    case kDeltaShift:
      return delta ? std::array<Index, 2>{1, config.delta.value_heads} : none;
    case kDeltaNorm:
      return delta ? std::array<Index, 2>{1, config.delta.value_dim} : none;
    case kRouter:
      return shape.experts ? std::array<Index, 2>{config.experts.count, config.hidden} : none;
  }
  return none;
}

}  // namespace lieq
