// GGUF, version 3: one file of keys and tensors, as llama.cpp reads it.
//
// The format alone: what keys mean and how blocks are packed is container/'s. The reader trusts
// nothing: every count, product, sum and offset is checked before it is used. See docs/formats.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/files.h"

namespace lieq {

/// A type of tensor elements: `columns` of them are a block of `bytes`.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;  // "Q4_0"
  std::uint32_t columns;
  std::uint32_t bytes;
};

/// All types that files of this version may have, whether or not anything here decodes them.
[[nodiscard]] std::span<const GgmlType> GgmlTypes() noexcept;
/// Null where there is none.
[[nodiscard]] const GgmlType* FindGgmlType(std::uint32_t id) noexcept;
[[nodiscard]] const GgmlType* FindGgmlType(std::string_view name) noexcept;  // upper case

/// Types of values, numbered as in the file.
enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
[[nodiscard]] std::string_view Name(GgufType type) noexcept;  // "u32"

/// A value as it lies in the file; dies with it.
struct GgufValue {
  GgufType type = GgufType::kU8;  // of the value, or of the items of an array; never kArray
  bool array = false;
  std::uint64_t count = 1;           // of items
  std::span<const std::byte> bytes;  // of the items one after another
};

/// "array of 12 u32"
[[nodiscard]] std::string Describe(const GgufValue& value);

struct GgufTensor {
  std::string name;
  const GgmlType* type = nullptr;
  std::vector<std::int64_t> shape;   // slowest first, so [rows, cols]; every extent >= 1
  std::span<const std::byte> bytes;  // of all blocks
};

/// Keys by name, with the file that holds them for messages.
class GgufKeys {
 public:
  GgufKeys() = default;
  GgufKeys(std::map<std::string, GgufValue, std::less<>> values, std::string where)
      : values_(std::move(values)), where_(std::move(where)) {}

  [[nodiscard]] const std::map<std::string, GgufValue, std::less<>>& values() const noexcept {
    return values_;
  }
  [[nodiscard]] bool Has(std::string_view key) const { return values_.contains(key); }

  /// Throw Error naming file and key where the key is missing or of another type. Integers may have
  /// any width, numbers may be integers too.
  [[nodiscard]] std::int64_t Integer(std::string_view key) const;
  [[nodiscard]] double Number(std::string_view key) const;
  [[nodiscard]] bool Boolean(std::string_view key) const;
  [[nodiscard]] std::string String(std::string_view key) const;
  [[nodiscard]] std::vector<std::string_view> Strings(std::string_view key) const;
  [[nodiscard]] std::vector<std::int64_t> Integers(std::string_view key) const;
  /// Of one number or truth value (0 and 1), or of an array of them; none for strings.
  [[nodiscard]] std::vector<double> Numbers(std::string_view key) const;
  /// "model.gguf: key 'llama.block_count'"
  [[nodiscard]] std::string Where(std::string_view key) const;

 private:
  [[nodiscard]] const GgufValue& At(std::string_view key, bool array, std::string_view wants,
                                    bool (*accepts)(GgufType)) const;

  std::map<std::string, GgufValue, std::less<>> values_;
  std::string where_;
};

struct GgufHeader {
  GgufKeys keys;
  std::vector<GgufTensor> tensors;  // in the order of their data
};

/// Reads `file`, the bytes of a whole file; `where` names it in errors.
///
/// Throws Error for anything that is not: the magic, version 2 or 3 and little-endian; keys and
/// names that are not empty and unique; values of the known types, arrays of no arrays; a
/// general.alignment that is a power of two up to 65536; tensors of 1 to 4 extents of at least 1,
/// in rows of whole blocks, one behind the other with no more than padding between them, all inside
/// the file and nothing behind. Memory is bounded by a small multiple of the header.
[[nodiscard]] GgufHeader ParseGguf(std::span<const std::byte> file, const std::string& where);

/// A mapped file.
class GgufFile {
 public:
  [[nodiscard]] static GgufFile Open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return map_->path(); }
  [[nodiscard]] const std::shared_ptr<const FileMap>& map() const noexcept { return map_; }
  [[nodiscard]] const GgufKeys& keys() const noexcept { return header_.keys; }
  [[nodiscard]] const std::vector<GgufTensor>& tensors() const noexcept { return header_.tensors; }

 private:
  std::shared_ptr<const FileMap> map_;
  GgufHeader header_;
};

/// Keys to be written, in the order they are added. A key is added once.
class GgufKeyWriter {
 public:
  void String(std::string_view key, std::string_view value);
  void U32(std::string_view key, std::uint32_t value);
  void F32(std::string_view key, float value);
  void Bool(std::string_view key, bool value);
  void Strings(std::string_view key, std::span<const std::string> values);
  void I32s(std::string_view key, std::span<const std::int32_t> values);
  void F32s(std::string_view key, std::span<const float> values);
  void Bools(std::string_view key, const std::vector<bool>& values);

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }

 private:
  void Begin(std::string_view key, GgufType type);

  std::string bytes_;
  std::uint64_t count_ = 0;
};

/// What a tensor to be written is, before its bytes are there.
struct GgufSpec {
  std::string name;  // at most 63 bytes
  const GgmlType* type = nullptr;
  std::vector<std::int64_t> shape;  // slowest first; the last one whole blocks

  [[nodiscard]] std::uint64_t DataBytes() const noexcept;
};

/// Writes one file front to back in bounded memory, as TensorWriter does.
class GgufWriter {
 public:
  /// Bytes of the finished file.
  [[nodiscard]] static std::uint64_t FileBytes(const GgufKeyWriter& keys,
                                               std::span<const GgufSpec> specs);
  /// Bytes of a tensor's data up to where the next one may begin.
  [[nodiscard]] static std::uint64_t PaddedBytes(const GgufSpec& spec) noexcept;

  /// Begins `path` under a temporary name. Throws Error, also for two tensors of one name.
  GgufWriter(const std::filesystem::path& path, const GgufKeyWriter& keys,
             std::vector<GgufSpec> specs);
  ~GgufWriter();

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
