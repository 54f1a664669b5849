// The header of a safetensors file, checked against the bytes that follow it.
//
// Apart from TensorFile so that tests and fuzzers can hand it bytes without a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lieq/io/tensor_file.h"

namespace lieq {

/// What the reference implementation allows: longer headers are an attack or another format.
inline constexpr std::uint64_t kMostHeaderBytes = 100'000'000;

struct TensorHeader {
  std::vector<TensorRef> tensors;  // in order of their data; views into the bytes given
  std::map<std::string, std::string> metadata;
};

/// Reads `file`, the bytes of a whole file; `path` names it in errors and in the TensorRefs.
///
/// Throws Error for anything that is not exactly: u64 length L <= 100,000,000; L bytes of JSON
/// {name: {"dtype", "shape", "data_offsets"}} with an optional "__metadata__" of strings; data that
/// the tensors cover without overlap, hole or rest. Memory is bounded by a small multiple of L.
[[nodiscard]] TensorHeader ParseTensorHeader(std::span<const std::byte> file,
                                             const std::filesystem::path& path);

}  // namespace lieq
