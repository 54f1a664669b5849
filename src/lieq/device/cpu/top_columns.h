// The largest values of a row.
#pragma once

#include <span>

#include "lieq/base/types.h"

namespace lieq {

/// Device::TopColumns of one row; 1 <= columns.size() <= row.size().
void TopColumns(std::span<const float> row, std::span<TokenId> columns);

}  // namespace lieq
