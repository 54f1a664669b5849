// Regular expressions over module names, as they stand in a "quantization_config".
//
// A matcher of our own because the patterns come from strangers: std::regex backtracks without
// bound in time and stack. This one walks all alternatives at once (K. Thompson, CACM 11(6), 1968),
// so that its time is bounded by pattern times name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

class NamePattern {
 public:
  /// Python's syntax as far as module names need it: characters, ., classes, \d \w \s and their
  /// opposites, groups (named ones too), |, * + ? {m,n} (lazy ones too), ^ $ \A \Z \b \B, (?=...)
  /// and (?!...). Throws Error naming `where` for anything else (back-references, look-behind,
  /// flags, characters that are not ASCII) and for patterns that are too long or too deep.
  NamePattern(std::string_view pattern, const std::string& where);

  /// Python's re.match: must match from the start of the name, not to its end.
  [[nodiscard]] bool Matches(std::string_view name) const;

  /// How many steps a match may take for each character of the name, roughly.
  [[nodiscard]] std::uint64_t work() const noexcept;

 private:
  friend class PatternCompiler;

  enum class Op : std::uint8_t {
    kClass,    // one character of class `first`; then the next step
    kSplit,    // go on at `first` and at `second`
    kJump,     // go on at `first`
    kBegin,    // only at the start of the name; then the next step
    kEnd,      // only at its end
    kWord,     // only at the edge of a word
    kNotWord,  // only elsewhere
    kLook,     // only where the steps from the next one on match; then `first`
    kNotLook,  // only where they do not
    kAccept
  };
  struct Step {
    Op op = Op::kAccept;
    std::uint32_t first = 0;
    std::uint32_t second = 0;
  };
  using Class = std::array<bool, 128>;
  struct Walk;

  [[nodiscard]] bool MatchesFrom(Walk& walk, std::uint32_t start, std::size_t position) const;
  [[nodiscard]] bool Holds(Walk& walk, std::uint32_t step, std::size_t position) const;

  std::vector<Step> steps_;
  std::vector<Class> classes_;
};

/// What all patterns of one document may cost together: a few of a hundred bytes, asked for every
/// linear of a model of thousands of layers, would keep a machine busy for an hour.
class PatternBudget {
 public:
  /// names: how many will be matched with each pattern.
  explicit PatternBudget(std::uint64_t names);

  /// A pattern, and its cost taken off. Throws Error "too many patterns".
  [[nodiscard]] NamePattern Compile(std::string_view pattern, const std::string& where);

 private:
  std::uint64_t names_;
  std::uint64_t bytes_ = 0, work_ = 0;  // spent
};

}  // namespace lieq
