#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

std::string PairOfTypes(const Value& a, const Value& b) {
  return std::string(TypeName(a)) + " and " + std::string(TypeName(b));
}

[[noreturn]] void RefuseOperands(std::string_view sign, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (value->Is(Kind::kUndefined)) throw Fault(UndefinedMessage(*value));
  }
  throw Fault("'" + std::string(sign) + "' cannot be applied to these", {}, PairOfTypes(a, b));
}

void RefuseOverflow(bool overflow) {
  if (overflow) throw Fault("an integer grows too large", "64 bits");
}

std::int64_t Added(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  RefuseOverflow(__builtin_add_overflow(a, b, &result));
  return result;
}

std::int64_t Subtracted(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  RefuseOverflow(__builtin_sub_overflow(a, b, &result));
  return result;
}

std::int64_t Multiplied(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  RefuseOverflow(__builtin_mul_overflow(a, b, &result));
  return result;
}

std::int64_t FloorDivided(std::int64_t a, std::int64_t b) {
  if (b == 0) throw Fault("division by zero");
  if (b == -1) return Subtracted(0, a);
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

std::int64_t IntegerPower(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (std::int64_t i = 0; i < exponent; ++i) {  // ends soon: it overflows
    result = Multiplied(result, base);
  }
  return result;
}

Value OfIntegers(std::string_view sign, std::int64_t a, std::int64_t b) {
  if (sign == "+") return Value::Int(Added(a, b));
  if (sign == "-") return Value::Int(Subtracted(a, b));
  if (sign == "*") return Value::Int(Multiplied(a, b));
  if (sign == "//") return Value::Int(FloorDivided(a, b));
  if (sign == "%") return Value::Int(b == -1 ? 0 : a - FloorDivided(a, b) * b);
  return Value::Int(IntegerPower(a, b));
}

Value OfFloats(std::string_view sign, double a, double b) {
  if (sign == "+") return Value::Float(a + b);
  if (sign == "-") return Value::Float(a - b);
  if (sign == "*") return Value::Float(a * b);
  if (sign == "**") {
    const double power = std::pow(a, b);
    if ((a == 0 && b < 0) || (std::isnan(power) && !std::isnan(a) && !std::isnan(b)) ||
        (std::isinf(power) && !std::isinf(a) && !std::isinf(b))) {
      throw Fault("this power is no number");
    }
    return Value::Float(power);
  }
  if (b == 0) throw Fault("division by zero");
  if (sign == "/") return Value::Float(a / b);
  // As Python has it: the rest has the sign of the divisor, and belongs to the quotient.
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) {
    rest += b;
    quotient -= 1;
  }
  if (rest == 0) rest = std::copysign(0.0, b);
  if (sign == "%") return Value::Float(rest);
  if (quotient == 0) return Value::Float(std::copysign(0.0, a / b));
  double floor = std::floor(quotient);
  if (quotient - floor > 0.5) floor += 1;
  return Value::Float(floor);
}

/// A part of `length` items from a bound of a slice, as Python clips it.
std::int64_t Clipped(const Value& bound, std::int64_t length, std::int64_t missing, bool backward) {
  if (bound.Is(Kind::kNone)) return missing;
  if (bound.Is(Kind::kUndefined) || !bound.IsIntegral()) {
    throw Fault("bounds of a slice are integers", {}, std::string(TypeName(bound)));
  }
  std::int64_t place = bound.integer();
  if (place < 0) place = place < -length ? -1 : place + length;
  if (bound.integer() < 0 && place < 0) return backward ? -1 : 0;
  return std::min(place, backward ? length - 1 : length);
}

std::vector<std::int64_t> SlicedPlaces(Run& run, std::int64_t length, const Value& begin,
                                       const Value& end, const Value& step) {
  std::int64_t by = 1;
  if (!step.Is(Kind::kNone)) {
    if (!step.IsIntegral()) throw Fault("the step of a slice is an integer");
    by = step.integer();
  }
  if (by == 0) throw Fault("the step of a slice is zero");
  by = std::clamp(by, -length - 1, length + 1);
  const std::int64_t first = Clipped(begin, length, by < 0 ? length - 1 : 0, by < 0);
  const std::int64_t last = Clipped(end, length, by < 0 ? -1 : length, by < 0);
  std::vector<std::int64_t> places;
  for (std::int64_t i = first; by < 0 ? i > last : i < last; i += by) {
    run.Step();
    places.push_back(i);
  }
  return places;
}

/// A part of a range, which is a range. part: its items.
Value SlicedRange(Run& run, const Value& range, std::vector<Value> part, const Value& begin,
                  const Value& end, const Value& step) {
  const auto& object = static_cast<const SequenceObject&>(*range.object());
  long long from = 0, to = 0, by = 1;
  std::sscanf(object.name.c_str(), "range(%lld, %lld, %lld)", &from, &to, &by);
  const auto length = static_cast<std::int64_t>(object.items.size());
  const std::int64_t stride = step.Is(Kind::kNone) ? 1 : step.integer();
  const std::int64_t first = Clipped(begin, length, stride < 0 ? length - 1 : 0, stride < 0);
  const std::int64_t last = Clipped(end, length, stride < 0 ? -1 : length, stride < 0);
  return MakeSequence(run.heap(), Kind::kRange, std::move(part),
                      RangeName(Added(from, Multiplied(first, by)),
                                Added(from, Multiplied(last, by)), Multiplied(by, stride)));
}

/// Where characters begin, and the end.
std::vector<std::size_t> CharacterPlaces(const std::string& text) {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < text.size(); i = NextCharacter(text, i)) places.push_back(i);
  places.push_back(text.size());
  return places;
}

}  // namespace

std::vector<Value> Run::ItemsOf(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return {};
    case Kind::kString: {
      std::vector<Value> items;
      const std::string& bytes = value.bytes();
      for (std::size_t i = 0; i < bytes.size();) {
        Step();
        const std::size_t end = NextCharacter(bytes, i);
        items.push_back(String(value.text().Part(i, end)));
        i = end;
      }
      return items;
    }
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      Step(value.items().size());
      heap_.Check(value.items().size() * sizeof(Value));
      return value.items();
    case Kind::kGenerator: {
      auto& generator = static_cast<SequenceObject&>(*value.object());
      std::vector<Value> rest(generator.items.begin() + static_cast<std::ptrdiff_t>(generator.next),
                              generator.items.end());
      generator.next = generator.items.size();
      Step(rest.size());
      return rest;
    }
    case Kind::kDict: {
      std::vector<Value> keys;
      for (const auto& [key, item] : DictOf(value).items) keys.push_back(key);
      Step(keys.size());
      return keys;
    }
    default:
      throw Fault("this cannot be gone through", "a list, a dict or a string",
                  std::string(TypeName(value)));
  }
}

std::int64_t Run::LengthOf(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      Step(value.bytes().size() / 64);
      return CharactersOf(value.bytes());
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return static_cast<std::int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<std::int64_t>(DictOf(value).items.size());
    case Kind::kLoop:
      return Length(static_cast<LoopObject&>(*value.object()));
    default:
      throw Fault("this has no length", "a list, a dict or a string", std::string(TypeName(value)));
  }
}

void SetInNamespace(NamespaceObject& space, const std::string& name, const Value& value) {
  for (auto& [known, old] : space.items) {
    if (known == name) {
      old = value;
      return;
    }
  }
  const std::size_t bytes = sizeof(space.items[0]) + name.size();
  space.owner->Take(bytes);
  space.cost += bytes;
  space.items.emplace_back(name, value);
}

Value Run::LoopAttribute(const Value& value, const std::string& name) {
  auto& loop = static_cast<LoopObject&>(*value.object());
  const auto peek = [&] {
    Value item;
    if (!loop.after.has_value() && Next(loop, item)) loop.after = item;
    return loop.after.has_value();
  };
  if (name == "index") return Value::Int(loop.index0 + 1);
  if (name == "index0") return Value::Int(loop.index0);
  if (name == "first") return Value::Bool(loop.index0 == 0);
  if (name == "last") return Value::Bool(!peek());
  if (name == "length") return Value::Int(Length(loop));
  if (name == "revindex") return Value::Int(Length(loop) - loop.index0);
  if (name == "revindex0") return Value::Int(Length(loop) - loop.index0 - 1);
  if (name == "depth") return Value::Int(loop.depth0 + 1);
  if (name == "depth0") return Value::Int(loop.depth0);
  if (name == "previtem") {
    return loop.index0 > 0 ? *loop.before : MakeUndefined(heap_, "there is no previous item");
  }
  if (name == "nextitem") {
    return peek() ? *loop.after : MakeUndefined(heap_, "there is no next item");
  }
  const std::weak_ptr<Object> weak = value.object();  // the loop may hold what is made here
  const auto alive = [weak] {
    auto object = weak.lock();
    if (object == nullptr || static_cast<LoopObject&>(*object).statement == nullptr) {
      throw Fault("the loop has ended");
    }
    return std::static_pointer_cast<LoopObject>(object);
  };
  if (name == "cycle") {
    return Function(name, [alive](Run&, Arguments& arguments) {
      if (arguments.positional.empty() || !arguments.named.empty()) {
        throw Fault("loop.cycle takes the values to go through");
      }
      const auto index = static_cast<std::size_t>(alive()->index0);
      return arguments.positional[index % arguments.positional.size()];
    });
  }
  if (name == "changed") {
    return Function(name, [alive](Run&, Arguments& arguments) {
      const auto live = alive();
      for (const Value& item : arguments.positional) {
        if (item.object() == live) throw Fault("loop.changed takes no loop");
      }
      const bool changed = !live->changed.has_value() ||
                           !std::ranges::equal(*live->changed, arguments.positional, IsEqual);
      if (changed) live->changed = arguments.positional;
      return Value::Bool(changed);
    });
  }
  return MakeUndefined(heap_, "a loop has no attribute '" + name + "'");
}

Value Run::Attribute(const Value& value, const std::string& name) {
  if (value.Is(Kind::kUndefined)) throw Fault(UndefinedMessage(value));
  if (value.Is(Kind::kLoop)) return LoopAttribute(value, name);
  if (value.Is(Kind::kNamespace)) {
    for (const auto& [known, item] : static_cast<NamespaceObject&>(*value.object()).items) {
      if (known == name) return item;
    }
  }
  if (std::optional<Value> method = MethodOf(*this, value, name)) return *method;
  if (value.Is(Kind::kDict)) {
    if (const Value* item = DictOf(value).Find(MakeString(heap_, name))) return *item;
  }
  return MakeUndefined(heap_,
                       "'" + std::string(TypeName(value)) + "' has no attribute '" + name + "'");
}

Value Run::Item(const Value& value, const Value& key) {
  if (value.Is(Kind::kUndefined)) throw Fault(UndefinedMessage(value));
  if (value.Is(Kind::kDict)) {
    const bool hashable = !key.Is(Kind::kList) && !key.Is(Kind::kDict);
    const Value* const item = hashable ? DictOf(value).Find(key) : nullptr;
    if (item != nullptr) return *item;
  }
  if (key.IsIntegral()) {
    const bool string = value.Is(Kind::kString);
    if (string || value.Is(Kind::kList) || value.Is(Kind::kTuple) || value.Is(Kind::kRange)) {
      const std::int64_t length = LengthOf(value);
      const std::int64_t place = key.integer() < 0 ? key.integer() + length : key.integer();
      if (place >= 0 && place < length) {
        if (!string) return value.items()[static_cast<std::size_t>(place)];
        std::size_t at = 0;
        Step(static_cast<std::size_t>(place) / 64);
        for (std::int64_t i = 0; i < place; ++i) at = NextCharacter(value.bytes(), at);
        return String(value.text().Part(at, NextCharacter(value.bytes(), at)));
      }
    }
  }
  if (key.Is(Kind::kString)) {
    if (value.Is(Kind::kDict)) {  // its items have been looked at
      if (std::optional<Value> method = MethodOf(*this, value, key.bytes())) return *method;
    } else {
      return Attribute(value, key.bytes());
    }
  }
  Text name;
  if (key.Is(Kind::kString) || key.IsNumber()) AppendRepr(heap_, key, name);
  return MakeUndefined(heap_, "'" + std::string(TypeName(value)) + "' has no item " + name.bytes());
}

Value Run::Slice(const Value& value, const Value& begin, const Value& end, const Value& step) {
  if (value.Is(Kind::kUndefined)) throw Fault(UndefinedMessage(value));
  if (value.Is(Kind::kString)) {
    const std::vector<std::size_t> places = CharacterPlaces(value.bytes());
    Step(places.size() / 16);
    const auto length = static_cast<std::int64_t>(places.size()) - 1;
    Text part;
    if (step.Is(Kind::kNone)) {
      const auto first = static_cast<std::size_t>(Clipped(begin, length, 0, false));
      const auto last = static_cast<std::size_t>(Clipped(end, length, length, false));
      if (first < last) part.Append(value.text(), places[first], places[last]);
      return String(std::move(part));
    }
    for (const std::int64_t i : SlicedPlaces(*this, length, begin, end, step)) {
      const auto place = static_cast<std::size_t>(i);
      part.Append(value.text(), places[place], places[place + 1]);
    }
    return String(std::move(part));
  }
  if (!value.Is(Kind::kList) && !value.Is(Kind::kTuple) && !value.Is(Kind::kRange)) {
    throw Fault("this has no parts", "a list or a string", std::string(TypeName(value)));
  }
  std::vector<Value> part;
  const std::vector<Value>& items = value.items();
  for (const std::int64_t i :
       SlicedPlaces(*this, static_cast<std::int64_t>(items.size()), begin, end, step)) {
    part.push_back(items[static_cast<std::size_t>(i)]);
  }
  if (value.Is(Kind::kRange)) return SlicedRange(*this, value, std::move(part), begin, end, step);
  return MakeSequence(heap_, value.kind(), std::move(part));
}

Value Run::Negative(const Value& value) {
  if (value.IsIntegral()) return OfIntegers("-", 0, value.integer());
  if (value.Is(Kind::kFloat)) return Value::Float(-value.real());
  RefuseOperands("-", value, value);
}

namespace {

/// A string or a list so many times.
Value Repeated(Run& run, const Value& value, std::int64_t count) {
  const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  const bool string = value.Is(Kind::kString);
  const std::size_t bytes = string ? value.text().cost() : value.items().size() * sizeof(Value);
  if (bytes == 0 || times == 0) {
    return string ? run.String({}) : MakeSequence(run.heap(), value.kind(), {});
  }
  run.heap().Check(times > std::numeric_limits<std::size_t>::max() / bytes
                       ? std::numeric_limits<std::size_t>::max()
                       : times * bytes);
  run.Step(times + times * bytes / 64);
  if (string) {
    Text text;
    for (std::size_t i = 0; i < times; ++i) text.Append(value.text());
    return run.String(std::move(text));
  }
  std::vector<Value> items;
  for (std::size_t i = 0; i < times; ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return MakeSequence(run.heap(), value.kind(), std::move(items));
}

}  // namespace

Value Run::Binary(std::string_view sign, const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    const bool integers = a.IsIntegral() && b.IsIntegral();
    if (!integers || sign == "/" || (sign == "**" && b.integer() < 0)) {
      return OfFloats(sign, a.real(), b.real());
    }
    return OfIntegers(sign, a.integer(), b.integer());
  }
  if (sign == "%" && a.Is(Kind::kString)) return String(FormatPercent(*this, a.text(), b));
  const auto repeats = [](const Value& value) {
    return value.Is(Kind::kString) || value.Is(Kind::kList) || value.Is(Kind::kTuple);
  };
  if (sign == "*" && repeats(a) && b.IsIntegral()) return Repeated(*this, a, b.integer());
  if (sign == "*" && repeats(b) && a.IsIntegral()) return Repeated(*this, b, a.integer());
  if (sign != "+" || a.kind() != b.kind() || !repeats(a)) RefuseOperands(sign, a, b);
  if (a.Is(Kind::kString)) {
    heap_.Check(a.text().cost() + b.text().cost());
    Step((a.bytes().size() + b.bytes().size()) / 64);
    Text text = a.text();
    text.Append(b.text());
    return String(std::move(text));
  }
  std::vector<Value> items = ItemsOf(a);
  const std::vector<Value> more = ItemsOf(b);
  items.insert(items.end(), more.begin(), more.end());
  return MakeSequence(heap_, a.kind(), std::move(items));
}

bool Run::Contains(const Value& container, const Value& value) {
  if (container.Is(Kind::kString)) {
    if (!value.Is(Kind::kString)) {
      throw Fault("a string contains strings alone", "str", std::string(TypeName(value)));
    }
    Step(container.bytes().size() / 64);
    return container.bytes().find(value.bytes()) != std::string::npos;
  }
  if (container.Is(Kind::kDict)) return DictOf(container).Find(value) != nullptr;
  if (container.Is(Kind::kGenerator)) {
    auto& generator = static_cast<SequenceObject&>(*container.object());
    while (generator.next < generator.items.size()) {
      if (IsEqual(generator.items[generator.next++], value)) return true;
    }
    return false;
  }
  const std::vector<Value> items = ItemsOf(container);
  return std::ranges::any_of(items, [&](const Value& item) { return IsEqual(item, value); });
}

bool Run::Compare(std::string_view sign, const Value& a, const Value& b) {
  if (a.Is(Kind::kString)) Step(a.bytes().size() / 256);
  if (sign == "==") return IsEqual(a, b);
  if (sign == "!=") return !IsEqual(a, b);
  if (sign == "in") return Contains(b, a);
  if (sign == "not in") return !Contains(b, a);
  const auto unordered = [](const Value& value) { return std::isnan(value.real()); };
  if (a.IsNumber() && b.IsNumber() && (unordered(a) || unordered(b))) return false;
  if (sign == "<") return IsLess(a, b);
  if (sign == ">") return IsLess(b, a);
  if (sign == "<=") return !IsLess(b, a);
  return !IsLess(a, b);
}

}  // namespace lieq::jinja
