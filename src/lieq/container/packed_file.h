// Packed files: a model whose matrices lie as packed kernels read them, so that nothing is laid out
// when it is opened (docs/kernels.md has the format).
//
// A safetensors file, whose reader trusts nothing. Its metadata has the format's name and version,
// the layout, and a table of the matrices; beside tensors of floats it holds the texts of a model
// folder. It is made by `lieq pack` (pipeline/pack.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "lieq/base/thread_pool.h"
#include "lieq/container/model_folder.h"
#include "lieq/tensor/laid_out_matrix.h"

namespace lieq {

inline constexpr std::string_view kPackedFormat = "lieq-packed";
inline constexpr std::string_view kPackedVersion = "1";

/// What the table says of a matrix; its bytes are the tensor PackedTensor(module).
struct PackedEntry {
  Index rows = 0, cols = 0;
  LaidOutForm form;
};
using PackedTable = std::map<std::string, PackedEntry, std::less<>>;  // by module

[[nodiscard]] std::string PackedTensor(std::string_view module);  // "MODULE.packed"
/// The tensor that holds a text: "file:tokenizer.json".
[[nodiscard]] std::string TextTensor(std::string_view file);
/// The tensor that holds the hash of every other one, by its name, as JSON: XXH3-128.
inline constexpr std::string_view kPackedHashes = "hashes";

/// The metadata of such a file. program: "lieq 0.1.0"; source, source_hash: name and hash of the
/// model that it is made from.
[[nodiscard]] std::map<std::string, std::string> PackedMetadata(const PackedTable& table,
                                                                const std::string& program,
                                                                const std::string& source,
                                                                const std::string& source_hash);

/// Whether a file is one, of any version: by its first bytes.
[[nodiscard]] bool IsPackedFile(const std::filesystem::path& path);

/// Throws Error where it is one: OpenModel gives matrices that anything can be done with.
void RefusePackedFile(const std::filesystem::path& path);

/// The model of such a file, whose matrices are LaidOutMatrix, on the processor and by packed
/// kernels alone; floats are views into it. Their numbers are checked when they are prepared, bytes
/// against hashes by CheckHashes. Throws Error: no such file, another version or layout, what
/// TensorFile::Open refuses, and tensors and texts that are missing, left over or wrong.
[[nodiscard]] ModelFolder OpenPackedFile(const std::filesystem::path& path);

/// Reads the whole file. Throws Error naming the first tensor whose bytes are not those that were
/// written.
void CheckHashes(const std::filesystem::path& path, ThreadPool& pool);

/// Name and hash of the model that it was made from.
struct PackedSource {
  std::string name, hash;
};
[[nodiscard]] PackedSource SourceOfPacked(const std::filesystem::path& path);

}  // namespace lieq
