// Names, row order and rope factors of GGUF files: what writing and reading share.
//
// Sources: gguf-py/gguf/constants.py, tensor_mapping.py and conversion/*.py of llama.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/model/config.h"

namespace lieq {

inline constexpr std::string_view kGgufEmbedding = "token_embd.weight";
inline constexpr std::string_view kGgufHead = "output.weight";
inline constexpr std::string_view kGgufFinalNorm = "output_norm.weight";
inline constexpr std::string_view kGgufRopeFactors = "rope_freqs.weight";
// Inside a layer:
inline constexpr std::string_view kGgufAttentionNorm = "attn_norm.weight";
inline constexpr std::string_view kGgufMlpNorm = "ffn_norm.weight";
inline constexpr std::string_view kGgufQNorm = "attn_q_norm.weight";
inline constexpr std::string_view kGgufKNorm = "attn_k_norm.weight";

inline constexpr std::string_view kGgufRecord = "lieq.record";  // lieq.json, as one string

/// "blk.3.ffn_norm.weight"
[[nodiscard]] std::string GgufLayerTensor(Index layer, std::string_view name);
/// "blk.3.attn_q", without ".weight".
[[nodiscard]] std::string GgufModule(Index layer, Site site);

/// Where row r of a linear in the file lies in ours; empty where the order is the same. llama's
/// queries and keys have the two halves of a head interleaved, since its rotation takes neighbours.
[[nodiscard]] std::vector<Index> GgufRowOrder(const ModelConfig& config, Site site);

/// What each of head_dim / 2 frequencies is divided by, in float, as the converter computes it.
/// rope.scaling is kLlama3.
[[nodiscard]] std::vector<float> RopeFactors(const Rope& rope, Index head_dim);

/// The llama3 scaling that has these very factors, by trial of what models use; theta is given.
/// False where there is none.
[[nodiscard]] bool FindRopeScaling(const std::vector<float>& factors, Index head_dim, Rope& rope);

}  // namespace lieq
