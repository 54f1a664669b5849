// Tests: what stands behind "is".
#include <array>
#include <cmath>
#include <string_view>

#include "lieq/chat/jinja_run.h"
#include "lieq/io/printable.h"
#include "lieq/text/characters.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

using TestFunction = bool (*)(Run&, const Value&, Arguments&);
struct TestRow {
  std::string_view name;
  TestFunction test;
};

void TakesNone(Arguments& arguments) {
  const Bound bound(arguments, "this test", {});
}

template <Kind kKind>
bool IsOfKind(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return value.Is(kKind);
}

bool IsDefined(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return !value.Is(Kind::kUndefined);
}

bool IsANumber(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return value.IsNumber();
}

template <bool kWanted>
bool IsBool(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return value.Is(Kind::kBool) && (value.integer() != 0) == kWanted;
}

bool IsASequence(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  // An undefined value has a length and, in its class, items.
  return value.Is(Kind::kString) || value.Is(Kind::kDict) || value.Is(Kind::kList) ||
         value.Is(Kind::kTuple) || value.Is(Kind::kRange) || value.Is(Kind::kUndefined);
}

bool IsIterable(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return value.Is(Kind::kString) || value.Is(Kind::kDict) || IsSequence(value) ||
         value.Is(Kind::kUndefined) || value.Is(Kind::kLoop);
}

bool IsCallable(Run&, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return value.Is(Kind::kFunction) || value.Is(Kind::kLoop) || value.Is(Kind::kUndefined);
}

template <std::int64_t kRest>
bool IsEven(Run& run, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  return IsEqual(run.Binary("%", value, Value::Int(2)), Value::Int(kRest));
}

bool IsDivisible(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "divisibleby", {"num"}, 1);
  return IsEqual(run.Binary("%", value, bound[0]), Value::Int(0));
}

bool IsSame(Run&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sameas", {"other"}, 1);
  const Value& other = bound[0];
  if (value.kind() != other.kind()) return false;
  if (value.object() != nullptr || other.object() != nullptr) {
    // Python keeps one object for equal short strings; equal strings are the same here.
    if (value.Is(Kind::kString)) return value.bytes() == other.bytes();
    return value.object() == other.object();
  }
  return value.Is(Kind::kNone) || IsEqual(value, other);
}

template <bool kUpper>
bool IsOfCase(Run& run, const Value& value, Arguments& arguments) {
  TakesNone(arguments);
  const Text text = run.Str(value);
  const std::string& bytes = text.bytes();
  bool any = false;
  for (std::size_t i = 0; i < bytes.size(); i = NextCharacter(bytes, i)) {
    const char32_t character = CodePointAt(bytes, i).value;
    if (kUpper ? IsLowerLetter(character) : IsUpperLetter(character)) return false;
    any |= kUpper ? IsUpperLetter(character) : IsLowerLetter(character);
  }
  return any;
}

enum class Order : std::uint8_t { kEqual, kUnequal, kLess, kGreater, kAtMost, kAtLeast, kIn };
constexpr std::array<std::string_view, 7> kOrderSigns{"==", "!=", "<", ">", "<=", ">=", "in"};

template <Order kOrder>
bool Compares(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "this test", {"other"}, 1);
  return run.Compare(kOrderSigns[static_cast<std::size_t>(kOrder)], value, bound[0]);
}

bool IsFalse(Run&, const Value&, Arguments& arguments) {
  TakesNone(arguments);
  return false;
}

constexpr std::array<TestRow, 37> kTests{{
    {"defined", IsDefined},
    {"undefined", IsOfKind<Kind::kUndefined>},
    {"none", IsOfKind<Kind::kNone>},
    {"boolean", IsOfKind<Kind::kBool>},
    {"true", IsBool<true>},
    {"false", IsBool<false>},
    {"integer", IsOfKind<Kind::kInt>},
    {"float", IsOfKind<Kind::kFloat>},
    {"number", IsANumber},
    {"string", IsOfKind<Kind::kString>},
    {"mapping", IsOfKind<Kind::kDict>},
    {"sequence", IsASequence},
    {"iterable", IsIterable},
    {"callable", IsCallable},
    {"odd", IsEven<1>},
    {"even", IsEven<0>},
    {"divisibleby", IsDivisible},
    {"sameas", IsSame},
    {"lower", IsOfCase<false>},
    {"upper", IsOfCase<true>},
    {"escaped", IsFalse},
    {"eq", Compares<Order::kEqual>},
    {"equalto", Compares<Order::kEqual>},
    {"==", Compares<Order::kEqual>},
    {"ne", Compares<Order::kUnequal>},
    {"!=", Compares<Order::kUnequal>},
    {"lt", Compares<Order::kLess>},
    {"lessthan", Compares<Order::kLess>},
    {"<", Compares<Order::kLess>},
    {"gt", Compares<Order::kGreater>},
    {"greaterthan", Compares<Order::kGreater>},
    {">", Compares<Order::kGreater>},
    {"le", Compares<Order::kAtMost>},
    {"<=", Compares<Order::kAtMost>},
    {"ge", Compares<Order::kAtLeast>},
    {">=", Compares<Order::kAtLeast>},
    {"in", Compares<Order::kIn>},
}};

}  // namespace

bool Run::Test(std::string_view name, const Value& value, Arguments& arguments) {
  for (const TestRow& row : kTests) {
    if (row.name == name) return row.test(*this, value, arguments);
  }
  throw Fault("there is no test of this name", {}, Printable(name));
}

}  // namespace lieq::jinja
