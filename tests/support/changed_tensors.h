// Values of a checkpoint changed in place.
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <stdexcept>
#include <string>
#include <vector>

#include "lieq/io/tensor_file.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/spoilt_folder.h"

namespace lieq {

/// Replaces value `at` of each tensor of floats by change(name, at, value), in the tensor's type.
inline void ChangeTensors(
    const std::filesystem::path& folder,
    const std::function<float(const std::string& name, std::size_t at, float value)>& change) {
  struct Part {
    std::filesystem::path path;
    std::size_t offset;
    std::vector<std::byte> bytes;
  };
  std::vector<Part> parts;
  {
    const TensorFile file = TensorFile::OpenFolder(folder);
    for (const auto& [name, tensor] : file.tensors()) {
      Part part{tensor.file, OffsetOf(file, tensor), {tensor.bytes.begin(), tensor.bytes.end()}};
      const std::size_t size = ItemSize(tensor.dtype);
      for (std::size_t i = 0; i < part.bytes.size() / size; ++i) {
        std::byte* at = part.bytes.data() + i * size;
        if (tensor.dtype == DType::kF32) {
          float value = 0;
          std::memcpy(&value, at, size);
          value = change(name, i, value);
          std::memcpy(at, &value, size);
        } else {
          std::uint16_t bits = 0;
          std::memcpy(&bits, at, size);
          const bool half = tensor.dtype == DType::kF16;
          const float value = change(name, i, half ? ToFloat(F16{bits}) : ToFloat(Bf16{bits}));
          bits = half ? ToF16(value).bits : ToBf16(value).bits;
          std::memcpy(at, &bits, size);
        }
      }
      parts.push_back(std::move(part));
    }
  }
  for (const Part& part : parts) {
    std::fstream stream(part.path, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(part.offset));
    stream.write(reinterpret_cast<const char*>(part.bytes.data()),
                 static_cast<std::streamsize>(part.bytes.size()));
    if (!stream.flush()) throw std::runtime_error("cannot change " + part.path.string());
  }
}

/// The same model: gate and up times 2^power, and the norm before them by 2^-power.
inline void ShiftGateAndUp(const std::filesystem::path& folder, int power) {
  ChangeTensors(folder, [&](const std::string& name, std::size_t, float value) {
    const bool matrix =
        name.find("gate_proj") != std::string::npos || name.find("up_proj") != std::string::npos;
    const bool norm = name.find("post_attention_layernorm") != std::string::npos;
    return std::ldexp(value, matrix ? power : norm ? -power : 0);
  });
}

}  // namespace lieq
