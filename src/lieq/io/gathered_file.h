// A file written front to back in many small parts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "lieq/base/files.h"

namespace lieq {

/// An AtomicFile that gathers small parts on their way to the disk and passes large ones on.
class GatheredFile {
 public:
  /// Throws Error, as do the others.
  explicit GatheredFile(const std::filesystem::path& path) : file_(path) {}

  void Write(std::span<const std::byte> bytes) {
    constexpr std::size_t kGather = std::size_t{1} << 20;
    if (gathered_.size() + bytes.size() > kGather) Flush();
    if (bytes.size() >= kGather) return file_.Write(bytes);
    gathered_.insert(gathered_.end(), bytes.begin(), bytes.end());
  }
  void Commit() {
    Flush();
    file_.Commit();
  }

 private:
  void Flush() {
    file_.Write(gathered_);
    gathered_.clear();
  }

  AtomicFile file_;
  std::vector<std::byte> gathered_;
};

}  // namespace lieq
