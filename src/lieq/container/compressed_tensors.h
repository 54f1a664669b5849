// compressed-tensors, format "pack-quantized": how a QMatrix lies in a Hugging Face folder that
// vLLM and transformers load. Bit layout and version notes: docs/formats.md.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/config.h"
#include "lieq/model/grids.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// The tensors of one module in the order of the file: weight_shape I64 [2], weight_packed I32
/// [rows, words], weight_zero_point I32 [ceil(rows * bits / 32), groups] of integer offsets,
/// weight_scale [rows, groups] of `scale_type` (F16 or BF16), and of float offsets weight_minimum,
/// alike. Of K-quant grids, in place of scales and minima: weight_scale_factor and where there are
/// minima weight_minimum_factor, I32 [rows, words], weight_super_scale and weight_super_minimum,
/// F16 [rows, super-blocks]. Wide items first, so that each tensor of a module that begins at a
/// multiple of 8 bytes lies aligned.
[[nodiscard]] std::vector<TensorSpec> PackedSpecs(std::string_view module, Index rows, Index cols,
                                                  const Grid& grid, DType scale_type);

/// Scales are stored in the model's own 16-bit type; for a float32 model in bf16. Their values are
/// the same in both (RoundScale).
[[nodiscard]] DType ScaleType(DType model) noexcept;

/// Writes those tensors, exactly. Throws Error naming the scale or minimum that `scale_type` does
/// not hold (see RoundScale), or where the disk refuses.
void WritePacked(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
                 DType scale_type);

/// Reads them back; scales and minima may be F16, BF16 or F32. Also the format "int-quantized":
/// codes of 8 bits, symmetric, as weight I8 [rows, cols] of code - 128, without words and shape.
/// Throws Error naming the tensor: missing, wrong dtype, shape or group size, a scale or minimum
/// that is not finite, set bits in the tail of a stream.
[[nodiscard]] QMatrix ReadPacked(const TensorFile& file, std::string_view module, const Grid& grid);

/// Whether module's codes lie in bytes, as "int-quantized" has them.
[[nodiscard]] bool HasByteCodes(const TensorFile& file, std::string_view module);

/// Whether engines would misread the grid: offsets that compressed-tensors does not know, K-quants.
[[nodiscard]] bool NeedsOwnMethod(const Grid& grid) noexcept;

/// "model.embed_tokens" and "lm_head"
inline constexpr std::string_view kEmbeddingModule = "model.embed_tokens";
inline constexpr std::string_view kHeadModule = "lm_head";

/// Whether an embedding on this grid is written as "int-quantized": at 8 bits. transformers asks an
/// embedding for a tensor of the name weight, which packed codes do not have (docs/interop.md).
[[nodiscard]] bool IsByteEmbedding(const Grid& grid) noexcept;

/// The tensors of a quantized embedding or head, as PackedSpecs; of an embedding that
/// IsByteEmbedding weight I8 and weight_scale, and where the head is tied to it the scales once
/// more, as lm_head.weight_scale: a loader that ties the codes looks for them there.
[[nodiscard]] std::vector<TensorSpec> EndSpecs(std::string_view module, const ModelConfig& config,
                                               const Grid& grid, DType scale_type);

/// Writes those tensors, as WritePacked.
void WriteEnd(TensorWriter& writer, std::string_view module, const ModelConfig& config,
              const QMatrix& matrix, DType scale_type);

/// The "quantization_config" object for config.json: one config group for each different grid,
/// widest first, with disjoint anchored regular expressions as targets (vLLM and the library sort
/// and match them). Each group names its format where an embedding IsByteEmbedding; `tied` says
/// whether its codes are the head's too. Its method is "compressed-tensors", or "lieq" where some
/// grid needs it (NeedsOwnMethod): no engine loads those, and none shall misread them.
[[nodiscard]] Record QuantizationConfig(const ModelGrids& grids, bool tied = false);
/// The same of a model whose modules may be named otherwise than Llama's.
[[nodiscard]] Record QuantizationConfig(const ModelGrids& grids, const ModelConfig& config);

/// The grid of each linear by the config groups of a "quantization_config" object.
///
/// Targets are matched as compressed-tensors does it: exact names before regular expressions
/// ("re:", anchored at the start) before the class name "Linear". Throws Error: another method or
/// format, activations or the KV cache quantized, columns reordered, a width of 1, 7 or more than
/// 8, a group size that does not divide a row; a linear that is ignored, that matches no target, or
/// whose best targets want different grids; linears of a unit (q, k, v; gate, up) with different
/// grids.
[[nodiscard]] LayerGrids ParseQuantizationConfig(const Json& quantization_config,
                                                 const ModelConfig& config,
                                                 const std::string& where);

/// The same of the embedding and the head: of those that a target names (for the head also as a
/// "Linear") and "ignore" does not. Throws Error as above, for a head that is tied, and for a grid
/// that EndGrids cannot be.
[[nodiscard]] EndGrids ParseEndGrids(const Json& quantization_config, const ModelConfig& config,
                                     const std::string& where);

}  // namespace lieq
