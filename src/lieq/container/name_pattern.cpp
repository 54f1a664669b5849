#include "lieq/container/name_pattern.h"

#include <algorithm>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::size_t kMostBytes = 4096;
constexpr int kMostDepth = 32;
constexpr int kMostLooks = 16;
constexpr int kMostRepeats = 1000;
constexpr std::uint64_t kMostSteps = std::uint64_t{1} << 17;  // of a match; most take some tens
constexpr std::uint64_t kMostDocumentBytes = std::uint64_t{1} << 16;
constexpr std::uint64_t kMostDocumentMemory = std::uint64_t{1} << 24;

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsWord(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

[[noreturn]] void RefuseDocument(std::string expected, std::string_view pattern,
                                 const std::string& where) {
  throw Error({.what = "too many patterns",
               .where = where,
               .expected = std::move(expected),
               .found = "more with '" + Printable(pattern, 60) + "'"});
}

/// Writes a pattern of Python's anew where PCRE2 reads it otherwise, and refuses what module names
/// have no use for: of \v, \Z, {,n} and [[ the two make different things without any complaint.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string Translate() {
    if (pattern_.size() > kMostBytes) {
      Fail("pattern is too long", "at most " + std::to_string(kMostBytes) + " bytes");
    }
    if (!std::ranges::all_of(pattern_,
                             [](char c) { return static_cast<unsigned char>(c) < 128; })) {
      Fail("pattern is not ASCII", "");
    }
    while (More()) Next();
    if (depth_ > 0) Fail("unbalanced '(' in pattern", "')'");
    return std::move(out_);
  }

 private:
  enum class Last : std::uint8_t { kNothing, kPlace, kItem, kRepeat };  // what a repeat repeats

  [[noreturn]] void Fail(std::string what, std::string expected) const {
    throw Error({.what = std::move(what),
                 .where = where_,
                 .expected = std::move(expected),
                 .found = "'" + Printable(pattern_) + "' at byte " + std::to_string(at_)});
  }

  [[nodiscard]] bool More() const { return at_ < pattern_.size(); }
  [[nodiscard]] bool Skip(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  void Put(std::string_view text, Last last) {
    out_ += text;
    last_ = last;
  }

  void Next() {
    const char c = pattern_[at_];
    if (c == '*' || c == '+' || c == '?' || c == '{') return Repeat();
    ++at_;
    switch (c) {
      case '(':
        return OpenGroup();
      case ')':
        if (depth_-- == 0) Fail("unbalanced ')' in pattern", "");
        return Put(")", Last::kItem);
      case '|':
        return Put("|", Last::kNothing);
      case '[':
        return Class();
      case '.':
        return Put(".", Last::kItem);
      case '^':
      case '$':  // Python's too is the end, or before a line's end there
        return Put({&c, 1}, Last::kPlace);
      case '\\':
        return Escape();
      default:
        Literal(c);
        last_ = Last::kItem;
    }
  }

  void Literal(char c) {
    if (!IsWord(c)) out_ += '\\';
    out_ += c;
  }

  void OpenGroup() {
    std::string_view opening = "(?:";
    if (Skip("?=") || Skip("?!")) {
      opening = pattern_.substr(at_ - 3, 3);
      if (++looks_ > kMostLooks) {
        Fail("too many look-aheads", "at most " + std::to_string(kMostLooks));
      }
    } else if (Skip("?P<")) {
      while (More() && IsWord(pattern_[at_])) ++at_;
      if (!Skip(">")) Fail("unfinished name of a group", "'>'");
    } else if (!Skip("?:") && More() && pattern_[at_] == '?') {
      Fail("group of this kind is not supported", "(...), (?:...), (?=...) or (?!...)");
    }
    if (++depth_ > kMostDepth) {
      Fail("pattern is nested too deeply", "at most " + std::to_string(kMostDepth) + " groups");
    }
    Put(opening, Last::kNothing);
  }

  void Repeat() {
    if (last_ == Last::kRepeat) Fail("repeat of a repeat is not supported", "");
    if (last_ != Last::kItem) Fail("nothing to repeat", "");
    if (Skip("{")) {
      Interval();
    } else {
      out_ += pattern_[at_++];
    }
    if (Skip("?")) out_ += '?';
    last_ = Last::kRepeat;
  }

  /// {m}, {m,}, {,n} or {m,n}, behind the bracket.
  void Interval() {
    const std::string least = Count();
    const bool two = Skip(",");
    const std::string most = two ? Count() : least;
    const bool none = least.empty() && !two;
    if (!Skip("}") || none || (!most.empty() && std::stoi("0" + least) > std::stoi(most))) {
      Fail("not a valid repeat count", "{m}, {m,}, {,n} or {m,n}");
    }
    out_ += "{" + (least.empty() ? "0" : least) + "," + most + "}";
  }

  std::string Count() {
    std::string digits;
    for (; More() && IsDigit(pattern_[at_]); ++at_) {
      digits += pattern_[at_];
      if (std::stoi(digits) > kMostRepeats) {
        Fail("repeat count is too large", "at most " + std::to_string(kMostRepeats));
      }
    }
    return digits;
  }

  void Escape() {
    if (Skip("Z")) return Put("\\z", Last::kPlace);
    if (Skip("A") || Skip("b") || Skip("B")) {
      return Put(pattern_.substr(at_ - 2, 2), Last::kPlace);
    }
    (void)EscapedItem();
    last_ = Last::kItem;
  }

  /// What follows a backslash, anywhere. True for a single character.
  bool EscapedItem() {
    if (!More()) Fail("pattern ends in a backslash", "");
    const char c = pattern_[at_++];
    const auto among = [&](std::string_view names) { return names.find(c) != names.npos; };
    if (c == 'v') {
      out_ += "\\x0b";
    } else if (among("ntrfdDwWsS")) {
      out_ += {'\\', c};
    } else if (IsWord(c) && c != '_') {
      Fail("escape is not supported", R"(\d \w \s \b or punctuation)");
    } else {
      Literal(c);
    }
    return !among("dDwWsS");
  }

  void Class() {
    out_ += '[';
    if (Skip("^")) out_ += '^';
    bool first = true;
    for (; first || !More() || pattern_[at_] != ']'; first = false) {
      if (!More()) Fail("unbalanced '[' in pattern", "']'");
      const char low = pattern_[at_];
      const bool single = ClassItem();
      // A hyphen before the closing bracket is itself.
      const std::string_view rest = pattern_.substr(at_);
      if (!single || rest.size() < 2 || rest[0] != '-' || rest[1] == ']') continue;
      out_ += '-';
      ++at_;
      const char high = rest[1];
      if (!ClassItem() || low == '\\' || high == '\\' || high < low) {
        Fail("not a valid range in a class", "[a-z]");
      }
    }
    ++at_;
    Put("]", Last::kItem);
  }

  bool ClassItem() {
    const char c = pattern_[at_++];
    if (c == '\\') return EscapedItem();
    Literal(c);
    return true;
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
  Last last_ = Last::kNothing;
  int depth_ = 0, looks_ = 0;
};

}  // namespace

NamePattern::NamePattern(std::string_view pattern, const std::string& where,
                         std::shared_ptr<PatternSteps> steps)
    : pattern_(pattern),
      where_(where),
      regex_(Translator(pattern, where).Translate(), {.anchored = true, .counted = true}, where),
      steps_(std::move(steps)) {}

bool NamePattern::Matches(std::string_view name) const {
  RegexSearch search(regex_);
  const RegexSearch::Outcome outcome = search.Find(name, 0, kMostSteps);
  if (steps_ != nullptr && (steps_->taken += search.steps()) > steps_->most) {
    RefuseDocument("at most " + std::to_string(steps_->most) + " steps in all for " +
                       std::to_string(steps_->names) + " names",
                   pattern_, where_);
  }
  if (outcome != RegexSearch::Outcome::kGaveUp) return outcome == RegexSearch::Outcome::kFound;
  throw Error({.what = "pattern takes too many steps",
               .where = where_,
               .expected = "at most " + std::to_string(kMostSteps) + " for a name",
               .found = "more with '" + Printable(pattern_, 60) + "' on " + Printable(name, 60)});
}

PatternBudget::PatternBudget(std::uint64_t names, std::uint64_t most_steps)
    : steps_(std::make_shared<PatternSteps>(most_steps, names)) {}

NamePattern PatternBudget::Compile(std::string_view pattern, const std::string& where) {
  text_ += pattern.size();
  if (text_ > kMostDocumentBytes) {
    RefuseDocument("at most " + std::to_string(kMostDocumentBytes) + " bytes in all", pattern,
                   where);
  }
  NamePattern compiled(pattern, where, steps_);
  memory_ += compiled.bytes();
  if (memory_ > kMostDocumentMemory) {
    RefuseDocument("at most " + std::to_string(kMostDocumentMemory) + " bytes of memory in all",
                   pattern, where);
  }
  return compiled;
}

}  // namespace lieq
