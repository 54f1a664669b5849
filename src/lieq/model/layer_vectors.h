// What a layer holds beside its linears, in floats always: norms, short convolutions, decays.
//
// There is one table. Readers, writers, comparisons and devices walk it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "lieq/model/config.h"

namespace lieq {

enum class LayerVector : std::uint8_t {
  kAttentionNorm,      // [hidden], before the mixer
  kMlpNorm,            // [hidden], before the MLP
  kQNorm,              // [head_dim], or of all heads
  kKNorm,              // the same
  kAttentionPostNorm,  // [hidden], of what the mixer adds
  kMlpPostNorm,        // [hidden], of what the MLP adds
  kConv,               // [channels, conv_kernel]
  kConvBias,           // [channels]
  kDeltaA,             // [value_heads, hidden]: what decays depend on
  kDeltaB,             // [value_heads, hidden]: what the strengths of writing depend on
  kDeltaDecay,         // [value_heads]: rates
  kDeltaShift,         // [value_heads]: added to what decays depend on
  kDeltaNorm,          // [value_dim]
  kRouter,             // [experts, hidden]: how likely a token goes to each
};
inline constexpr int kLayerVectors = 14;

struct LayerVectors {
  std::vector<float> attention_norm, mlp_norm;
  std::vector<float> q_norm, k_norm;
  std::vector<float> attention_post_norm, mlp_post_norm;
  std::vector<float> conv, conv_bias;
  std::vector<float> delta_a, delta_b, delta_decay, delta_shift, delta_norm;
  std::vector<float> router;
};

/// How folders of Hugging Face's layout hold values.
enum class HeldAs : std::uint8_t {
  kAsIs,
  kLessOffset,  // less ModelConfig::norm_offset
  kLogarithm,
};

struct LayerVectorRow {
  LayerVector which;
  std::vector<float> LayerVectors::* values;
  HeldAs stored = HeldAs::kAsIs;
};
/// One value to what a file holds of it, and back.
[[nodiscard]] float ToStored(float value, HeldAs stored, const ModelConfig& config) noexcept;
[[nodiscard]] float FromStored(float value, HeldAs stored, const ModelConfig& config) noexcept;

/// In the order of LayerVector.
[[nodiscard]] std::span<const LayerVectorRow> LayerVectorRows() noexcept;

/// [rows, cols] of it in a layer of this shape; of a vector one row; 0 rows: the layer has none.
[[nodiscard]] std::array<Index, 2> ShapeOf(const ModelConfig& config, const LayerShape& shape,
                                           LayerVector which) noexcept;
[[nodiscard]] inline bool Has(const ModelConfig& config, const LayerShape& shape,
                              LayerVector which) noexcept {
  return ShapeOf(config, shape, which)[0] > 0;
}

}  // namespace lieq
