#include "lieq/device/cuda/libraries.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace lieq::cuda {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> PartsOf(const char* variable) {
  std::vector<std::string> parts;
  const char* value = std::getenv(variable);
  std::istringstream list(value == nullptr ? "" : value);
  for (std::string part; std::getline(list, part, ':');) parts.push_back(part);
  return parts;
}

/// Folders of packages under a Python's lib: python*/site-packages/nvidia/*/lib.
void AddWheels(const fs::path& python, std::vector<fs::path>& folders) {
  std::error_code none;
  for (const auto& version : fs::directory_iterator(python, none)) {
    if (!version.path().filename().string().starts_with("python")) continue;
    for (const char* packages : {"site-packages", "dist-packages"}) {
      const fs::path nvidia = version.path() / packages / "nvidia";
      for (const auto& library : fs::directory_iterator(nvidia, none)) {
        folders.push_back(library.path() / "lib");
      }
    }
  }
}

/// Where the library may be, in the order of trying.
std::vector<fs::path> Folders() {
  std::vector<fs::path> folders;
  for (const std::string& named : PartsOf(kLibraryFolders)) folders.emplace_back(named);
  folders.emplace_back();  // where the system's loader looks
  for (const char* toolkit : {"CUDA_HOME", "CUDA_PATH"}) {
    for (const std::string& folder : PartsOf(toolkit))
      folders.push_back(fs::path(folder) / "lib64");
  }
  folders.emplace_back("/usr/local/cuda/lib64");
  // Packages of the Pythons that a shell would find, and of this user.
  for (const std::string& programs : PartsOf("PATH")) {
    std::error_code none;
    if (!fs::exists(fs::path(programs) / "python3", none)) continue;
    AddWheels(fs::path(programs).parent_path() / "lib", folders);
  }
  for (const std::string& home : PartsOf("HOME")) {
    AddWheels(fs::path(home) / ".local/lib", folders);
  }
  return folders;
}

}  // namespace

Library::Library(std::span<const char* const> names) {
  if (PartsOf(kLibraryFolders) == std::vector<std::string>{kNoLibrary}) return;
  for (const fs::path& folder : Folders()) {
    for (const char* name : names) {
      const fs::path file = folder / name;
      std::error_code none;
      if (!folder.empty() && !fs::exists(file, none)) continue;
      handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_ != nullptr) return;
    }
  }
}

}  // namespace lieq::cuda
