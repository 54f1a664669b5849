// compressed-tensors, format "pack-quantized": how a QMatrix lies in a Hugging Face folder that
// vLLM and transformers load. Bit layout and version notes: docs/formats.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/config.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// The tensors of one module in file order: weight_packed I32 [rows, words], weight_scale
/// [rows, groups] of `scale_type` (F16 or BF16), weight_zero_point I32 where asymmetric,
/// weight_shape I64 [2].
[[nodiscard]] std::vector<TensorSpec> PackedSpecs(std::string_view module, Index rows, Index cols,
                                                  const Grid& grid, DType scale_type);

/// Writes those tensors; exact (scales must be representable in `scale_type`, see RoundScale).
void WritePacked(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
                 DType scale_type);

/// Reads them back. Throws Error naming the tensor: wrong dtype, shape, a scale that is not finite,
/// set bits in the tail of a row, a zero-point out of range.
[[nodiscard]] QMatrix ReadPacked(const TensorFile& file, std::string_view module, const Grid& grid);

/// grids[layer][site]
using LayerGrids = std::vector<std::array<Grid, kSites>>;

/// The "quantization_config" object for config.json: one config group for each different grid, with
/// disjoint anchored regular expressions as targets (vLLM and the library sort and match them).
[[nodiscard]] Record QuantizationConfig(const LayerGrids& grids);

/// The grid of each linear by the config groups of a "quantization_config" object. Throws Error:
/// another method or format, activations quantized, a width other than 2, 3, 4, 8, a linear that
/// matches no group or more than one, linears of a unit in different groups.
[[nodiscard]] LayerGrids ParseQuantizationConfig(const Json& quantization_config,
                                                 const ModelConfig& config,
                                                 const std::string& where);

}  // namespace lieq
