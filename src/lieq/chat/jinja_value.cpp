#include "lieq/chat/jinja_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include "lieq/text/characters.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

constexpr std::uint32_t kDeepest = 200;  // containers in one another
constexpr std::size_t kIndexed = 16;     // keys that a dict goes through without an index

std::uint32_t DepthOf(const Value& value) {
  return value.object() == nullptr ? 0 : value.object()->depth;
}

constexpr std::array<std::string_view, 16> kTypeNames{
    "Undefined", "NoneType", "bool",      "int",  "float",     "str",      "list",        "tuple",
    "range",     "view",     "generator", "dict", "Namespace", "function", "LoopContext", "Cycler"};

}  // namespace

void Object::Contain(const Value& value) {
  depth = std::max(depth, DepthOf(value) + 1);
  if (depth > kDeepest) {
    throw Fault("lists lie too deep in one another", "at most " + std::to_string(kDeepest));
  }
}

void Heap::Check(std::size_t bytes) const {
  if (bytes > limit_ || held_ > limit_ - bytes) {
    throw Fault("the template takes too much memory",
                "at most " + std::to_string(limit_) + " bytes");
  }
}

void Heap::Step(std::size_t steps) {
  steps_ += steps;
  if (steps_ > most_steps_) {
    throw Fault("the template takes too many steps", "at most " + std::to_string(most_steps_));
  }
}

Value Value::Bool(bool value) {
  Value result(Kind::kBool);
  result.integer_ = value ? 1 : 0;
  return result;
}

Value Value::Int(std::int64_t value) {
  Value result(Kind::kInt);
  result.integer_ = value;
  return result;
}

Value Value::Float(double value) {
  Value result(Kind::kFloat);
  result.real_ = value;
  return result;
}

const Text& Value::text() const {
  return static_cast<const StringObject&>(*object_).text;
}

const std::vector<Value>& Value::items() const {
  return static_cast<const SequenceObject&>(*object_).items;
}

SequenceObject::SequenceObject(Heap& heap, std::vector<Value> values, std::string label)
    : Object(heap, sizeof(*this) + values.size() * sizeof(Value)),
      items(std::move(values)),
      name(std::move(label)) {
  for (const Value& item : items) Contain(item);
}

std::string DictObject::KeyOf(const Value& key) {
  switch (key.kind()) {
    case Kind::kNone:
      return "0";
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat: {  // equal numbers are one key, whatever their type
      if (!key.Is(Kind::kFloat)) return "n" + std::to_string(key.integer());
      const double real = key.real();
      if (std::abs(real) < 1e18 && std::floor(real) == real) {
        return "n" + std::to_string(static_cast<std::int64_t>(real));
      }
      return "f" + FloatText(real);
    }
    case Kind::kString:
      return "s" + key.bytes();
    case Kind::kTuple: {
      std::string text = "(";
      for (const Value& item : key.items()) {
        const std::string part = KeyOf(item);
        text += std::to_string(part.size()) + ":" + part;
        key.object()->owner->Step(1 + part.size() / 64);
        key.object()->owner->Check(text.size());
      }
      return text;
    }
    case Kind::kUndefined:
      return "u";
    default:
      throw Fault("this cannot be a key: unhashable type '" + std::string(TypeName(key)) + "'");
  }
}

std::size_t DictObject::Place(const Value& key) const {
  if (places_.empty()) {
    const std::string wanted = key.Is(Kind::kString) ? std::string() : KeyOf(key);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Value& other = items[i].first;
      if (key.Is(Kind::kString) ? other.Is(Kind::kString) && other.bytes() == key.bytes()
                                : !other.Is(Kind::kString) && KeyOf(other) == wanted) {
        return i;
      }
    }
    return items.size();
  }
  const auto found = places_.find(KeyOf(key));
  return found == places_.end() ? items.size() : found->second;
}

const Value* DictObject::Find(const Value& key) const {
  const std::size_t place = Place(key);
  return place == items.size() ? nullptr : &items[place].second;
}

void DictObject::Set(const Value& key, Value value) {
  Contain(value);
  Contain(key);
  const std::size_t place = Place(key);
  if (place < items.size()) {
    items[place].second = std::move(value);
    return;
  }
  std::size_t bytes = sizeof(items[0]);
  if (items.size() >= kIndexed) bytes += 64 + (key.Is(Kind::kString) ? key.bytes().size() : 0);
  owner->Take(bytes);
  cost += bytes;
  items.emplace_back(key, std::move(value));
  if (!places_.empty()) {
    places_.emplace(KeyOf(key), place);
  } else if (items.size() > kIndexed) {
    for (std::size_t i = 0; i < items.size(); ++i) places_.emplace(KeyOf(items[i].first), i);
  }
}

Value MakeUndefined(Heap& heap, std::string message) {
  return {Kind::kUndefined, std::make_shared<UndefinedObject>(heap, std::move(message))};
}

Value MakeString(Heap& heap, Text text) {
  return {Kind::kString, std::make_shared<StringObject>(heap, std::move(text))};
}

Value MakeString(Heap& heap, std::string_view bytes) {
  return MakeString(heap, Text(std::string(bytes)));
}

Value MakeSequence(Heap& heap, Kind kind, std::vector<Value> items, std::string name) {
  return {kind, std::make_shared<SequenceObject>(heap, std::move(items), std::move(name))};
}

Value MakeDict(std::shared_ptr<DictObject> dict) {
  return {Kind::kDict, std::move(dict)};
}

std::string_view TypeName(const Value& value) {
  return kTypeNames[static_cast<std::size_t>(value.kind())];
}

std::string UndefinedMessage(const Value& value) {
  if (value.object() == nullptr) return "a value is undefined";
  return static_cast<const UndefinedObject&>(*value.object()).message;
}

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
      return !value.bytes().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return !value.items().empty();
    case Kind::kDict:
      return !DictOf(value).items.empty();
    default:
      return true;
  }
}

bool IsEqual(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) return a.integer() == b.integer();
    return a.real() == b.real();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.bytes() == b.bytes();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      a.object()->owner->Step(a.items().size());
      return a.object() == b.object() || std::ranges::equal(a.items(), b.items(), IsEqual);
    case Kind::kDict: {
      if (DictOf(a).items.size() != DictOf(b).items.size()) return false;
      a.object()->owner->Step(DictOf(a).items.size());
      return std::ranges::all_of(DictOf(a).items, [&](const auto& item) {
        const Value* other = DictOf(b).Find(item.first);
        return other != nullptr && IsEqual(item.second, *other);
      });
    }
    default:
      return a.object() == b.object();
  }
}

bool IsLess(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) return a.integer() < b.integer();
    return a.real() < b.real();
  }
  if (a.Is(Kind::kString) && b.Is(Kind::kString)) return a.bytes() < b.bytes();
  const bool lists = a.Is(Kind::kList) && b.Is(Kind::kList);
  if (lists || (a.Is(Kind::kTuple) && b.Is(Kind::kTuple))) {
    a.object()->owner->Step(a.items().size());
    for (std::size_t i = 0; i < std::min(a.items().size(), b.items().size()); ++i) {
      if (!IsEqual(a.items()[i], b.items()[i])) return IsLess(a.items()[i], b.items()[i]);
    }
    return a.items().size() < b.items().size();
  }
  for (const Value* value : {&a, &b}) {
    if (value->Is(Kind::kUndefined)) throw Fault(UndefinedMessage(*value));
  }
  throw Fault("there is no order between these", "two numbers, two strings or two lists",
              std::string(TypeName(a)) + " and " + std::string(TypeName(b)));
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto ended = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                   std::chars_format::scientific);
  const std::string_view shortest(buffer.data(), ended.ptr);
  const std::size_t e = shortest.find('e');
  int exponent = 0;
  const std::string_view digits = shortest.substr(e + 1);
  std::from_chars(digits.data() + (digits[0] == '+' ? 1 : 0), digits.data() + digits.size(),
                  exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);  // as Python writes it too
  const auto fixed =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string text(buffer.data(), fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

namespace {

void AppendItems(Heap& heap, const std::vector<Value>& items, std::string_view open,
                 std::string_view close, Text& text) {
  text.Append(open);
  heap.Step(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text.Append(", ");
    AppendRepr(heap, items[i], text);
    heap.Check(text.cost());
  }
  text.Append(close);
}

void AppendQuoted(const Text& value, Text& text) {
  const std::string& bytes = value.bytes();
  const bool doubled =
      bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = doubled ? '"' : '\'';
  text.Append(std::string(1, quote));
  for (std::size_t i = 0; i < bytes.size();) {
    const CodePoint point = CodePointAt(bytes, i);
    const Mark mark = value.MarkAt(i);
    const char32_t c = point.value;
    std::array<char, 16> escape{};
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      text.Append(std::string{'\\', static_cast<char>(c)}, mark);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      text.Append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", mark);
    } else if (!IsPrintableCharacter(c)) {
      const char* const form = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
      const int length =
          std::snprintf(escape.data(), escape.size(), form, static_cast<unsigned>(c));
      text.Append(std::string_view(escape.data(), static_cast<std::size_t>(length)), mark);
    } else {
      text.Append(value, i, i + point.bytes);
    }
    i += point.bytes;
  }
  text.Append(std::string(1, quote));
}

void AppendPairs(Heap& heap, const std::vector<std::pair<Value, Value>>& items, Text& text) {
  text.Append("{");
  heap.Step(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text.Append(", ");
    AppendRepr(heap, items[i].first, text);
    text.Append(": ");
    AppendRepr(heap, items[i].second, text);
    heap.Check(text.cost());
  }
  text.Append("}");
}

}  // namespace

void AppendRepr(Heap& heap, const Value& value, Text& text) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return text.Append("Undefined");
    case Kind::kString:
      return AppendQuoted(value.text(), text);
    case Kind::kList:
      return AppendItems(heap, value.items(), "[", "]", text);
    case Kind::kTuple:
      return AppendItems(heap, value.items(), "(", value.items().size() == 1 ? ",)" : ")", text);
    case Kind::kView:
      text.Append(static_cast<const SequenceObject&>(*value.object()).name);
      return AppendItems(heap, value.items(), "([", "])", text);
    case Kind::kRange:
      return text.Append(static_cast<const SequenceObject&>(*value.object()).name);
    case Kind::kDict:
      return AppendPairs(heap, DictOf(value).items, text);
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return AppendStr(heap, value, text);
    default:
      text.Append("<" + std::string(TypeName(value)) + ">");  // Python has an address in it
  }
}

void AppendStr(Heap& heap, const Value& value, Text& text) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return;
    case Kind::kNone:
      return text.Append("None");
    case Kind::kBool:
      return text.Append(value.integer() != 0 ? "True" : "False");
    case Kind::kInt:
      return text.Append(std::to_string(value.integer()));
    case Kind::kFloat:
      return text.Append(FloatText(value.real()));
    case Kind::kString:
      heap.Check(text.cost() + value.text().cost());
      return text.Append(value.text());
    default:
      return AppendRepr(heap, value, text);
  }
}

Text StrOf(Heap& heap, const Value& value) {
  if (value.Is(Kind::kString)) return value.text();
  Text text;
  AppendStr(heap, value, text);
  return text;
}

}  // namespace lieq::jinja
