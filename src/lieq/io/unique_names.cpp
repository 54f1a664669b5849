#include "lieq/io/unique_names.h"

#include <algorithm>
#include <string>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {

void RequireUniqueNames(std::vector<std::string_view> names, const std::filesystem::path& where) {
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice == names.end()) return;
  throw Error({.what = "two tensors of one name were to be written",
               .where = where.string() + ": tensor '" + Printable(std::string(*twice)) + "'",
               .expected = "each name once",
               .found = "it stands there twice",
               .hint = "this is a fault of lieq: please report it with the command"});
}

}  // namespace lieq
