#include <algorithm>
#include <array>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/chat/jinja_run_parts.h"
#include "lieq/io/printable.h"

namespace lieq::jinja {

const Value* Scope::Find(std::size_t name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [number, value] : scope->values) {
      if (number == name) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(std::size_t name, Value value) {
  for (auto& [number, old] : values) {
    if (number == name) {
      old = std::move(value);
      return;
    }
  }
  values.emplace_back(name, std::move(value));
}

Bound::Bound(Arguments& arguments, std::string_view function,
             std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), values_(names.size()), given_(names.size(), false) {
  if (arguments.positional.size() > names.size()) {
    throw Fault(function_ + " takes fewer arguments", "at most " + std::to_string(names.size()),
                std::to_string(arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = std::move(arguments.positional[i]);
    given_[i] = true;
  }
  for (auto& [name, value] : arguments.named) {
    const auto* const found = std::ranges::find(names, std::string_view(name));
    const auto i = static_cast<std::size_t>(found - names.begin());
    if (found == names.end() || given_[i]) {
      throw Fault(function_ + " does not take this argument here", {}, Printable(name));
    }
    values_[i] = std::move(value);
    given_[i] = true;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (!given_[i]) {
      throw Fault(function_ + " lacks an argument", std::string(std::data(names)[i]));
    }
  }
}

std::int64_t Bound::Integer(std::size_t i, std::int64_t missing) const {
  if (!given_[i]) return missing;
  if (!values_[i].IsIntegral()) {
    throw Fault(function_ + " takes an integer here", {}, std::string(TypeName(values_[i])));
  }
  return values_[i].integer();
}

bool Bound::True(std::size_t i, bool missing) const {
  return given_[i] ? IsTrue(values_[i]) : missing;
}

Run::Run(const Tree& tree, const Limits& limits, const std::optional<std::tm>& now, std::size_t& at)
    : tree_(tree),
      limits_(limits),
      now_(now),
      at_(at),
      heap_(limits.memory, limits.steps),
      root_(std::make_shared<Scope>(nullptr)),
      scope_(root_) {
  for (std::size_t name = 0; name < tree.names.size(); ++name) {
    if (std::optional<Value> global = GlobalOf(*this, tree.names[name])) {
      root_->Set(name, std::move(*global));
    }
  }
}

Run::~Run() {
  // Scopes and namespaces may hold one another: what they hold goes first.
  root_->values.clear();
  for (const auto& scope : kept_) scope->values.clear();
  for (const auto& space : namespaces_) space->items.clear();
}

void Run::Set(std::string_view name, Value value) {
  const auto number = tree_.numbers.find(std::string(name));
  if (number != tree_.numbers.end()) root_->Set(number->second, std::move(value));
}

Value Run::Function(std::string name, FunctionObject::Body body) {
  return {Kind::kFunction,
          std::make_shared<FunctionObject>(heap_, std::move(name), std::move(body))};
}

std::shared_ptr<NamespaceObject> Run::MakeNamespace() {
  namespaces_.push_back(std::make_shared<NamespaceObject>(heap_));
  return namespaces_.back();
}

Value Run::Look(const Expression& node) {
  if (const Value* value = scope_->Find(node.name)) return *value;
  return MakeUndefined(heap_, "'" + tree_.names[node.name] + "' is undefined");
}

std::vector<Value> Run::EvaluateAll(const std::vector<const Expression*>& nodes) {
  std::vector<Value> values;
  values.reserve(nodes.size());
  for (const Expression* node : nodes) values.push_back(Evaluate(*node));
  return values;
}

Arguments Run::EvaluateArguments(const CallArguments& call) {
  Arguments arguments{.positional = EvaluateAll(call.positional), .named = {}};
  for (const auto& [name, node] : call.named) arguments.named.emplace_back(name, Evaluate(*node));
  if (call.star != nullptr) {
    for (Value& item : ItemsOf(Evaluate(*call.star)))
      arguments.positional.push_back(std::move(item));
  }
  if (call.star_star != nullptr) {
    const Value dict = Evaluate(*call.star_star);
    if (!dict.Is(Kind::kDict)) throw Fault("** takes a dict", {}, std::string(TypeName(dict)));
    for (const auto& [key, value] : DictOf(dict).items) {
      if (!key.Is(Kind::kString)) throw Fault("names of arguments are strings");
      arguments.named.emplace_back(key.bytes(), value);
    }
  }
  return arguments;
}

Value Run::EvaluateItem(const Expression& node) {
  const Value value = Evaluate(*node.children[0]);
  const Value key = Evaluate(*node.children[1]);
  at_ = node.at;
  return Item(value, key);
}

Value Run::EvaluateSlice(const Expression& node) {
  std::array<Value, 4> parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i] = node.children[i] == nullptr ? Value::None() : Evaluate(*node.children[i]);
  }
  at_ = node.at;
  return Slice(parts[0], parts[1], parts[2], parts[3]);
}

Value Run::EvaluateCompare(const Expression& node) {
  Value left = Evaluate(*node.children[0]);
  for (std::size_t i = 1; i < node.children.size(); ++i) {
    Value right = Evaluate(*node.children[i]);
    at_ = node.at;
    if (!Compare(node.operators[i - 1], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Run::EvaluateDict(const Expression& node) {
  const auto dict = std::make_shared<DictObject>(heap_);
  for (std::size_t i = 0; i < node.children.size(); i += 2) {
    const Value key = Evaluate(*node.children[i]);
    Value value = Evaluate(*node.children[i + 1]);
    at_ = node.at;
    dict->Set(key, std::move(value));
  }
  return MakeDict(dict);
}

Value Run::EvaluateConcat(const Expression& node) {
  Text text;
  for (const Expression* part : node.children) {
    const Value value = Evaluate(*part);
    at_ = node.at;
    Step(text.size() / 64);
    AppendStr(heap_, value, text);
  }
  return String(std::move(text));
}

Value Run::Evaluate(const Expression& node) {
  const Deeper deeper(*this);
  Step();
  at_ = node.at;
  using enum ExpressionKind;
  switch (node.kind) {
    case kConstant:
      return node.constant;
    case kName:
      return Look(node);
    case kBody:
      return body_;
    case kList:
      return List(EvaluateAll(node.children));
    case kTuple:
      return MakeSequence(heap_, Kind::kTuple, EvaluateAll(node.children));
    case kDict:
      return EvaluateDict(node);
    case kAttribute: {
      const Value value = Evaluate(*node.children[0]);
      at_ = node.at;
      return Attribute(value, node.text);
    }
    case kItem:
      return EvaluateItem(node);
    case kSlice:
      return EvaluateSlice(node);
    case kCall:
    case kFilter:
    case kTest: {
      const Value value = Evaluate(*node.children[0]);
      Arguments arguments = EvaluateArguments(node.call);
      at_ = node.at;
      if (node.kind == kCall) return Call(value, arguments);
      if (node.kind == kFilter) return Filter(node.text, value, arguments);
      return Value::Bool(Test(node.text, value, arguments));
    }
    case kNot:
      return Value::Bool(!IsTrue(Evaluate(*node.children[0])));
    case kNegative:
    case kPositive: {
      const Value value = Evaluate(*node.children[0]);
      at_ = node.at;
      if (node.kind == kNegative) return Negative(value);
      return Negative(Negative(value));
    }
    case kBinary: {
      const Value a = Evaluate(*node.children[0]);
      const Value b = Evaluate(*node.children[1]);
      at_ = node.at;
      return Binary(node.text, a, b);
    }
    case kConcat:
      return EvaluateConcat(node);
    case kAnd:
    case kOr: {
      Value left = Evaluate(*node.children[0]);
      return IsTrue(left) == (node.kind == kOr) ? left : Evaluate(*node.children[1]);
    }
    case kCompare:
      return EvaluateCompare(node);
    case kIfElse:
      if (IsTrue(Evaluate(*node.children[1]))) return Evaluate(*node.children[0]);
      if (node.children[2] != nullptr) return Evaluate(*node.children[2]);
      return MakeUndefined(heap_, "an 'if' without 'else' had no value");
  }
  return {};
}

Value Run::Call(const Value& function, Arguments& arguments) {
  if (function.Is(Kind::kUndefined)) throw Fault(UndefinedMessage(function));
  if (function.Is(Kind::kLoop)) {
    auto& loop = static_cast<LoopObject&>(*function.object());
    const Bound bound(arguments, "loop", {"items"}, 1);
    if (loop.statement == nullptr || !loop.statement->recursive) {
      throw Fault("only a loop that says 'recursive' can be called, inside itself");
    }
    const InScope in_scope(*this, loop.scope);
    Capture capture(*this);
    ExecuteFor(*loop.statement, bound[0], loop.depth0 + 1);
    return String(capture.Take());
  }
  if (!function.Is(Kind::kFunction)) {
    throw Fault("this cannot be called", "a function or a macro", std::string(TypeName(function)));
  }
  const std::shared_ptr<Object> keep = function.object();
  return static_cast<FunctionObject&>(*keep).body(*this, arguments);
}

}  // namespace lieq::jinja
