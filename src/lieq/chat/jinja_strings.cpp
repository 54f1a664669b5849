#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/io/printable.h"
#include "lieq/text/characters.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {

std::int64_t CharactersOf(const std::string& text) {
  return std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::size_t NextCharacter(const std::string& text, std::size_t place) {
  if (place >= text.size()) return text.size();
  return static_cast<unsigned char>(text[place]) < 0x80 ? place + 1
                                                        : place + CodePointAt(text, place).bytes;
}

namespace {

/// Where the character before `place` begins.
std::size_t PreviousCharacter(const std::string& text, std::size_t place) {
  do {
    --place;
  } while (place > 0 && (static_cast<unsigned char>(text[place]) & 0xC0) == 0x80);
  return place;
}

bool IsStripped(const std::string& text, std::size_t begin, std::size_t end,
                const Text* characters) {
  if (characters == nullptr) return IsSpaceCharacter(CodePointAt(text, begin).value);
  return characters->bytes().find(text.substr(begin, end - begin)) != std::string::npos;
}

}  // namespace

Text Stripped(const Text& text, const Text* characters, bool left, bool right) {
  const std::string& bytes = text.bytes();
  std::size_t begin = 0;
  std::size_t end = bytes.size();
  while (left && begin < end) {
    const std::size_t next = NextCharacter(bytes, begin);
    if (!IsStripped(bytes, begin, next, characters)) break;
    begin = next;
  }
  while (right && begin < end) {
    const std::size_t last = PreviousCharacter(bytes, end);
    if (!IsStripped(bytes, last, end, characters)) break;
    end = last;
  }
  return text.Part(begin, end);
}

Text Replaced(Run& run, const Text& text, const Text& old, const Text& with, std::int64_t most) {
  const std::string& bytes = text.bytes();
  Text result;
  std::size_t done = 0;
  const auto grow = [&] {
    run.Step(1 + with.size() / 64);
    run.heap().Check(result.cost() + with.cost());
  };
  run.Step(bytes.size() / 16);
  if (old.size() == 0) {  // before every character, and at the end
    for (std::int64_t i = 0; most < 0 || i < most; ++i) {
      grow();
      result.Append(with);
      if (done == bytes.size()) return result;
      const std::size_t next = NextCharacter(bytes, done);
      result.Append(text, done, next);
      done = next;
    }
  } else {
    for (std::int64_t i = 0; most < 0 || i < most; ++i) {
      const std::size_t found = bytes.find(old.bytes(), done);
      if (found == std::string::npos) break;
      grow();
      result.Append(text, done, found);
      result.Append(with);
      done = found + old.size();
    }
  }
  result.Append(text, done, bytes.size());
  return result;
}

std::vector<Text> LinesOf(const Text& text, bool ends) {
  std::vector<Text> lines;
  const std::string& bytes = text.bytes();
  std::size_t begin = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    const CodePoint point = CodePointAt(bytes, i);
    const char32_t c = point.value;
    std::size_t next = i + point.bytes;
    const bool breaks = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (breaks) {
      if (c == '\r' && next < bytes.size() && bytes[next] == '\n') ++next;
      lines.push_back(text.Part(begin, ends ? next : i));
      begin = next;
    }
    i = next;
  }
  if (begin < bytes.size()) lines.push_back(text.Part(begin, bytes.size()));
  return lines;
}

Text InCase(Run& run, const Text& text, LetterCase wanted) {
  Text result;
  const std::string& bytes = text.bytes();
  run.Step(bytes.size() / 16);
  bool inside = false;  // behind a letter
  for (std::size_t i = 0; i < bytes.size();) {
    const CodePoint point = CodePointAt(bytes, i);
    const char32_t c = point.value;
    std::string changed;
    switch (wanted) {
      case LetterCase::kUpper:
        changed = UpperOf(c);
        break;
      case LetterCase::kLower:
        changed = LowerOf(c);
        break;
      case LetterCase::kTitle:
      case LetterCase::kCapitalized:
        changed = inside ? LowerOf(c) : TitleOf(c);
        break;
      case LetterCase::kSwapped:
        changed = IsUpperLetter(c) ? LowerOf(c) : IsLowerLetter(c) ? UpperOf(c) : LowerOf(c);
        break;
    }
    inside = wanted == LetterCase::kCapitalized || IsUpperLetter(c) || IsLowerLetter(c) ||
             LowerOf(c) != UpperOf(c);
    result.Append(changed, text.MarkAt(i));
    i += point.bytes;
  }
  return result;
}

namespace {

/// One conversion of "%...": flags, width, precision and letter.
struct Conversion {
  bool left = false;
  bool zeros = false;
  bool plus = false;
  bool space = false;
  bool alternate = false;
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char letter = 's';
};

std::int64_t ReadNumber(const std::string& text, std::size_t& i) {
  std::int64_t number = 0;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') {
    number = number * 10 + (text[i++] - '0');
    if (number > 100'000) throw Fault("a width in a format is too large");
  }
  return number;
}

Conversion ReadConversion(const std::string& text, std::size_t& i) {
  Conversion conversion;
  for (; i < text.size(); ++i) {
    if (text[i] == '-')
      conversion.left = true;
    else if (text[i] == '0')
      conversion.zeros = true;
    else if (text[i] == '+')
      conversion.plus = true;
    else if (text[i] == ' ')
      conversion.space = true;
    else if (text[i] == '#')
      conversion.alternate = true;
    else
      break;
  }
  conversion.width = ReadNumber(text, i);
  if (i < text.size() && text[i] == '.') {
    ++i;
    conversion.precision = ReadNumber(text, i);
  }
  if (i == text.size()) throw Fault("a format ends inside a conversion");
  conversion.letter = text[i++];
  return conversion;
}

Text Padded(const Text& text, const Conversion& conversion) {
  const std::int64_t missing = conversion.width - CharactersOf(text.bytes());
  if (missing <= 0) return text;
  const std::string padding(static_cast<std::size_t>(missing), ' ');
  Text result;
  if (!conversion.left) result.Append(padding);
  result.Append(text);
  if (conversion.left) result.Append(padding);
  return result;
}

/// A number by printf, whose conversions of numbers are Python's.
std::string Printed(const Conversion& conversion, const Value& value) {
  if (!value.IsNumber()) throw Fault("a format wants a number", {}, std::string(TypeName(value)));
  const bool real = std::string_view("eEfFgG").find(conversion.letter) != std::string_view::npos;
  if (!real && value.Is(Kind::kFloat) && conversion.letter != 'd' && conversion.letter != 'i' &&
      conversion.letter != 'u') {
    throw Fault("a format wants an integer", {}, "float");
  }
  std::string form = "%";
  if (conversion.left) form += '-';
  if (conversion.zeros) form += '0';
  if (conversion.plus) form += '+';
  if (conversion.space) form += ' ';
  form += "*";
  if (conversion.precision >= 0) form += ".*";
  const int width = static_cast<int>(conversion.width);
  const int precision = static_cast<int>(conversion.precision);
  if (conversion.precision > 1000) throw Fault("a precision in a format is too large");
  std::string buffer(static_cast<std::size_t>(conversion.width) + 1500, '\0');
  const auto print = [&](auto number) {
  // The form is made above, of known parts.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int length =
        conversion.precision >= 0
            ? std::snprintf(buffer.data(), buffer.size(), form.c_str(), width, precision, number)
            : std::snprintf(buffer.data(), buffer.size(), form.c_str(), width, number);
#pragma GCC diagnostic pop
    buffer.resize(static_cast<std::size_t>(std::max(length, 0)));
  };
  if (real) {
    form += conversion.letter;
    print(value.real());
  } else {
    std::int64_t number = value.integer();
    if (value.Is(Kind::kFloat)) {
      if (!(value.real() > -9.2e18 && value.real() < 9.2e18)) throw Fault("a number is too large");
      number = static_cast<std::int64_t>(value.real());
    }
    if (number < 0 && conversion.letter != 'd' && conversion.letter != 'i' &&
        conversion.letter != 'u') {
      throw Fault("a negative number in a format of this kind is not supported");
    }
    form += "ll";
    form += conversion.letter == 'u' ? 'd' : conversion.letter;
    print(static_cast<long long>(number));
  }
  return buffer;
}

}  // namespace

Text FormatPercent(Run& run, const Text& format, const Value& values) {
  const std::string& text = format.bytes();
  const bool tuple = values.Is(Kind::kTuple);
  std::size_t used = 0;
  bool named = false;
  Text result;
  const auto next = [&]() -> Value {
    if (tuple ? used >= values.items().size() : used > 0) {
      throw Fault("a format has fewer values than it wants");
    }
    return tuple ? values.items()[used++] : (++used, values);
  };
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t sign = std::min(text.find('%', i), text.size());
    result.Append(format, i, sign);
    i = sign;
    if (i == text.size()) break;
    ++i;
    run.Step();
    std::optional<Value> by_name;
    if (i < text.size() && text[i] == '(') {
      const std::size_t end = text.find(')', i);
      if (end == std::string::npos || !values.Is(Kind::kDict)) throw Fault("a format wants a dict");
      const Value* const item =
          DictOf(values).Find(MakeString(run.heap(), text.substr(i + 1, end - i - 1)));
      if (item == nullptr) throw Fault("a format wants a key that is not there");
      by_name = *item;
      named = true;
      i = end + 1;
    }
    const Conversion conversion = ReadConversion(text, i);
    if (conversion.letter == '%') {
      result.Append("%");
      continue;
    }
    const Value value = by_name.has_value() ? *by_name : next();
    Text part;
    if (conversion.letter == 's' || conversion.letter == 'r') {
      conversion.letter == 's' ? AppendStr(run.heap(), value, part)
                               : AppendRepr(run.heap(), value, part);
      if (conversion.precision >= 0) {
        std::size_t end = 0;
        for (std::int64_t k = 0; k < conversion.precision; ++k)
          end = NextCharacter(part.bytes(), end);
        part = part.Part(0, end);
      }
      part = Padded(part, conversion);
    } else if (std::string_view("diueEfFgGxXo").find(conversion.letter) != std::string_view::npos &&
               !conversion.alternate) {
      part = Text(Printed(conversion, value));
    } else {
      throw Fault("this conversion of a format is not supported", "%s, %d, %f, ...",
                  Printable(std::string{'%', conversion.letter}));
    }
    run.heap().Check(result.cost() + part.cost());
    result.Append(part);
  }
  const bool left_over =
      tuple ? used < values.items().size()
            : used == 0 && !named && !values.Is(Kind::kDict) && !values.Is(Kind::kList);
  if (left_over) throw Fault("a format has more values than it wants");
  return result;
}

}  // namespace lieq::jinja
