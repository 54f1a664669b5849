// A weight matrix in whatever form it is held; what the device multiplies.
#pragma once

#include <memory>
#include <variant>

#include "lieq/tensor/dtype.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Views point into memory that the owner of the weights keeps alive. A QMatrix is shared, since
/// the quantizer, the container and the forward pass all hold it.
using AnyMatrix = std::variant<View<const Bf16, 2>, View<const F16, 2>, View<const float, 2>,
                               std::shared_ptr<const QMatrix>>;

[[nodiscard]] Index Rows(const AnyMatrix& matrix) noexcept;
[[nodiscard]] Index Cols(const AnyMatrix& matrix) noexcept;

/// out [n, cols] = rows begin .. begin + n - 1 as float; exact for every form.
void WidenRows(const AnyMatrix& matrix, Index begin, View<float, 2> out);

/// The bytes the matrix occupies in a mapped file; empty for a QMatrix.
[[nodiscard]] std::span<const std::byte> MappedBytes(const AnyMatrix& matrix) noexcept;

}  // namespace lieq
