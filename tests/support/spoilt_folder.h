// One changed bit in the tensors of a file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ios>
#include <stdexcept>

#include "lieq/io/tensor_file.h"

namespace lieq {

/// Changes bit `bit` of the tensor's bytes in its file; changing it again undoes it.
inline void FlipBit(const std::filesystem::path& folder, const std::string& tensor,
                    std::size_t bit) {
  std::filesystem::path path;
  std::size_t offset = 0;
  {
    const TensorFile file = TensorFile::OpenFolder(folder);
    const TensorRef& ref = file.At(tensor);
    path = ref.file;
    for (const auto& map : file.maps()) {
      const auto bytes = map->bytes();
      if (ref.bytes.data() >= bytes.data() && ref.bytes.data() < bytes.data() + bytes.size()) {
        offset = static_cast<std::size_t>(ref.bytes.data() - bytes.data());
      }
    }
  }
  std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto at = static_cast<std::streamoff>(offset + bit / 8);
  stream.seekg(at);
  const int byte = stream.get() ^ (1 << (bit % 8));
  stream.seekp(at);
  stream.put(static_cast<char>(byte));
  if (!stream.flush()) throw std::runtime_error("cannot change " + path.string());
}

}  // namespace lieq
