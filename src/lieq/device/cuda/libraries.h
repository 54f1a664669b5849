// NVIDIA's libraries, which are looked for when a program runs: it needs them neither to be built
// nor to run.
#pragma once

#include <dlfcn.h>

#include <span>

namespace lieq::cuda {

/// Folders, separated by colons, where NVIDIA's libraries are looked for first; or kNoLibrary.
inline constexpr const char* kLibraryFolders = "LIEQ_CUDA_LIBRARIES";
inline constexpr const char* kNoLibrary = "none";

/// One that was found, or not. It stays loaded: such libraries have threads and state of their own
/// that outlive a device.
class Library {
 public:
  /// names: of files, the first that is there.
  explicit Library(std::span<const char* const> names);

  /// False where the library or the function is not there.
  template <class Function>
  [[nodiscard]] bool Find(const char* name, Function& function) const {
    if (handle_ == nullptr) return false;
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    return function != nullptr;
  }

 private:
  void* handle_ = nullptr;
};

}  // namespace lieq::cuda
