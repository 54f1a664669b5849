// safetensors: files of named tensors, and folders of them ("shards").
//
// The reader trusts nothing: every product and sum is checked, every range must lie in its file,
// ranges may neither overlap nor leave holes, names are unique. See docs/formats.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/tensor/dtype.h"

namespace lieq {

/// A tensor in a mapped file; dies with the TensorFile it came from.
struct TensorRef {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;   // every extent >= 1; empty for a scalar
  std::span<const std::byte> bytes;  // bytes.size() == product of shape * ItemSize(dtype)
  std::filesystem::path file;        // for messages
};

/// "F32 [3072, 1024]"
[[nodiscard]] std::string Describe(DType dtype, std::span<const std::int64_t> shape);

/// Tensors by name out of one file or several shards.
class TensorFile {
 public:
  /// One .safetensors file. Throws Error naming file, tensor, and what is wrong.
  [[nodiscard]] static TensorFile Open(const std::filesystem::path& file);
  /// A model folder: model.safetensors.index.json with its shards if there, else model.safetensors.
  /// Throws Error, also where both are there and hold different tensors; where neither is, it says
  /// what is there instead and what to do with it.
  [[nodiscard]] static TensorFile OpenFolder(const std::filesystem::path& folder);
  /// Tensors that lie in the files of another format; their names differ.
  [[nodiscard]] static TensorFile Of(const std::filesystem::path& path,
                                     std::vector<TensorRef> tensors,
                                     std::vector<std::shared_ptr<const FileMap>> maps);

  /// Every tensor under another name. Throws Error where two get the same.
  void Rename(const std::function<std::string(const std::string&)>& name_of);

  /// Forgets a tensor, where it is there.
  void Erase(std::string_view name);

  [[nodiscard]] bool Has(std::string_view name) const;
  /// Throws Error naming the folder or file where the tensor is missing.
  [[nodiscard]] const TensorRef& At(std::string_view name) const;
  /// All tensors in order of name.
  [[nodiscard]] const std::map<std::string, TensorRef, std::less<>>& tensors() const noexcept {
    return tensors_;
  }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return metadata_;
  }
  /// The files, in order of name, for hashing and for giving pages back.
  [[nodiscard]] const std::vector<std::shared_ptr<const FileMap>>& maps() const noexcept {
    return maps_;
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  static TensorFile OpenSingle(const std::filesystem::path& folder);
  static TensorFile OpenShards(const std::filesystem::path& folder);
  void Add(const std::filesystem::path& file);

  std::filesystem::path path_;
  std::map<std::string, TensorRef, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::shared_ptr<const FileMap>> maps_;
};

/// What a tensor to be written is, before its bytes are there.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
};

/// Writes one .safetensors file front to back in bounded memory.
///
/// All specs are known first (their order is the order of the data; names are unique, extents at
/// least 1); then Write is called for each, in that order, in one or more parts.
class TensorWriter {
 public:
  /// Bytes of the finished file: header and data. Metadata gets "format": "pt" where it has none.
  [[nodiscard]] static std::uint64_t FileBytes(std::span<const TensorSpec> specs,
                                               const std::map<std::string, std::string>& metadata);

  /// Begins `path` under a temporary name. Throws Error.
  TensorWriter(const std::filesystem::path& path, std::vector<TensorSpec> specs,
               std::map<std::string, std::string> metadata);
  ~TensorWriter();

  /// Appends to the data; a tensor's parts follow one another. LIEQ_ASSERTs that `name` is next.
  /// Throws Error where the disk refuses; then nothing is left under `path`.
  void Write(std::string_view name, std::span<const std::byte> bytes);
  /// All data must have been written. Flushes and renames. Throws Error.
  void Commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lieq
