// Seconds and bytes for people.
#pragma once

#include <string>

namespace lieq {

/// "1 h 02 min", "3 min 20 s", "4.2 s"
[[nodiscard]] std::string FormatSeconds(double seconds);
/// "1.2 GB", "340 MB", "12.3 kB", "17 bytes"
[[nodiscard]] std::string FormatBytes(double bytes);

}  // namespace lieq
