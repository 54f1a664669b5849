// One changed bit in the tensors of a file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ios>
#include <stdexcept>
#include <string>

#include "lieq/io/tensor_file.h"

namespace lieq {

/// Changes a bit of a file; changing it again undoes it.
inline void FlipBitAt(const std::filesystem::path& path, std::size_t bit) {
  std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto at = static_cast<std::streamoff>(bit / 8);
  stream.seekg(at);
  const int byte = stream.get() ^ (1 << (bit % 8));
  stream.seekp(at);
  stream.put(static_cast<char>(byte));
  if (!stream.flush()) throw std::runtime_error("cannot change " + path.string());
}

/// Where the bytes of a tensor begin in its file.
[[nodiscard]] inline std::size_t OffsetOf(const TensorFile& file, const TensorRef& tensor) {
  for (const auto& map : file.maps()) {
    const auto bytes = map->bytes();
    if (tensor.bytes.data() >= bytes.data() && tensor.bytes.data() < bytes.data() + bytes.size()) {
      return static_cast<std::size_t>(tensor.bytes.data() - bytes.data());
    }
  }
  throw std::runtime_error(tensor.name + " lies in no file");
}

/// Changes bit `bit` of the tensor's bytes in its file.
inline void FlipBit(const std::filesystem::path& folder, const std::string& tensor,
                    std::size_t bit) {
  std::filesystem::path path;
  std::size_t offset = 0;
  {
    const TensorFile file = TensorFile::OpenFolder(folder);
    path = file.At(tensor).file;
    offset = OffsetOf(file, file.At(tensor));
  }
  FlipBitAt(path, 8 * offset + bit);
}

}  // namespace lieq
