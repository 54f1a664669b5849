// Regular expressions that match numbers of layers.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// Expressions that together match exactly these layers of a model of `count`, written in decimal,
/// and no number twice: "[0-9]+" where it is all of them, else such as "(?:[0-3]|1[12])". Anchored
/// at neither end; several where one would be long.
[[nodiscard]] std::vector<std::string> LayerPatterns(const std::set<Index>& layers, Index count);

}  // namespace lieq
