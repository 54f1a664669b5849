// Regular expressions over module names, as they stand in a "quantization_config": Python's, run by
// PCRE2 within a number of steps, since the patterns come from strangers and engines that backtrack
// need no more than a few characters to work for years.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lieq/io/regex.h"

namespace lieq {

/// Steps that the patterns of a document may take in all, for all of its names.
struct PatternSteps {
  std::uint64_t most, names;
  std::atomic<std::uint64_t> taken = 0;
};

class NamePattern {
 public:
  /// Python's syntax as far as module names need it: characters, ., classes, \d \w \s and their
  /// opposites, groups (named ones too), |, * + ? {m,n} (lazy ones too), ^ $ \A \Z \b \B, (?=...)
  /// and (?!...). Throws Error naming `where` for anything else (back-references, look-behind,
  /// flags, characters that are not ASCII) and for patterns that are too long or too deep.
  NamePattern(std::string_view pattern, const std::string& where,
              std::shared_ptr<PatternSteps> steps = nullptr);

  /// Python's re.match: must match from the start of the name, not to its end. Throws Error where
  /// it takes too many steps.
  [[nodiscard]] bool Matches(std::string_view name) const;

  /// Memory that it takes.
  [[nodiscard]] std::size_t bytes() const { return regex_.bytes(); }

 private:
  std::string pattern_, where_;
  Regex regex_;
  std::shared_ptr<PatternSteps> steps_;  // null: of no document
};

/// What all patterns of one document may cost together: a few of a hundred bytes, asked for every
/// linear of a model of thousands of layers, would keep a machine busy for an hour.
class PatternBudget {
 public:
  static constexpr std::uint64_t kMostSteps = std::uint64_t{1} << 26;  // a second or two

  /// names: how many will be matched with each pattern.
  explicit PatternBudget(std::uint64_t names, std::uint64_t most_steps = kMostSteps);

  /// A pattern whose steps count among those of all. Throws Error "too many patterns", as its
  /// matching does once all have taken too many.
  [[nodiscard]] NamePattern Compile(std::string_view pattern, const std::string& where);

 private:
  std::uint64_t text_ = 0, memory_ = 0;  // bytes spent
  std::shared_ptr<PatternSteps> steps_;
};

}  // namespace lieq
