#include "lieq/container/tensor_items.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {

std::string TensorName(std::string_view module, std::string_view suffix) {
  return std::string(module) + "." + std::string(suffix);
}

void FailAt(const TensorRef& tensor, std::string what, std::string expected, std::string found,
            std::string hint) {
  throw Error({.what = std::move(what),
               .where = tensor.file.string() + ": tensor '" + Printable(tensor.name) + "'",
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

const TensorRef& Checked(const TensorFile& file, std::string_view module, std::string_view suffix,
                         DType dtype, const std::vector<std::int64_t>& shape) {
  const TensorRef& tensor = file.At(TensorName(module, suffix));
  if (tensor.dtype != dtype || tensor.shape != shape) {
    FailAt(tensor, "wrong type or shape", Describe(dtype, shape),
           Describe(tensor.dtype, tensor.shape));
  }
  return tensor;
}

const TensorRef& CheckedFloats(const TensorFile& file, std::string_view module,
                               std::string_view suffix, const std::vector<std::int64_t>& shape) {
  const TensorRef& named = file.At(TensorName(module, suffix));
  const DType dtype = named.dtype;
  if (dtype != DType::kF16 && dtype != DType::kBF16 && dtype != DType::kF32) {
    FailAt(named, "wrong type", "F16, BF16 or F32", std::string(Name(dtype)));
  }
  return Checked(file, module, suffix, dtype, shape);
}

void ReadFloats(const TensorFile& file, std::string_view module, std::string_view suffix,
                const std::string& what, View<float, 2> to) {
  const TensorRef& tensor = CheckedFloats(file, module, suffix, {to.rows(), to.cols()});
  const std::span<float> values(to.data(), Size(to.size()));
  if (tensor.dtype == DType::kF32) {
    CopyItems(tensor, values);
  } else {
    std::vector<std::uint16_t> items(values.size());
    CopyItems(tensor, std::span(items));
    for (std::size_t i = 0; i < items.size(); ++i) {
      values[i] = tensor.dtype == DType::kF16 ? ToFloat(F16{items[i]}) : ToFloat(Bf16{items[i]});
    }
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    FailAt(tensor, what + " is not finite", "a finite number",
           std::to_string(values[i]) + " in row " + std::to_string(i / Size(to.cols())) +
               ", column " + std::to_string(i % Size(to.cols())));
  }
  // They are read once, and the memory of both would be held until the file is closed.
  for (const auto& map : file.maps()) map->Drop(tensor.bytes);
}

}  // namespace lieq
