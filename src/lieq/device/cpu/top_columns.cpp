#include "lieq/device/cpu/top_columns.h"

#include <algorithm>
#include <cstddef>

#include "lieq/base/assert.h"

namespace lieq {

void TopColumns(std::span<const float> row, std::span<TokenId> columns) {
  LIEQ_ASSERT(!columns.empty() && columns.size() <= row.size());
  constexpr std::size_t kBlock = 64;  // rarely has a value for the list, which one pass tells
  const auto value = [&](std::size_t place) {
    return row[static_cast<std::size_t>(columns[place])];
  };
  // Columns come in rising order, so that of equals the one that is there stays in front.
  const auto put = [&](std::size_t column, std::size_t place) {
    for (; place > 0 && row[column] > value(place - 1); --place)
      columns[place] = columns[place - 1];
    columns[place] = static_cast<TokenId>(column);
  };
  const std::size_t last = columns.size() - 1;
  for (std::size_t column = 0; column <= last; ++column) put(column, column);
  for (std::size_t begin = columns.size(); begin < row.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, row.size());
    const float least = value(last);
    int larger = 0;
    for (std::size_t column = begin; column < end; ++column) {
      larger |= row[column] > least ? 1 : 0;
    }
    if (larger == 0) continue;
    for (std::size_t column = begin; column < end; ++column) {
      if (row[column] > value(last)) put(column, last);
    }
  }
}

}  // namespace lieq
