// A run of a template: evaluates its tree within limits of steps, depth, output and memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/chat/jinja_tree.h"
#include "lieq/chat/jinja_value.h"

namespace lieq::jinja {

/// What a template may take: it is a program of a stranger.
struct Limits {
  std::uint64_t steps = 20'000'000;
  std::size_t depth = 600;           // of expressions, statements and calls in one another
  std::size_t output = 10'000'000;   // bytes
  std::size_t memory = 256'000'000;  // bytes held by values
};

/// Names and their values; a scope that a macro is defined in outlives its block.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  [[nodiscard]] const Value* Find(std::size_t name) const;
  void Set(std::size_t name, Value value);

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::size_t, Value>> values;
};

/// The variable `loop`, and what its loop goes through.
struct LoopObject : Object {
  LoopObject(Heap& heap, std::vector<Value> values);

  std::vector<Value> items;
  std::size_t next = 0;
  std::int64_t index0 = -1;
  std::optional<Value> after;  // looked at before its time
  std::optional<Value> before;
  std::optional<Value> current;
  std::optional<std::vector<Value>> changed;
  std::optional<std::int64_t> length;
  std::int64_t depth0 = 0;
  const Statement* statement = nullptr;  // nullptr once the loop has ended
  std::shared_ptr<Scope> scope;          // around the loop; as long as it goes on
};

/// Arguments by the names of a function's parameters.
class Bound {
 public:
  /// Throws Fault: more arguments, or other names; fewer than `required`.
  Bound(Arguments& arguments, std::string_view function,
        std::initializer_list<std::string_view> names, std::size_t required = 0);
  [[nodiscard]] bool Has(std::size_t i) const { return given_[i]; }
  [[nodiscard]] const Value& operator[](std::size_t i) const { return values_[i]; }
  /// Throw Fault for another type; the value of one that is not given.
  [[nodiscard]] std::int64_t Integer(std::size_t i, std::int64_t missing) const;
  [[nodiscard]] bool True(std::size_t i, bool missing) const;
  /// Whether it is given, and not None.
  [[nodiscard]] bool HasValue(std::size_t i) const {
    return given_[i] && !values_[i].Is(Kind::kNone);
  }

 private:
  std::string function_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

class Run {
 public:
  /// tree and now must outlive this. at: is kept at the place that is evaluated.
  Run(const Tree& tree, const Limits& limits, const std::optional<std::tm>& now, std::size_t& at);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  [[nodiscard]] Heap& heap() noexcept { return heap_; }
  [[nodiscard]] const std::optional<std::tm>& now() const noexcept { return now_; }
  /// Gives a variable to the template; a name that it does not use is nothing to it.
  void Set(std::string_view name, Value value);
  /// What the template writes. Throws Fault.
  [[nodiscard]] Text Render();

  /// Throws Fault where there were too many.
  void Step(std::size_t steps = 1) { heap_.Step(steps); }

  [[nodiscard]] Value String(Text text) { return MakeString(heap_, std::move(text)); }
  [[nodiscard]] Value List(std::vector<Value> items) {
    return MakeSequence(heap_, Kind::kList, std::move(items));
  }
  [[nodiscard]] Value Generator(std::vector<Value> items) {
    return MakeSequence(heap_, Kind::kGenerator, std::move(items));
  }
  [[nodiscard]] Value Function(std::string name, FunctionObject::Body body);
  [[nodiscard]] Text Str(const Value& value) { return StrOf(heap_, value); }

  /// What iterating over it gives. Throws Fault where it cannot be gone through.
  [[nodiscard]] std::vector<Value> ItemsOf(const Value& value);
  [[nodiscard]] std::int64_t LengthOf(const Value& value);
  /// value.name, value[key] and value[begin:end:step].
  [[nodiscard]] Value Attribute(const Value& value, const std::string& name);
  [[nodiscard]] Value Item(const Value& value, const Value& key);
  [[nodiscard]] Value Slice(const Value& value, const Value& begin, const Value& end,
                            const Value& step);
  [[nodiscard]] Value Binary(std::string_view sign, const Value& a, const Value& b);
  [[nodiscard]] Value Negative(const Value& value);
  [[nodiscard]] bool Compare(std::string_view sign, const Value& a, const Value& b);
  [[nodiscard]] bool Contains(const Value& container, const Value& value);
  [[nodiscard]] Value Call(const Value& function, Arguments& arguments);
  [[nodiscard]] Value Filter(std::string_view name, const Value& value, Arguments& arguments);
  [[nodiscard]] bool Test(std::string_view name, const Value& value, Arguments& arguments);

  /// A namespace, which the run keeps: it may hold itself.
  [[nodiscard]] std::shared_ptr<NamespaceObject> MakeNamespace();

 private:
  enum class Flow : std::uint8_t { kOn, kBreak, kContinue };
  class Deeper;
  class InScope;
  class Capture;

  Value Evaluate(const Expression& node);
  Value EvaluateItem(const Expression& node);
  Value EvaluateSlice(const Expression& node);
  Value EvaluateCompare(const Expression& node);
  Value EvaluateDict(const Expression& node);
  Value EvaluateConcat(const Expression& node);
  Value Look(const Expression& node);
  std::vector<Value> EvaluateAll(const std::vector<const Expression*>& nodes);
  Arguments EvaluateArguments(const CallArguments& call);

  Flow Execute(const Body& body);
  Flow Execute(const Statement& statement);
  Flow ExecuteIf(const Statement& statement);
  Flow ExecuteFor(const Statement& statement, const Value& iterable, std::int64_t depth0);
  Flow ExecuteSetBlock(const Statement& statement);
  Flow ExecuteFilter(const Statement& statement);
  Flow ExecuteWith(const Statement& statement);
  void ExecuteCall(const Statement& statement);
  void ExecuteGeneration(const Statement& statement);
  void DefineMacro(const Statement& statement);
  Value CallMacro(const Statement& statement, const std::shared_ptr<Scope>& scope,
                  Arguments& arguments);
  void Assign(const Target& target, const Value& value);
  void Write(const Text& text);
  void Wrote(std::size_t before);

  bool Next(LoopObject& loop, Value& item);
  bool Accepts(LoopObject& loop, const Value& item);
  std::int64_t Length(LoopObject& loop);
  Value LoopAttribute(const Value& value, const std::string& name);

  const Tree& tree_;
  Limits limits_;
  const std::optional<std::tm>& now_;
  std::size_t& at_;
  Heap heap_;
  std::size_t depth_ = 0;
  std::size_t written_ = 0;  // by all that is being written at this time
  Text* out_ = nullptr;
  Value body_;  // what the filter of a block works on
  std::vector<std::shared_ptr<NamespaceObject>> namespaces_;
  std::vector<std::shared_ptr<Scope>> kept_;
  std::shared_ptr<Scope> root_;
  std::shared_ptr<Scope> scope_;
};

/// A method of a string, list or dict, bound to it; nothing where it has none of that name.
[[nodiscard]] std::optional<Value> MethodOf(Run& run, const Value& value, const std::string& name);
/// A function that every template has; nothing for another name.
[[nodiscard]] std::optional<Value> GlobalOf(Run& run, const std::string& name);
/// "range(0, 3)": how a range prints.
[[nodiscard]] std::string RangeName(std::int64_t begin, std::int64_t end, std::int64_t step);
/// space.name = value
void SetInNamespace(NamespaceObject& space, const std::string& name, const Value& value);
/// "%s" % values.
[[nodiscard]] Text FormatPercent(Run& run, const Text& format, const Value& values);
/// json.dumps as transformers calls it, with its named arguments.
[[nodiscard]] Value ToJson(Run& run, const Value& value, Arguments& arguments);

// Parts of strings, in jinja_strings.cpp. Places are bytes.
[[nodiscard]] std::int64_t CharactersOf(const std::string& text);
[[nodiscard]] std::size_t NextCharacter(const std::string& text, std::size_t place);
[[nodiscard]] Text Stripped(const Text& text, const Text* characters, bool left, bool right);
[[nodiscard]] Text Replaced(Run& run, const Text& text, const Text& old, const Text& with,
                            std::int64_t most);
[[nodiscard]] std::vector<Text> LinesOf(const Text& text, bool ends);
enum class LetterCase : std::uint8_t { kUpper, kLower, kTitle, kCapitalized, kSwapped };
[[nodiscard]] Text InCase(Run& run, const Text& text, LetterCase wanted);

}  // namespace lieq::jinja
