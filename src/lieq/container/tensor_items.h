// The items of a packed module's tensors, checked against what the container says of them.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/io/tensor_file.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// "model.layers.3.mlp.down_proj" and "qweight" -> "model.layers.3.mlp.down_proj.qweight"
[[nodiscard]] std::string TensorName(std::string_view module, std::string_view suffix);

/// Throws Error that names the tensor.
[[noreturn]] void FailAt(const TensorRef& tensor, std::string what, std::string expected,
                         std::string found, std::string hint = {});

/// The tensor, once its type and shape are what they must be. Throws Error.
[[nodiscard]] const TensorRef& Checked(const TensorFile& file, std::string_view module,
                                       std::string_view suffix, DType dtype,
                                       const std::vector<std::int64_t>& shape);
/// The same of a tensor of floats: F16, BF16 or F32.
[[nodiscard]] const TensorRef& CheckedFloats(const TensorFile& file, std::string_view module,
                                             std::string_view suffix,
                                             const std::vector<std::int64_t>& shape);

/// Items of a tensor as T, copied: its bytes may lie at any address.
template <class T>
void CopyItems(const TensorRef& tensor, std::span<T> to) {
  LIEQ_ASSERT(tensor.bytes.size() == to.size_bytes());
  std::memcpy(to.data(), tensor.bytes.data(), to.size_bytes());
}

/// Floats of a tensor [rows, cols] of F16 or BF16, as ReadFloats reads them, where they lie. Empty
/// for F32, and where they cannot be read there.
[[nodiscard]] StoredNumbers FindFloats(const TensorFile& file, std::string_view module,
                                       std::string_view suffix, const std::string& what, Index rows,
                                       Index cols);

/// A tensor of floats of the shape of `to`, whose rows lie one after another. what: "scale",
/// "minimum", ... for messages. Throws Error, also for a value that is not finite.
void ReadFloats(const TensorFile& file, std::string_view module, std::string_view suffix,
                const std::string& what, View<float, 2> to);

}  // namespace lieq
