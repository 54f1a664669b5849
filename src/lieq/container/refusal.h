// How what a document says of a model is refused.
#pragma once

#include <string>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/json.h"
#include "lieq/io/printable.h"

namespace lieq {

/// Throws Error.
[[noreturn]] inline void Refuse(std::string what, std::string where, std::string expected,
                                std::string found, std::string hint = {}) {
  throw Error({.what = std::move(what),
               .where = std::move(where),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

/// A value for a message: short, one line, printable.
[[nodiscard]] inline std::string Shown(const Json& value) {
  return Printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
}

}  // namespace lieq
