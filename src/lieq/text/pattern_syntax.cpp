// The common subset of Oniguruma and PCRE2 (see pattern.h), as a scanner over the pattern.

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/pattern.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, 37> kCategories{
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn", "Cs"};

// Pairs of letters that one character folds to (U+00DF, U+FB00 to U+FB06): Oniguruma matches it
// where case is ignored, PCRE2 does not.
constexpr std::array<std::string_view, 5> kFoldedPairs{"ss", "ff", "fi", "fl", "st"};

constexpr bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
constexpr bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
constexpr char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

class Scanner {
 public:
  Scanner(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  void Scan() {
    while (at_ < pattern_.size()) {
      const std::size_t begin = at_;
      switch (pattern_[at_]) {
        case '\\':
          Escape();
          break;
        case '[':
          Class();
          break;
        case '(':
          OpenGroup();
          break;
        case ')':
          CloseGroup();
          break;
        case '{':
          Interval();
          break;
        case '?':
        case '*':
        case '+':
          Quantifier();
          break;
        case '|':
          ++at_;
          break;
        case '.':
        case '^':
        case '$':
        case ']':
        case '}':
          Refuse(1);
        default:
          Literal();
      }
      const bool literal = at_ == begin + 1 && IsLetter(pattern_[begin]);
      previous_letter_ = literal ? Lower(pattern_[begin]) : '\0';
    }
  }

 private:
  [[noreturn]] void Refuse(std::size_t length) const {
    throw Error({.what = "split pattern uses a construct that is not supported",
                 .where = where_,
                 .expected = "what Oniguruma and PCRE2 read alike (docs/tokenizer.md)",
                 .found = "'" + Printable(pattern_.substr(at_, length)) + "' at byte " +
                          std::to_string(at_) + " of '" + Printable(pattern_) + "'"});
  }

  [[nodiscard]] bool Starts(std::string_view text) const {
    return pattern_.substr(at_).starts_with(text);
  }
  [[nodiscard]] char Peek(std::size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  [[nodiscard]] bool IgnoresCase() const { return !groups_.empty() && groups_.back(); }

  void Literal() {
    const char c = pattern_[at_];
    if (IgnoresCase()) {
      const std::array<char, 2> pair{previous_letter_, Lower(c)};
      const std::string_view text(pair.data(), pair.size());
      if (static_cast<unsigned char>(c) >= 0x80 || std::ranges::count(kFoldedPairs, text) > 0) {
        Refuse(1);
      }
    }
    ++at_;
  }

  /// Leaves at_ behind the escape; true where it stands for one character and not for a set.
  bool Escape() {
    const char c = Peek(1);
    if (c == 'p' || c == 'P') {
      Category();
      return false;
    }
    const bool set = c == 's' || c == 'S' || c == 'd' || c == 'D';
    const bool control = c == 'r' || c == 'n' || c == 't' || c == 'f';
    const bool punctuation = c > ' ' && c < 0x7F && !IsLetter(c) && !IsDigit(c);
    // \< and \> are the bounds of a word in some dialects, \` and \' those of the text.
    const bool bound = c == '<' || c == '>' || c == '`' || c == '\'';
    if (!(set || control || punctuation) || bound) Refuse(2);
    at_ += 2;
    return !set;
  }

  void Category() {
    const std::size_t close = pattern_.find('}', at_);
    if (Peek(2) != '{' || close == std::string_view::npos) Refuse(3);
    const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    // With case ignored, \p{Lu} is any letter to one engine and upper case to the other.
    if (std::ranges::count(kCategories, name) == 0 || IgnoresCase()) Refuse(close + 1 - at_);
    at_ = close + 1;
  }

  void Class() {
    if (IgnoresCase() && pattern_.find_first_not_of("abcdefghijklmnopqrstuvwxyz", at_ + 1) !=
                             pattern_.find(']', at_)) {
      Refuse(1);
    }
    at_ += Peek(1) == '^' ? 2 : 1;
    if (Peek(0) == ']') Refuse(1);  // empty to one engine, a literal to the other
    bool after_item = false;        // so that '-' makes a range
    bool after_set = false;
    while (Peek(0) != ']') {
      if (at_ >= pattern_.size() || Peek(0) == '[' || Starts("&&")) Refuse(2);
      if (Peek(0) == '-' && after_item && Peek(1) != ']') {
        // A range: both ends must be characters.
        ++at_;
        if (after_set || Peek(0) == '[' || Peek(0) == '-') Refuse(1);
        if (!ClassItem()) Refuse(1);
        after_item = false;
        after_set = false;
        if (Peek(0) == '-' && Peek(1) != ']') Refuse(1);
        continue;
      }
      after_set = !ClassItem();
      after_item = true;
    }
    ++at_;
  }

  bool ClassItem() {
    if (at_ >= pattern_.size()) Refuse(1);
    if (Peek(0) == '\\') return Escape();
    ++at_;
    // The rest of a character of several bytes belongs to it.
    while ((static_cast<unsigned char>(Peek(0)) & 0xC0u) == 0x80u) ++at_;
    return true;
  }

  void OpenGroup() {
    bool ignores_case = IgnoresCase();
    if (Peek(1) == '*') Refuse(2);
    if (Peek(1) != '?') {
      at_ += 1;
    } else if (Peek(2) == ':' || Peek(2) == '=' || Peek(2) == '!') {
      at_ += 3;
    } else if (Starts("(?i:")) {
      at_ += 4;
      ignores_case = true;
    } else {
      Refuse(3);
    }
    groups_.push_back(ignores_case);
  }

  void CloseGroup() {
    if (groups_.empty()) Refuse(1);
    groups_.pop_back();
    ++at_;
  }

  /// ?, * or +, then ? (as few as possible) or + (never given back), and no third one.
  void Quantifier() {
    ++at_;
    if (Peek(0) == '?' || Peek(0) == '+') ++at_;
    RefuseAnotherQuantifier();
  }

  /// {n}, {n,} or {n,m}; the engines differ in what ? and + after it mean.
  void Interval() {
    std::size_t length = 1;
    while (IsDigit(Peek(length))) ++length;
    if (length == 1) Refuse(2);
    if (Peek(length) == ',') ++length;
    while (IsDigit(Peek(length))) ++length;
    if (Peek(length) != '}') Refuse(length + 1);
    at_ += length + 1;
    RefuseAnotherQuantifier();
  }

  void RefuseAnotherQuantifier() const {
    const char c = Peek(0);
    if (c == '?' || c == '*' || c == '+' || c == '{') Refuse(1);
  }

  std::string_view pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::vector<bool> groups_;  // the open ones: whether case is ignored inside
  char previous_letter_ = '\0';
};

}  // namespace

void CheckPatternSyntax(std::string_view pattern, const std::string& where) {
  Scanner(pattern, where).Scan();
}

}  // namespace lieq
