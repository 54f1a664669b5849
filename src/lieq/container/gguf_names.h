// Names, row order and rope factors of GGUF files: what writing and reading share.
//
// Sources: gguf-py/gguf/constants.py, tensor_mapping.py and conversion/*.py of llama.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/model/architectures.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_vectors.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {

inline constexpr std::string_view kGgufEmbedding = "token_embd.weight";
inline constexpr std::string_view kGgufHead = "output.weight";
inline constexpr std::string_view kGgufRopeFactors = "rope_freqs.weight";
inline constexpr std::string_view kGgufLongFactors = "rope_factors_long.weight";
inline constexpr std::string_view kGgufShortFactors = "rope_factors_short.weight";

inline constexpr std::string_view kGgufRecord = "lieq.record";  // lieq.json, as one string
/// The class, where several are one architecture of llama.cpp.
inline constexpr std::string_view kGgufClass = "lieq.architecture";

/// "output_norm.weight"
[[nodiscard]] std::string_view GgufFinalNorm(const ModelConfig& config) noexcept;
/// "blk.3.ffn_norm.weight"
[[nodiscard]] std::string GgufLayerTensor(Index layer, std::string_view name);
/// "blk.3.attn_q", without ".weight".
[[nodiscard]] std::string GgufModule(const ModelConfig& config, Index layer, Site site);
/// "blk.3.attn_norm.weight"
[[nodiscard]] std::string GgufVector(const ModelConfig& config, Index layer, LayerVector which);

/// Where row r of a linear in the file lies in ours; empty where the order is the same. llama's
/// queries and keys have the two halves of a head interleaved, since its rotation takes neighbours.
[[nodiscard]] std::vector<Index> GgufRowOrder(const ModelConfig& config, Index layer, Site site);
/// The same of columns, of value heads of the gated delta rule: those that share a key head lie
/// apart in the file, so that key heads come round again and again.
[[nodiscard]] std::vector<Index> GgufColumnOrder(const ModelConfig& config, Index layer, Site site);
/// And of a layer's vectors, and rows of its small matrices.
[[nodiscard]] std::vector<Index> GgufVectorOrder(const ModelConfig& config, LayerVector which);

/// The first row of the table that has the name; null where none has.
[[nodiscard]] const Architecture* FindGgufName(std::string_view name) noexcept;

/// The matrix with columns in another order: column c is that of order[c]. Groups of codes move
/// whole; throws Error, naming `place`, where they would not. owners: keep what it views alive.
[[nodiscard]] AnyMatrix MovedColumns(const AnyMatrix& matrix, const std::vector<Index>& order,
                                     const std::string& place,
                                     std::vector<std::shared_ptr<const void>>& owners);
/// The order that undoes another.
[[nodiscard]] std::vector<Index> Undone(const std::vector<Index>& order);

/// What each of head_dim / 2 frequencies is divided by, in float, as the converter computes it.
/// rope.scaling is kLlama3.
[[nodiscard]] std::vector<float> RopeFactors(const Rope& rope, Index head_dim);

/// The llama3 scaling that has these very factors, by trial of what models use; theta is given.
/// False where there is none.
[[nodiscard]] bool FindRopeScaling(const std::vector<float>& factors, Index head_dim, Rope& rope);

}  // namespace lieq
