#include "lieq/container/tensor_items.h"

#include <algorithm>
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

namespace {

void RequireFinite(const TensorRef& tensor, const std::string& what, std::span<const float> values,
                   Index cols) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    FailAt(tensor, what + " is not finite", "a finite number",
           std::to_string(values[i]) + " in row " + std::to_string(i / Size(cols)) + ", column " +
               std::to_string(i % Size(cols)));
  }
}

/// The file that the tensor lies in, where items of 16 bits can be read there.
std::shared_ptr<const FileMap> MapOf(const TensorFile& file, const TensorRef& tensor) {
  const std::byte* begin = tensor.bytes.data();
  if (reinterpret_cast<std::uintptr_t>(begin) % alignof(std::uint16_t) != 0) return nullptr;
  for (const auto& map : file.maps()) {
    const std::byte* first = map->bytes().data();
    if (begin >= first && begin < first + map->bytes().size()) return map;
  }
  return nullptr;
}

}  // namespace

StoredNumbers FindFloats(const TensorFile& file, std::string_view module, std::string_view suffix,
                         const std::string& what, Index rows, Index cols) {
  const TensorRef& tensor = CheckedFloats(file, module, suffix, {rows, cols});
  if (tensor.dtype == DType::kF32) return {};
  std::shared_ptr<const FileMap> map = MapOf(file, tensor);
  if (!map) return {};
  const std::span items(reinterpret_cast<const std::uint16_t*>(tensor.bytes.data()),
                        Size(rows * cols));
  const std::uint16_t exponent = tensor.dtype == DType::kF16 ? 0x7C00 : 0x7F80;
  std::uint16_t others = 0;  // without a way out, so that items are looked at side by side
  for (const std::uint16_t item : items) others |= (item & exponent) == exponent ? 1 : 0;
  if (others != 0) {
    std::vector<float> values(items.size());
    std::ranges::transform(items, values.begin(), [&](std::uint16_t item) {
      return tensor.dtype == DType::kF16 ? ToFloat(F16{item}) : ToFloat(Bf16{item});
    });
    RequireFinite(tensor, what, values, cols);
  }
  return {tensor.dtype, items, std::move(map)};
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
  RequireFinite(tensor, what, values, to.cols());
  // They are read once, and the memory of both would be held until the file is closed.
  for (const auto& map : file.maps()) map->Drop(tensor.bytes);
}

}  // namespace lieq
