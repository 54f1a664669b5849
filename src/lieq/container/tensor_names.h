// Names of tensors in Hugging Face's layout, beside those of linears (ModuleName).
#pragma once

#include <string>
#include <string_view>

#include "lieq/base/types.h"

namespace lieq {

inline constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
inline constexpr std::string_view kHead = "lm_head.weight";
inline constexpr std::string_view kFinalNorm = "model.norm.weight";
// Inside a layer:
inline constexpr std::string_view kAttentionNorm = "input_layernorm.weight";
inline constexpr std::string_view kMlpNorm = "post_attention_layernorm.weight";
inline constexpr std::string_view kQNorm = "self_attn.q_norm.weight";
inline constexpr std::string_view kKNorm = "self_attn.k_norm.weight";

/// "model.layers.3.input_layernorm.weight"
[[nodiscard]] inline std::string LayerTensor(Index layer, std::string_view name) {
  return "model.layers." + std::to_string(layer) + "." + std::string(name);
}

}  // namespace lieq
