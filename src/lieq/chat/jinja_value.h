// Values of a template's run, with the meaning that they have in Python, and the memory that they
// take together: a template is a program of a stranger.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lieq/chat/jinja_text.h"

namespace lieq::jinja {

/// What a template does wrong. Whoever runs it knows the place, and makes a lieq::Error of it.
struct Fault : std::exception {
  explicit Fault(std::string rule, std::string wanted = {}, std::string given = {})
      : message(std::move(rule)), expected(std::move(wanted)), found(std::move(given)) {}
  [[nodiscard]] const char* what() const noexcept override { return message.c_str(); }

  std::string message;
  std::string expected;
  std::string found;
};

enum class Kind : std::uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kRange,
  kView,       // what keys(), values() and items() give: has a length, no places
  kGenerator,  // what map and select give: gone through once
  kDict,
  kNamespace,
  kFunction,
  kLoop,
  kCycler,
};

/// Bytes that are held by objects and steps that are taken, within limits.
class Heap {
 public:
  explicit Heap(std::size_t limit, std::uint64_t steps = 0) : limit_(limit), most_steps_(steps) {}
  /// Throws Fault where there were too many.
  void Step(std::size_t steps = 1);
  /// Throws Fault where so many more would be too many.
  void Check(std::size_t bytes) const;
  void Take(std::size_t bytes) {
    Check(bytes);
    held_ += bytes;
  }
  void Give(std::size_t bytes) noexcept { held_ -= bytes; }

 private:
  std::size_t limit_;
  std::size_t held_ = 0;
  std::uint64_t most_steps_;
  std::uint64_t steps_ = 0;
};

class Value;

/// What a value refers to. The heap must outlive it.
struct Object {
  Object(Heap& heap, std::size_t bytes) : owner(&heap), cost(bytes) { heap.Take(cost); }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() { owner->Give(cost); }

  /// Says that this holds `value`. Throws Fault where objects would lie too deep in one another.
  void Contain(const Value& value);

  Heap* owner;
  std::size_t cost;
  std::uint32_t depth = 1;  // of objects in one another: what destroys or prints them recurses
};

class Value {
 public:
  Value() = default;  // undefined, without a name
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool value);
  static Value Int(std::int64_t value);
  static Value Float(double value);
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}

  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] bool Is(Kind kind) const noexcept { return kind_ == kind; }
  [[nodiscard]] bool IsNumber() const noexcept {
    return kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat;
  }
  [[nodiscard]] bool IsIntegral() const noexcept {
    return kind_ == Kind::kBool || kind_ == Kind::kInt;
  }
  [[nodiscard]] std::int64_t integer() const noexcept { return integer_; }  // bool: 0 or 1
  [[nodiscard]] double real() const noexcept {
    return kind_ == Kind::kFloat ? real_ : static_cast<double>(integer_);
  }
  [[nodiscard]] const std::shared_ptr<Object>& object() const noexcept { return object_; }

  [[nodiscard]] const Text& text() const;  // of a string
  [[nodiscard]] const std::string& bytes() const { return text().bytes(); }
  [[nodiscard]] const std::vector<Value>& items() const;  // list, tuple, range, view, generator

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kUndefined;
  union {
    std::int64_t integer_ = 0;
    double real_;
  };
  std::shared_ptr<Object> object_;
};

struct UndefinedObject : Object {
  UndefinedObject(Heap& heap, std::string text)
      : Object(heap, sizeof(*this) + text.size()), message(std::move(text)) {}
  std::string message;  // "'x' is undefined"
};

struct StringObject : Object {
  StringObject(Heap& heap, Text value)
      : Object(heap, sizeof(*this) + value.cost()), text(std::move(value)) {}
  Text text;
};

struct SequenceObject : Object {
  SequenceObject(Heap& heap, std::vector<Value> values, std::string label);
  std::vector<Value> items;
  std::string name;      // what stands before the items of a view; a range as it prints
  std::size_t next = 0;  // of a generator
};

class DictObject : public Object {
 public:
  explicit DictObject(Heap& heap) : Object(heap, sizeof(DictObject)) {}
  /// nullptr where it is not there. Throws Fault for a key that cannot be one.
  [[nodiscard]] const Value* Find(const Value& key) const;
  void Set(const Value& key, Value value);

  std::vector<std::pair<Value, Value>> items;

 private:
  [[nodiscard]] std::size_t Place(const Value& key) const;
  static std::string KeyOf(const Value& key);

  std::unordered_map<std::string, std::size_t> places_;
};

struct NamespaceObject : Object {
  explicit NamespaceObject(Heap& heap) : Object(heap, sizeof(NamespaceObject)) {}
  std::vector<std::pair<std::string, Value>> items;
};

/// Arguments of a call as they are given.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Run;

struct FunctionObject : Object {
  using Body = std::function<Value(Run&, Arguments&)>;
  FunctionObject(Heap& heap, std::string label, Body function)
      : Object(heap, sizeof(*this) + 64), name(std::move(label)), body(std::move(function)) {}
  std::string name;
  Body body;
};

/// What cycler(...) gives.
struct CyclerObject : Object {
  CyclerObject(Heap& heap, std::vector<Value> values)
      : Object(heap, sizeof(*this) + values.size() * sizeof(Value)), items(std::move(values)) {
    for (const Value& item : items) Contain(item);
  }
  std::vector<Value> items;
  std::size_t place = 0;
};

[[nodiscard]] Value MakeUndefined(Heap& heap, std::string message);
[[nodiscard]] Value MakeString(Heap& heap, Text text);
[[nodiscard]] Value MakeString(Heap& heap, std::string_view bytes);
/// kind: any of those that items() is of; throws Fault where containers lie too deep in one
/// another.
[[nodiscard]] Value MakeSequence(Heap& heap, Kind kind, std::vector<Value> items,
                                 std::string name = {});
[[nodiscard]] Value MakeDict(std::shared_ptr<DictObject> dict);

[[nodiscard]] inline const DictObject& DictOf(const Value& value) {
  return static_cast<const DictObject&>(*value.object());
}
[[nodiscard]] inline bool IsSequence(const Value& value) {
  return value.kind() >= Kind::kList && value.kind() <= Kind::kGenerator;
}

/// Python's name of the type, for messages: "int".
[[nodiscard]] std::string_view TypeName(const Value& value);
/// "'x' is undefined", of an undefined value.
[[nodiscard]] std::string UndefinedMessage(const Value& value);
[[nodiscard]] bool IsTrue(const Value& value);
[[nodiscard]] bool IsEqual(const Value& a, const Value& b);
/// Whether a < b. Throws Fault where Python has no order for them.
[[nodiscard]] bool IsLess(const Value& a, const Value& b);
/// repr of a float.
[[nodiscard]] std::string FloatText(double value);
/// str() and repr(). `text` grows within the limit of the heap.
void AppendStr(Heap& heap, const Value& value, Text& text);
void AppendRepr(Heap& heap, const Value& value, Text& text);
[[nodiscard]] Text StrOf(Heap& heap, const Value& value);

}  // namespace lieq::jinja
