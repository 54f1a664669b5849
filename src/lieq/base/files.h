// Files: read whole, read in blocks, map, and write so that a reader never sees half of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace lieq {

/// A read-only mapping of a whole file. Views into it die with it.
class FileMap {
 public:
  /// Throws Error where the file cannot be opened or is not a regular file.
  explicit FileMap(std::filesystem::path path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Gives the pages that lie wholly inside `part` back to the system; they are read again from the
  /// file when next touched. A `part` outside this mapping is left alone.
  void Drop(std::span<const std::byte> part) const noexcept;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Whole file as text. Throws Error where it cannot be read or is larger than `limit` bytes.
[[nodiscard]] std::string ReadText(const std::filesystem::path& path,
                                   std::uint64_t limit = std::uint64_t{1} << 32);

/// Calls `block` for successive parts of the file. Throws Error.
void ReadBlocks(const std::filesystem::path& path,
                const std::function<void(std::span<const std::byte>)>& block);

/// A file under a temporary name beside `path` until Commit: flushed to disk, then renamed over
/// `path`, then the folder flushed. Without Commit nothing is left behind.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }
  void Commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// AtomicFile in one call.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view content);

/// Flushes a folder, so that the renames made in it survive a loss of power.
void SyncFolder(const std::filesystem::path& folder);

}  // namespace lieq
