// The head of a model card, YAML between two lines of three dashes: what the Hub reads of it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lieq {

/// Keys at the margin and their scalars and lists of scalars, in order. A tolerant reader of a
/// small part of YAML: what it does not understand for certain (nested keys, block scalars,
/// anchors, escapes, text that is no UTF-8, overlong values) leaves its key without values, and is
/// never copied. Nothing where the head is not at the very start, or not closed.
[[nodiscard]] std::vector<std::pair<std::string, std::vector<std::string>>> FrontMatter(
    std::string_view text);

/// A scalar that every reader of YAML takes for the string `value`, on one line: plain where that
/// is safe, else in double quotes. What is no UTF-8 is U+FFFD in it.
[[nodiscard]] std::string YamlString(std::string_view value);

}  // namespace lieq
