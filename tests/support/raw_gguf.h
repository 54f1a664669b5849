// Bytes of GGUF files, well-formed or not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

/// A file as its fields say, however wrong they are; nothing is derived from anything but counts.
struct RawGguf {
  struct Key {
    std::string name;
    std::uint32_t type = 4;  // u32
    std::string value = std::string(4, '\0');
  };
  struct Tensor {
    std::string name = "t";
    std::vector<std::uint64_t> extents{4};  // fastest first, as in the file
    std::uint32_t type = 0;                 // F32
    std::uint64_t offset = 0;
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<Key> keys;
  std::vector<Tensor> tensors;
  std::uint64_t more_keys = 0, more_tensors = 0;  // than there are, by the counts
  std::string data;                               // of the tensors, or
  std::size_t data_bytes = 0;                     // so many that count up
  std::size_t alignment = 32;

  template <class T>
  static std::string Number(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
  }
  static std::string String(std::string_view text) {
    return Number(std::uint64_t{text.size()}) + std::string(text);
  }
  /// The value of an array of that type, from the bytes of its items.
  static std::string Array(std::uint32_t type, std::uint64_t count, std::string_view items) {
    return Number(type) + Number(count) + std::string(items);
  }

  [[nodiscard]] std::string Render() const {
    std::string file = magic + Number(version) +
                       Number(std::uint64_t{tensors.size()} + more_tensors) +
                       Number(std::uint64_t{keys.size()} + more_keys);
    for (const Key& key : keys) file += String(key.name) + Number(key.type) + key.value;
    for (const Tensor& tensor : tensors) {
      file += String(tensor.name) + Number(static_cast<std::uint32_t>(tensor.extents.size()));
      for (const std::uint64_t extent : tensor.extents) file += Number(extent);
      file += Number(tensor.type) + Number(tensor.offset);
    }
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    file += data;
    for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
    return file;
  }
};

}  // namespace lieq
