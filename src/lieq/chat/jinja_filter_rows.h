// Rows of filters; they are in two files.
#pragma once

#include <span>
#include <string_view>

#include "lieq/chat/jinja_run.h"

namespace lieq::jinja {

struct FilterRow {
  std::string_view name;
  Value (*filter)(Run&, const Value&, Arguments&);
};

[[nodiscard]] std::span<const FilterRow> ListFilters();

}  // namespace lieq::jinja
