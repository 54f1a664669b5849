// Tables of rows that have a name.
#pragma once

#include <string>
#include <string_view>

#include "lieq/base/error.h"

namespace lieq {

/// "rtn, gptq, best": the names of all rows in their order.
template <class Rows>
[[nodiscard]] std::string NamesOfRows(const Rows& rows, std::string_view separator = ", ") {
  std::string names;
  for (const auto& row : rows) {
    if (!names.empty()) names += separator;
    names += row.name;
  }
  return names;
}

/// The row of that name. Throws Error of `what` and `where`, naming the rows there are.
template <class Rows>
[[nodiscard]] const auto& FindRow(const Rows& rows, std::string_view name, std::string_view what,
                                  std::string_view where, std::string_view separator = ", ") {
  for (const auto& row : rows) {
    if (row.name == name) return row;
  }
  throw Error({.what = std::string(what),
               .where = std::string(where),
               .expected = NamesOfRows(rows, separator),
               .found = std::string(name)});
}

}  // namespace lieq
