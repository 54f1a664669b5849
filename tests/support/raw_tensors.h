// Tensors of a file that is written as a stranger might.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/io/tensor_file.h"

namespace lieq {

struct RawTensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};

template <class T>
[[nodiscard]] RawTensor Raw(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                            const std::vector<T>& items) {
  const auto bytes = std::as_bytes(std::span(items));
  return {{name, dtype, std::move(shape)}, {bytes.begin(), bytes.end()}};
}

inline void WriteRaw(const std::filesystem::path& path, const std::vector<RawTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const RawTensor& tensor : tensors) specs.push_back(tensor.spec);
  TensorWriter writer(path, specs, {});
  for (const RawTensor& tensor : tensors) writer.Write(tensor.spec.name, tensor.bytes);
  writer.Commit();
}

[[nodiscard]] inline std::vector<RawTensor> ReadRaw(const std::filesystem::path& path) {
  const TensorFile file = TensorFile::Open(path);
  std::vector<RawTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    tensors.push_back(
        {{name, tensor.dtype, tensor.shape}, {tensor.bytes.begin(), tensor.bytes.end()}});
  }
  return tensors;
}

[[nodiscard]] inline RawTensor& FindRaw(std::vector<RawTensor>& tensors, std::string_view name) {
  return *std::ranges::find_if(tensors,
                               [&](const RawTensor& each) { return each.spec.name == name; });
}

}  // namespace lieq
