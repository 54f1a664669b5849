#include "lieq/chat/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "lieq/chat/jinja_value.h"
#include "lieq/io/printable.h"
#include "lieq/text/characters.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

bool IsAsciiDigit(char c) {
  return c >= '0' && c <= '9';
}

int HexDigit(char c) {
  if (IsAsciiDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

// The longer ones first.
constexpr std::array<std::string_view, 26> kOperators{
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

/// What the escapes of a literal stand for (Python's "unicode-escape").
class LiteralReader {
 public:
  explicit LiteralReader(std::string_view inside) : inside_(inside) {}

  std::string Read() {
    while (place_ < inside_.size()) {
      if (inside_[place_] != '\\') {
        text_ += inside_[place_++];
      } else {
        ++place_;
        Escape();
      }
    }
    return std::move(text_);
  }

 private:
  void Escape() {
    constexpr std::string_view kSigns = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    const char sign = inside_[place_];  // the lexer saw one behind every backslash
    if (const std::size_t known = kSigns.find(sign); known != std::string_view::npos) {
      text_ += kMeanings[known];
      ++place_;
    } else if (sign == '\n') {
      ++place_;
    } else if (sign >= '0' && sign <= '7') {
      Number(3, 8);
    } else if (sign == 'x' || sign == 'u' || sign == 'U') {
      ++place_;
      const std::size_t digits = sign == 'x' ? 2 : sign == 'u' ? 4 : 8;
      const std::size_t begin = place_;
      Number(digits, 16);
      if (place_ - begin != digits) throw Fault("an escape in a string is cut off");
    } else if (sign == 'N') {
      throw Fault("names of characters (\\N{...}) are not supported", "\\u and four digits");
    } else if (static_cast<unsigned char>(sign) >= 0x80) {
      // jinja2 writes such a character as an escape first, and so takes the backslash for another.
      const CodePoint point = CodePointAt(inside_, place_);
      const char* const form = point.value < 0x100     ? "\\x%02x"
                               : point.value < 0x10000 ? "\\u%04x"
                                                       : "\\U%08x";
      std::array<char, 16> spelled{};
      std::snprintf(spelled.data(), spelled.size(), form, static_cast<unsigned>(point.value));
      text_ += spelled.data();
      place_ += point.bytes;
    } else {
      text_ += '\\';  // no escape: both stay
    }
  }

  void Number(std::size_t most, int base) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < most && place_ < inside_.size(); ++i, ++place_) {
      const int digit = HexDigit(inside_[place_]);
      if (digit >= base) break;
      value = value * static_cast<std::uint64_t>(base) + static_cast<std::uint64_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      throw Fault("an escape in a string is no character");
    }
    AppendUtf8(text_, static_cast<char32_t>(value));
  }

  std::string_view inside_;
  std::size_t place_ = 0;
  std::string text_;
};

class Lexer {
 public:
  Lexer(std::string_view source, std::size_t& at) : source_(source), place_(at) { place_ = 0; }

  std::vector<Token> Run() {
    while (place_ < source_.size()) Root();
    Add(TokenKind::kEnd, place_);
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] char At(std::size_t place) const {
    return place < source_.size() ? source_[place] : '\0';
  }
  [[nodiscard]] bool StartsWith(std::string_view text) const {
    return source_.substr(place_).starts_with(text);
  }

  Token& Add(TokenKind kind, std::size_t at, std::string text = {}) {
    tokens_.push_back({.kind = kind, .at = at, .text = std::move(text)});
    return tokens_.back();
  }

  [[nodiscard]] std::size_t SkipSpace(std::size_t place) const {
    while (place < source_.size()) {
      const CodePoint point = CodePointAt(source_, place);
      if (!IsSpaceCharacter(point.value)) break;
      place += point.bytes;
    }
    return place;
  }

  /// Data up to the next tag, and the tag with what is in it.
  void Root() {
    std::size_t tag = place_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string_view::npos) {
        Add(TokenKind::kData, place_, std::string(source_.substr(place_)));
        place_ = source_.size();
        return;
      }
      const char kind = At(tag + 1);
      if (kind == '%' || kind == '{' || kind == '#') break;
    }
    const char kind = At(tag + 1);
    const char sign = At(tag + 2) == '-' || At(tag + 2) == '+' ? At(tag + 2) : '\0';
    AddData(place_, tag, sign, kind != '{');
    place_ = tag;
    const std::size_t inside = tag + (sign != '\0' ? 3 : 2);
    if (kind == '#') return Comment(inside);
    if (kind == '%' && Raw(inside)) return;
    Add(kind == '{' ? TokenKind::kOpenVariable : TokenKind::kOpenBlock, tag);
    place_ = inside;
    while (!Close(kind)) Inside();
  }

  /// The data before a tag, with the white space that the tag takes.
  void AddData(std::size_t begin, std::size_t end, char sign, bool block) {
    std::string_view data = source_.substr(begin, end - begin);
    if (sign == '-') {
      data = WithoutSpaceBehind(data);
    } else if (sign != '+' && block) {
      const std::size_t newline = data.rfind('\n');
      const std::size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line > 0 || line_begins_) && WithoutSpaceBehind(data.substr(line)).empty()) {
        data = data.substr(0, line);
      }
    }
    if (!data.empty()) Add(TokenKind::kData, begin, std::string(data));
  }

  /// Behind "%}", "}}" or "#}" at `end`: what the tag's end takes along.
  void Leave(std::size_t end, char sign, bool trims) {
    place_ = end;
    if (sign == '-') {
      place_ = SkipSpace(place_);
    } else if (sign != '+' && trims && At(place_) == '\n') {
      ++place_;
    }
    line_begins_ = place_ > end && source_[place_ - 1] == '\n';
  }

  void Comment(std::size_t inside) {
    const std::size_t end = source_.find("#}", inside);
    if (end == std::string_view::npos) throw Fault("a comment has no end", "#}");
    const char before = end > inside ? source_[end - 1] : '\0';
    Leave(end + 2, before, true);
  }

  /// The position behind "endraw" or "raw" and its tag's end; npos where it is none.
  struct NamedTag {
    std::size_t end = std::string_view::npos;
    char sign = '\0';
  };
  [[nodiscard]] NamedTag TagOf(std::string_view name, std::size_t inside) const {
    const std::size_t word = SkipSpace(inside);
    if (!source_.substr(word).starts_with(name)) return {};
    std::size_t end = SkipSpace(word + name.size());
    char sign = '\0';
    if (At(end) == '-' || At(end) == '+') sign = source_[end++];
    if (!source_.substr(end).starts_with("%}")) return {};
    return {.end = end + 2, .sign = sign};
  }

  /// {% raw %} ... {% endraw %}: data, whatever is in it.
  bool Raw(std::size_t inside) {
    const NamedTag open = TagOf("raw", inside);
    if (open.end == std::string_view::npos || open.sign == '+') return false;
    Leave(open.end, open.sign, false);
    const std::size_t begin = place_;
    for (std::size_t tag = begin;; ++tag) {
      tag = source_.find("{%", tag);
      if (tag == std::string_view::npos) throw Fault("raw has no end", "{% endraw %}");
      const char sign = At(tag + 2) == '-' || At(tag + 2) == '+' ? At(tag + 2) : '\0';
      const NamedTag close = TagOf("endraw", tag + (sign != '\0' ? 3 : 2));
      if (close.end == std::string_view::npos) continue;
      AddData(begin, tag, sign, true);
      Leave(close.end, close.sign, true);
      return true;
    }
  }

  /// The end of a tag of that kind, if it stands here and no bracket is open.
  bool Close(char kind) {
    if (!brackets_.empty()) return false;
    const std::string_view end = kind == '{' ? "}}" : "%}";
    char sign = '\0';
    if (At(place_) == '-' || (At(place_) == '+' && kind == '%')) sign = At(place_);
    const std::size_t begin = place_ + (sign != '\0' ? 1 : 0);
    if (!source_.substr(begin).starts_with(end)) return false;
    Add(kind == '{' ? TokenKind::kCloseVariable : TokenKind::kCloseBlock, place_);
    Leave(begin + 2, sign, kind == '%');
    return true;
  }

  /// One token of an expression.
  void Inside() {
    const std::size_t begin = place_;
    place_ = SkipSpace(place_);
    if (place_ != begin) return;
    if (place_ == source_.size()) throw Fault("a tag has no end", "%} or }}");
    const char c = source_[place_];
    if (IsAsciiDigit(c)) return NumberToken();
    if (c == '\'' || c == '"') return StringToken(c);
    if (NameToken()) return;
    for (const std::string_view sign : kOperators) {
      if (!StartsWith(sign)) continue;
      Bracket(sign);
      Add(TokenKind::kOperator, place_, std::string(sign));
      place_ += sign.size();
      return;
    }
    const std::size_t bytes = CodePointAt(source_, place_).bytes;
    throw Fault("unexpected character", {}, Printable(source_.substr(place_, bytes)));
  }

  void Bracket(std::string_view sign) {
    if (sign == "{" || sign == "(" || sign == "[") {
      brackets_ += sign == "{" ? '}' : sign == "(" ? ')' : ']';
    } else if (sign == "}" || sign == ")" || sign == "]") {
      if (brackets_.empty() || brackets_.back() != sign[0]) {
        throw Fault("a bracket closes that is not open",
                    brackets_.empty() ? std::string() : std::string(1, brackets_.back()),
                    std::string(sign));
      }
      brackets_.pop_back();
    }
  }

  bool NameToken() {
    std::size_t end = place_;
    while (end < source_.size()) {
      const CodePoint point = CodePointAt(source_, end);
      if (point.value != '_' && !IsLetterOrDigit(point.value)) break;
      end += point.bytes;
    }
    if (end == place_) return false;
    const CodePoint first = CodePointAt(source_, place_);
    if (first.value != '_' && !IsLetter(first.value)) {
      throw Fault("a name begins with a character that is no letter");
    }
    Add(TokenKind::kName, place_, std::string(source_.substr(place_, end - place_)));
    place_ = end;
    return true;
  }

  void StringToken(char quote) {
    std::size_t end = place_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) throw Fault("a string has no end", std::string(1, quote));
    const std::string_view inside = source_.substr(place_ + 1, end - place_ - 1);
    Add(TokenKind::kString, place_, LiteralReader(inside).Read());
    place_ = end + 1;
  }

  /// Past digits in `base`, with single underscores between them; `end` where there are none.
  [[nodiscard]] std::size_t Digits(std::size_t end, int base) const {
    if (HexDigit(At(end)) >= base) return end;
    while (HexDigit(At(end)) < base || (At(end) == '_' && HexDigit(At(end + 1)) < base)) ++end;
    return end;
  }

  void NumberToken() {
    const std::size_t whole = Digits(place_, 10);
    std::size_t end = whole;
    const bool after_dot = place_ > 0 && source_[place_ - 1] == '.';
    if (!after_dot) {
      if (At(end) == '.' && Digits(end + 1, 10) > end + 1) end = Digits(end + 1, 10);
      if (At(end) == 'e' || At(end) == 'E') {
        const std::size_t sign = At(end + 1) == '+' || At(end + 1) == '-' ? 1 : 0;
        const std::size_t exponent = Digits(end + 1 + sign, 10);
        if (exponent > end + 1 + sign) end = exponent;
      }
    }
    if (end > whole) {
      std::string digits(source_.substr(place_, end - place_));
      std::erase(digits, '_');
      double real = 0;
      std::from_chars(digits.data(), digits.data() + digits.size(), real);
      // from_chars leaves alone what is out of range; strtod has Python's 0 and infinity.
      if (real == 0) real = std::strtod(digits.c_str(), nullptr);
      Add(TokenKind::kFloat, place_).real = real;
      place_ = end;
      return;
    }
    IntegerToken(whole);
  }

  void IntegerToken(std::size_t whole) {
    int base = 10;
    std::size_t begin = place_;
    std::size_t end = whole;
    if (source_[place_] == '0') {
      const char letter = static_cast<char>(At(place_ + 1) | 0x20);
      const int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
      const std::size_t first = place_ + 2 + (At(place_ + 2) == '_' ? 1 : 0);
      if (named != 0 && Digits(first, named) > first) {
        base = named;
        begin = first;
        end = Digits(first, named);
      } else {  // zeros alone: 012 is 0 and 12
        end = place_ + 1;
        while (At(end) == '0' || (At(end) == '_' && At(end + 1) == '0')) ++end;
      }
    }
    std::string digits(source_.substr(begin, end - begin));
    std::erase(digits, '_');
    std::int64_t value = 0;
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (read.ec != std::errc()) throw Fault("a number is too large", "64 bits", digits);
    Add(TokenKind::kInteger, place_).integer = value;
    place_ = end;
  }

  std::string_view source_;
  std::size_t& place_;
  std::vector<Token> tokens_;
  std::string brackets_;  // those that close the ones that are open
  bool line_begins_ = true;
};

}  // namespace

std::string NormalizedSource(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      text += '\n';
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::vector<Token> Lex(std::string_view source, std::size_t& at) {
  return Lexer(source, at).Run();
}

}  // namespace lieq::jinja
