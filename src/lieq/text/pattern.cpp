#include "lieq/text/pattern.h"

#include <cstdint>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

// Steps back that one match may take. Going through a run of spaces for the line break behind it
// takes one for each; a pattern that doubles them with every character ends here.
constexpr std::uint64_t kFewestSteps = 10'000'000;
constexpr std::uint64_t kStepsPerByte = 8;

Regex Compile(std::string_view pattern, const std::string& where) {
  CheckPatternSyntax(pattern, where);
  Regex regex(pattern, {.unicode = true, .machine_code = true}, where);
  if (regex.MatchesNothing()) {
    throw Error({.what = "split pattern can match nothing",
                 .where = where,
                 .expected = "a pattern of at least one character",
                 .found = "'" + Printable(pattern) + "'"});
  }
  return regex;
}

}  // namespace

Pattern::Pattern(std::string_view pattern, const std::string& where)
    : regex_(Compile(pattern, where)), where_(where) {}

Matcher::Matcher(const Pattern& pattern) : pattern_(&pattern), search_(pattern.regex_) {}

std::optional<MatchRange> Matcher::Find(std::string_view text, std::size_t from) {
  switch (search_.Find(text, from, kFewestSteps + kStepsPerByte * text.size())) {
    case RegexSearch::Outcome::kNone:
      return std::nullopt;
    case RegexSearch::Outcome::kGaveUp:
      throw Error({.what = "split pattern gave up on the text: " + search_.reason(),
                   .where = pattern_->where_,
                   .found = "byte " + std::to_string(from) + " of " + std::to_string(text.size())});
    case RegexSearch::Outcome::kFound:
      break;
  }
  LIEQ_ASSERT(search_.begin() >= from && search_.end() > search_.begin());
  return MatchRange{.begin = search_.begin(), .end = search_.end()};
}

}  // namespace lieq
