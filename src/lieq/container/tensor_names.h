// Names of tensors in Hugging Face's layout, beside those of linears (ModuleName).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/model/layer_vectors.h"

namespace lieq {

inline constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
inline constexpr std::string_view kHead = "lm_head.weight";
/// "model.norm.weight"
[[nodiscard]] std::string FinalNorm(const ModelConfig& config);
/// "model.layers.3.input_layernorm.weight"
[[nodiscard]] std::string LayerTensor(const ModelConfig& config, Index layer, LayerVector which);
/// Extents of it in a file; of the convolution there is one of 1 between.
[[nodiscard]] std::vector<std::int64_t> LayerTensorShape(const ModelConfig& config, Index layer,
                                                         LayerVector which);

}  // namespace lieq
