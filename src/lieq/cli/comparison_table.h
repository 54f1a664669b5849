// A comparison as text.
#pragma once

#include <string>
#include <string_view>

#include "lieq/pipeline/comparison.h"

namespace lieq {

/// format: "table", "markdown" or "csv" (RFC 4180, shares as fractions, numbers in full).
[[nodiscard]] std::string Render(const RunComparison& comparison, std::string_view format);

}  // namespace lieq
