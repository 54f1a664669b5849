// What a comparison of two models says, printed and as a record.
#pragma once

#include <filesystem>
#include <string>

#include "lieq/container/compare.h"
#include "lieq/io/json.h"

namespace lieq {

/// Exit code where two models differ.
inline constexpr int kDiffer = 4;

/// Keys "equal", "differences", "linears", "same_grids", "values", "rounded" and "first".
[[nodiscard]] Record ToJson(const Comparison& comparison);

/// A line for each kind of difference, or one that says what was compared.
void PrintComparison(const Comparison& comparison);

}  // namespace lieq
