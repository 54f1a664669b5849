// Filters of single values: what stands behind "|". Those of lists are in jinja_list_filters.cpp.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <utility>

#include "lieq/chat/jinja_filter_rows.h"
#include "lieq/chat/jinja_run_parts.h"
#include "lieq/io/printable.h"
#include "lieq/text/characters.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

Value DefaultFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "default", {"default_value", "boolean"});
  const bool missing = value.Is(Kind::kUndefined) || (bound.True(1, false) && !IsTrue(value));
  if (!missing) return value;
  return bound.Has(0) ? bound[0] : MakeString(run.heap(), "");
}

template <LetterCase kCase>
Value CaseFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this filter", {});
  return run.String(InCase(run, run.Str(value), kCase));
}

Value TitleFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "title", {});
  const Text text = run.Str(value);
  const std::string& bytes = text.bytes();
  Text result;
  run.Step(bytes.size() / 16);
  bool first = true;  // words begin behind white space, hyphens and brackets that open
  for (std::size_t i = 0; i < bytes.size();) {
    const CodePoint point = CodePointAt(bytes, i);
    const bool between =
        IsSpaceCharacter(point.value) ||
        (point.bytes == 1 && std::string_view("-({[<").find(bytes[i]) != std::string_view::npos);
    result.Append(first && !between ? UpperOf(point.value) : LowerOf(point.value), text.MarkAt(i));
    first = between;
    i += point.bytes;
  }
  return run.String(std::move(result));
}

Value TrimFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "trim", {"chars"});
  if (bound.HasValue(0) && !bound[0].Is(Kind::kString)) throw Fault("trim takes a string");
  const Text text = run.Str(value);
  run.Step(text.size() / 64);
  return run.String(Stripped(text, bound.HasValue(0) ? &bound[0].text() : nullptr, true, true));
}

Value StringFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "string", {});
  return value.Is(Kind::kString) ? value : run.String(run.Str(value));
}

Value LengthFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "length", {});
  return Value::Int(run.LengthOf(value));
}

Value ReplaceFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"}, 2);
  const std::int64_t most = bound.HasValue(2) ? bound.Integer(2, -1) : -1;
  return run.String(Replaced(run, run.Str(value), run.Str(bound[0]), run.Str(bound[1]), most));
}

Value IndentFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "indent", {"width", "first", "blank"});
  if (!value.Is(Kind::kString))
    throw Fault("indent takes a string", {}, std::string(TypeName(value)));
  Text indent;
  if (bound.Has(0) && bound[0].Is(Kind::kString)) {
    indent = bound[0].text();
  } else {
    const std::int64_t width = std::max<std::int64_t>(bound.Integer(0, 4), 0);
    run.heap().Check(static_cast<std::size_t>(width));
    indent = Text(std::string(static_cast<std::size_t>(width), ' '));
  }
  Text text = value.text();
  text.Append("\n");  // so that the end of a last line is a line, as jinja2 does it
  const std::vector<Text> lines = LinesOf(text, false);
  Text result;
  if (bound.True(1, false)) result.Append(indent);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    run.Step(1 + indent.size() / 64);
    if (i > 0) result.Append("\n");
    if (i > 0 && (bound.True(2, false) || lines[i].size() > 0)) result.Append(indent);
    result.Append(lines[i]);
    run.heap().Check(result.cost());
  }
  return run.String(std::move(result));
}

/// What int() of Python takes as a number in `base`.
std::optional<std::int64_t> IntegerOf(const std::string& text, int base) {
  std::string digits(WithoutSpaceAround(text));
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  const std::string_view prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
  if (!prefix.empty() && digits.size() > 2 && digits[0] == '0' && (digits[1] | 0x20) == prefix[1]) {
    digits.erase(0, 2);
  }
  if (digits.empty() || digits.front() == '_' || digits.back() == '_' ||
      digits.find("__") != std::string::npos) {
    return std::nullopt;
  }
  std::erase(digits, '_');
  if (negative) digits.insert(0, "-");
  std::int64_t value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (digits == "-" || read.ptr != digits.data() + digits.size()) return std::nullopt;
  if (read.ec != std::errc())
    throw Fault("an integer is too large", "64 bits", Printable(digits.substr(0, 40)));
  return value;
}

std::optional<double> FloatOf(const std::string& text) {
  std::string digits(WithoutSpaceAround(text));
  if (digits.find("__") != std::string::npos ||
      digits.find_first_of("xXpP(") != std::string::npos || digits.starts_with('_') ||
      digits.ends_with('_') || digits.find('\0') != std::string::npos) {
    return std::nullopt;
  }
  std::erase(digits, '_');
  if (digits.empty() || IsSpaceCharacter(static_cast<unsigned char>(digits[0])))
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> Truncated(double value) {
  if (std::isnan(value) || std::isinf(value)) return std::nullopt;
  if (!(value > -9.2e18 && value < 9.2e18)) throw Fault("an integer is too large", "64 bits");
  return static_cast<std::int64_t>(value);
}

Value IntFilter(Run&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "int", {"default", "base"});
  if (value.Is(Kind::kUndefined)) throw Fault(UndefinedMessage(value));
  const Value missing = bound.Has(0) ? bound[0] : Value::Int(0);
  if (value.IsIntegral()) return Value::Int(value.integer());
  std::optional<std::int64_t> result;
  if (value.Is(Kind::kFloat)) {
    result = Truncated(value.real());
    if (!result && std::isinf(value.real())) throw Fault("infinity is no integer");
  } else if (value.Is(Kind::kString)) {
    const std::int64_t base = bound.Integer(1, 10);
    if (base >= 2 && base <= 36) result = IntegerOf(value.bytes(), static_cast<int>(base));
    if (!result) {
      if (const std::optional<double> real = FloatOf(value.bytes())) result = Truncated(*real);
    }
  }
  return result.has_value() ? Value::Int(*result) : missing;
}

Value FloatFilter(Run&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "float", {"default"});
  if (value.Is(Kind::kUndefined)) throw Fault(UndefinedMessage(value));
  if (value.IsNumber()) return Value::Float(value.real());
  if (value.Is(Kind::kString)) {
    if (const std::optional<double> real = FloatOf(value.bytes())) return Value::Float(*real);
  }
  return bound.Has(0) ? bound[0] : Value::Float(0);
}

Value AbsFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "abs", {});
  if (value.Is(Kind::kFloat)) return Value::Float(std::abs(value.real()));
  if (!value.IsIntegral()) throw Fault("abs takes a number", {}, std::string(TypeName(value)));
  return value.integer() < 0 ? run.Negative(value) : Value::Int(value.integer());
}

Value RoundFilter(Run&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "round", {"precision", "method"});
  if (!value.IsNumber()) throw Fault("round takes a number", {}, std::string(TypeName(value)));
  const std::int64_t precision = bound.Integer(0, 0);
  const std::string method =
      bound.Has(1) && bound[1].Is(Kind::kString) ? bound[1].bytes() : "common";
  if (precision > 300 || precision < -300) throw Fault("a precision is too large");
  const double power = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil" || method == "floor") {
    const double scaled = value.real() * power;
    if (!std::isfinite(scaled)) throw Fault("this cannot be rounded");
    return Value::Float(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) /
                        power);
  }
  if (method != "common")
    throw Fault("round knows the methods common, ceil and floor", {}, Printable(method));
  if (value.IsIntegral()) {
    if (precision >= 0) return Value::Int(value.integer());
    throw Fault("integers are not rounded to tens here");
  }
  if (!std::isfinite(value.real())) return value;
  // printf rounds the exact value to the nearest, halves to even, as Python does.
  std::array<char, 700> buffer{};
  if (precision < 0) return Value::Float(std::nearbyint(value.real() * power) / power);
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(precision), value.real());
  return Value::Float(std::strtod(buffer.data(), nullptr));
}

Value EscapeFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "escape", {});
  constexpr std::string_view kSigns = "&<>'\"";
  constexpr std::array<std::string_view, 5> kNames{"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  const Text text = run.Str(value);
  Text result;
  run.Step(text.size() / 16);
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t next = std::min(text.bytes().find_first_of(kSigns, i), text.size());
    result.Append(text, i, next);
    if (next < text.size()) {
      result.Append(kNames[kSigns.find(text.bytes()[next])], text.MarkAt(next));
    }
    i = next + 1;
  }
  return run.String(std::move(result));
}

Value FormatFilter(Run& run, const Value& value, Arguments& arguments) {
  if (!arguments.named.empty() && !arguments.positional.empty()) {
    throw Fault("format takes values, or names, not both");
  }
  if (arguments.named.empty()) {
    return run.String(FormatPercent(run, run.Str(value),
                                    MakeSequence(run.heap(), Kind::kTuple, arguments.positional)));
  }
  const auto dict = std::make_shared<DictObject>(run.heap());
  for (const auto& [name, item] : arguments.named) dict->Set(MakeString(run.heap(), name), item);
  return run.String(FormatPercent(run, run.Str(value), MakeDict(dict)));
}

Value AttrFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "attr", {"name"}, 1);
  if (!bound[0].Is(Kind::kString)) throw Fault("attr takes a name");
  if (value.Is(Kind::kDict)) {  // attributes alone, no items
    if (std::optional<Value> method = MethodOf(run, value, bound[0].bytes())) return *method;
    return MakeUndefined(run.heap(), "a dict has no attribute '" + bound[0].bytes() + "'");
  }
  return run.Attribute(value, bound[0].bytes());
}

Value WordcountFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "wordcount", {});
  const Text text = run.Str(value);
  const std::string& bytes = text.bytes();
  run.Step(bytes.size() / 16);
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t i = 0; i < bytes.size(); i = NextCharacter(bytes, i)) {
    const char32_t character = CodePointAt(bytes, i).value;
    const bool word = character == '_' || IsLetterOrDigit(character);
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value::Int(words);
}

/// A method of strings, of the value's text.
Value CenterFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "center", {"width"});
  Arguments width{.positional = {Value::Int(bound.Integer(0, 80))}, .named = {}};
  return run.Call(*MethodOf(run, run.String(run.Str(value)), "center"), width);
}

constexpr std::array<FilterRow, 25> kTextFilters{{
    {"default", DefaultFilter},
    {"d", DefaultFilter},
    {"upper", CaseFilter<LetterCase::kUpper>},
    {"lower", CaseFilter<LetterCase::kLower>},
    {"capitalize", CaseFilter<LetterCase::kCapitalized>},
    {"title", TitleFilter},
    {"trim", TrimFilter},
    {"string", StringFilter},
    {"safe", StringFilter},
    {"length", LengthFilter},
    {"count", LengthFilter},
    {"replace", ReplaceFilter},
    {"indent", IndentFilter},
    {"int", IntFilter},
    {"float", FloatFilter},
    {"abs", AbsFilter},
    {"round", RoundFilter},
    {"escape", EscapeFilter},
    {"e", EscapeFilter},
    {"forceescape", EscapeFilter},
    {"format", FormatFilter},
    {"attr", AttrFilter},
    {"wordcount", WordcountFilter},
    {"center", CenterFilter},
    {"tojson", ToJson},
}};

}  // namespace

Value Run::Filter(std::string_view name, const Value& value, Arguments& arguments) {
  const Deeper deeper(*this);
  for (const std::span<const FilterRow> rows :
       {std::span<const FilterRow>(kTextFilters), ListFilters()}) {
    for (const FilterRow& row : rows) {
      if (row.name == name) return row.filter(*this, value, arguments);
    }
  }
  throw Fault("there is no filter of this name", {}, Printable(name));
}

}  // namespace lieq::jinja
