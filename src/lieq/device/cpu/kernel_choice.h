// How a row of a table of kernels is chosen by its name.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lieq/base/error.h"

namespace lieq {

/// The row of that name, or for an empty one the first supported one. Messages name rows with the
/// prefix, and `others` beside them.
template <class Row>
[[nodiscard]] const Row& ChooseRow(std::span<const Row* const> rows, std::string_view name,
                                   std::string_view prefix, std::string_view others) {
  std::string names;
  for (const Row* row : rows) {
    const std::string full = std::string(prefix) + std::string(row->name);
    names += (names.empty() ? "" : ", ") + full;
    if (!name.empty() && row->name != name) continue;
    if (row->supported()) return *row;
    if (!name.empty()) {
      throw Error({.what = "this processor cannot run the kernel row '" + full + "'",
                   .where = "--kernels"});
    }
  }
  throw Error({.what = "no such kernel row",
               .where = "--kernels",
               .expected = names + std::string(others),
               .found = std::string(prefix) + std::string(name)});
}

}  // namespace lieq
