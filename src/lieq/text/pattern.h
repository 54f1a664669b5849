// Split patterns: regular expressions as the Oniguruma engine of the reference reads them, run by
// PCRE2.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "lieq/io/regex.h"

namespace lieq {

/// Throws Error naming the construct unless the pattern is written in the common subset of the two
/// engines: literals, classes, general categories, \s \d \r \n \t and their like, groups,
/// look-ahead, alternatives, quantifiers, and (?i:) around ASCII.
///
/// The two read many others differently, without any complaint: \h is a hexadecimal digit to one
/// and a blank to the other, a{2}+ repeats or is possessive, [a&&b] intersects or not.
void CheckPatternSyntax(std::string_view pattern, const std::string& where);

/// A compiled pattern. Immutable, so that threads share it.
class Pattern {
 public:
  /// Throws Error: CheckPatternSyntax, a syntax error, or a pattern that can match nothing.
  Pattern(std::string_view pattern, const std::string& where);

 private:
  friend class Matcher;
  Regex regex_;
  std::string where_;
};

struct MatchRange {
  std::size_t begin = 0;  // bytes
  std::size_t end = 0;    // > begin
};

/// Looks for a pattern, one thread at a time. The pattern must outlive it.
class Matcher {
 public:
  explicit Matcher(const Pattern& pattern);

  /// The first match that begins at byte `from` or later; `text` is valid UTF-8 and `from` between
  /// two characters. Throws Error where the pattern takes too many steps or too much memory.
  [[nodiscard]] std::optional<MatchRange> Find(std::string_view text, std::size_t from);

 private:
  const Pattern* pattern_;
  RegexSearch search_;
};

}  // namespace lieq
