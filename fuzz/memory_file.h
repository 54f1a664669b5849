// A file in memory with a path, for readers that take one.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lieq {

class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("lieq-fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::runtime_error("memfd_create");
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void Set(std::string_view content) {
    if (::ftruncate(descriptor_, static_cast<off_t>(content.size())) != 0 ||
        ::pwrite(descriptor_, content.data(), content.size(), 0) !=
            static_cast<ssize_t>(content.size())) {
      throw std::runtime_error("cannot fill the file in memory");
    }
  }
  [[nodiscard]] std::filesystem::path path() const {
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

}  // namespace lieq
