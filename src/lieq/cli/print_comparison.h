// What a comparison of two models says, printed.
#pragma once

#include "lieq/container/compare.h"

namespace lieq {

/// Exit code where two models differ.
inline constexpr int kDiffer = 4;

/// A line for each kind of difference, or one that says what was compared.
void PrintComparison(const Comparison& comparison);

}  // namespace lieq
