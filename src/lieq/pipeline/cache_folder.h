// Where files that can be made again are kept.
#pragma once

#include <filesystem>

namespace lieq {

/// lieq in $XDG_CACHE_HOME or ~/.cache, else in the folder for temporary files.
[[nodiscard]] std::filesystem::path CacheFolder();

}  // namespace lieq
