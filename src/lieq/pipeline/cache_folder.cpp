#include "lieq/pipeline/cache_folder.h"

#include <cstdlib>

namespace lieq {

std::filesystem::path CacheFolder() {
  namespace fs = std::filesystem;
  if (const char* folder = std::getenv("XDG_CACHE_HOME"); folder != nullptr && *folder != 0) {
    return fs::path(folder) / "lieq";
  }
  const char* home = std::getenv("HOME");
  return (home != nullptr && *home != 0 ? fs::path(home) / ".cache" : fs::temp_directory_path()) /
         "lieq";
}

}  // namespace lieq
