// Floats as the 16-bit items of a file: exactly or not at all, or rounded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/tensor_file.h"
#include "lieq/tensor/dtype.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Whether values of that type, F16 or BF16, hold every one of these, all finite.
[[nodiscard]] bool HoldsAll(DType type, View<const float, 2> values) noexcept;
/// The same as items of a file. what: "scale" for messages. Throws Error naming the module, row and
/// value that is not held.
[[nodiscard]] std::vector<std::uint16_t> Narrow(std::string_view module, const std::string& what,
                                                View<const float, 2> values, DType type);

/// The nearest value that the type, F32, F16 or BF16, holds.
[[nodiscard]] float Rounded(float value, DType type) noexcept;

/// Appends to a tensor of that type, F32, F16 or BF16, values rounded to nearest.
void WriteRounded(TensorWriter& writer, std::string_view name, std::span<const float> values,
                  DType type);

}  // namespace lieq
