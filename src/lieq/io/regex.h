// Regular expressions, run by PCRE2 within limits that the caller sets: the patterns come from
// files of strangers. What a dialect reads otherwise than PCRE2 is its reader's to refuse or to
// write anew (text/pattern.h, container/name_pattern.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace lieq {

struct RegexOptions {
  bool unicode = false;   // pattern and text are UTF-8, and classes those of Unicode; else ASCII
  bool anchored = false;  // a match begins where the search does
  bool machine_code = false;  // where the processor takes it
  /// Steps are the items of the pattern that a search comes by, and not only the ways that it
  /// tries: its time is within them, and they are the same everywhere.
  bool counted = false;
};

/// A compiled pattern. Immutable, so that threads and copies share it.
class Regex {
 public:
  /// Throws Error naming `where`: a syntax error, or a pattern that grows too large.
  Regex(std::string_view pattern, const RegexOptions& options, const std::string& where);

  /// Whether there are texts in which it matches no characters at all.
  [[nodiscard]] bool MatchesNothing() const;
  /// Memory that it takes, machine code not counted.
  [[nodiscard]] std::size_t bytes() const;

 private:
  friend class RegexSearch;
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

/// Looks for a pattern, one thread at a time. The pattern must outlive it.
class RegexSearch {
 public:
  enum class Outcome : std::uint8_t { kFound, kNone, kGaveUp };

  explicit RegexSearch(const Regex& regex);
  ~RegexSearch();
  RegexSearch(RegexSearch&&) noexcept;
  RegexSearch& operator=(RegexSearch&&) noexcept;

  /// The first match from byte `from` on. Gives up after so many steps, or with a gigabyte of
  /// memory. Of UTF-8 the text is valid and `from` lies between two characters.
  [[nodiscard]] Outcome Find(std::string_view text, std::size_t from, std::uint64_t steps);

  /// Of the last search, where steps are counted.
  [[nodiscard]] std::uint64_t steps() const noexcept;
  /// Of the match that was found, bytes.
  [[nodiscard]] std::size_t begin() const;
  [[nodiscard]] std::size_t end() const;
  /// Why the last search gave up.
  [[nodiscard]] std::string reason() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lieq
