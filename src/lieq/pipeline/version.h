// Which program this is.
#pragma once

#include <string>
#include <string_view>

namespace lieq {

extern const std::string_view kVersion;  // "0.1.0"
extern const std::string_view kCommit;   // of the source tree it was built from, or "unknown"

/// "lieq 0.1.0 (commit), kernels avx512, OpenBLAS 0.3.21 SkylakeX"
[[nodiscard]] std::string VersionText();

}  // namespace lieq
