// MLX's affine quantization: w = scale * code + bias, codes of a row as one stream. See
// docs/formats.md.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "lieq/io/tensor_file.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// The bias of every group of a matrix: minus scale times zero, or the minimum. [rows, groups]
[[nodiscard]] Matrix<float> MlxBiases(const QMatrix& matrix);

/// `preferred`, F16 or BF16, where it holds every scale and bias of the matrix, else the other one
/// where that does; nothing where neither does.
[[nodiscard]] std::optional<DType> MlxScaleType(const QMatrix& matrix, DType preferred);

/// weight U32 [rows, words], scales and biases [rows, groups] of `scale_type`. The codes of a row
/// fill whole words.
[[nodiscard]] std::vector<TensorSpec> MlxSpecs(std::string_view module, const QMatrix& matrix,
                                               DType scale_type);
/// The same of a matrix [rows, cols] that is not there yet.
[[nodiscard]] std::vector<TensorSpec> MlxSpecs(std::string_view module, Index rows, Index cols,
                                               const Grid& grid, DType scale_type);
/// Writes those tensors, exactly. Throws Error naming the scale or bias that `scale_type` does not
/// hold.
void WriteMlx(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
              DType scale_type);

/// Reads them back; scales and biases may be F32 too. The offsets are symmetric, half or integer
/// where every bias is, exactly, minus its 16-bit scale times such a zero, else float. grid: width
/// and group size. Throws Error naming the tensor: wrong type, shape or group size, a scale or bias
/// that is not finite.
[[nodiscard]] QMatrix ReadMlx(const TensorFile& file, std::string_view module, Index rows,
                              Index cols, const Grid& grid);

}  // namespace lieq
