// GPTQ checkpoints as AutoGPTQ and GPTQModel write them: codes of a column as one stream, groups in
// the order of the columns. Bit layout and versions: docs/formats.md.
#pragma once

#include <string_view>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// What lies in the file for zero-point z: z - 1 in version 1, z in version 2.
enum class GptqVersion : std::uint8_t { kV1 = 1, kV2 = 2 };

/// qweight I32 [cols * bits / 32, rows], qzeros I32 [groups, rows * bits / 32], g_idx I32 [cols],
/// scales F16 [groups, rows]. The grid is symmetric or has integer offsets, and rows and columns
/// fill whole words (CheckGptqShape).
[[nodiscard]] std::vector<TensorSpec> GptqSpecs(std::string_view module, const QMatrix& matrix);
/// The same of a matrix [rows, cols] that is not there yet.
[[nodiscard]] std::vector<TensorSpec> GptqSpecs(std::string_view module, Index rows, Index cols,
                                                const Grid& grid);

/// Throws Error naming the module where a row or a column of codes ends inside a word.
void CheckGptqShape(std::string_view module, Index rows, Index cols, int bits);

/// Writes those tensors, exactly. Throws Error naming the scale that F16 does not hold, or the
/// zero-point 0 that version 1 does not have.
void WriteGptq(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
               GptqVersion version);

/// Reads them back; g_idx may be missing, scales may be F16, BF16 or F32. Throws Error naming the
/// tensor: wrong type, shape or group size; columns in another order than that of the groups; a
/// zero-point other than the middle on a symmetric grid, or 0 in version 1; scales not finite.
[[nodiscard]] QMatrix ReadGptq(const TensorFile& file, std::string_view module, Index rows,
                               Index cols, const Grid& grid, GptqVersion version);

/// The "quantization_config" object for config.json: the narrowest width that there is as the
/// base, and rules for the other layers and units, whose patterns match names of linears and of the
/// fused modules of engines alike. Grids of a unit agree. writer: "lieq:0.1.0".
[[nodiscard]] Record GptqConfig(const LayerGrids& grids, GptqVersion version,
                                std::string_view writer);

}  // namespace lieq
