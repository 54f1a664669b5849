#include <algorithm>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/chat/jinja_run_parts.h"
#include "lieq/io/printable.h"

namespace lieq::jinja {

LoopObject::LoopObject(Heap& heap, std::vector<Value> values)
    : Object(heap, sizeof(*this) + values.size() * sizeof(Value)), items(std::move(values)) {
  for (const Value& item : items) Contain(item);
}

Text Run::Render() {
  Text text;
  out_ = &text;
  Execute(tree_.body);
  out_ = nullptr;
  return text;
}

void Run::Write(const Text& text) {
  const std::size_t before = out_->cost();
  if (text.size() <= limits_.output) out_->Append(text);
  Step(text.size() / 64);
  Wrote(before);
  if (out_->size() > limits_.output || text.size() > limits_.output) {
    throw Fault("the template writes too much",
                "at most " + std::to_string(limits_.output) + " bytes");
  }
}

void Run::Wrote(std::size_t before) {
  written_ += out_->cost() - before;
  if (written_ > 8 * limits_.output) {
    throw Fault("the template writes too much",
                "at most " + std::to_string(limits_.output) + " bytes");
  }
}

Run::Flow Run::Execute(const Body& body) {
  for (const Statement* statement : body) {
    const Flow flow = Execute(*statement);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Run::Flow Run::Execute(const Statement& statement) {
  const Deeper deeper(*this);
  Step();
  at_ = statement.at;
  using enum StatementKind;
  switch (statement.kind) {
    case kData:
      Write(Text(statement.text));
      return Flow::kOn;
    case kOutput: {
      const Value value = Evaluate(*statement.value);
      at_ = statement.at;
      Write(Str(value));
      return Flow::kOn;
    }
    case kIf:
      return ExecuteIf(statement);
    case kFor: {
      const Value iterable = Evaluate(*statement.value);
      at_ = statement.at;
      return ExecuteFor(statement, iterable, 0);
    }
    case kSet: {
      const Value value = Evaluate(*statement.value);
      Assign(statement.target, value);
      return Flow::kOn;
    }
    case kSetBlock:
      return ExecuteSetBlock(statement);
    case kMacro:
      DefineMacro(statement);
      return Flow::kOn;
    case kCallBlock:
      ExecuteCall(statement);
      return Flow::kOn;
    case kFilter:
      return ExecuteFilter(statement);
    case kGeneration:
      ExecuteGeneration(statement);
      return Flow::kOn;
    case kWith:
      return ExecuteWith(statement);
    case kBreak:
      return Flow::kBreak;
    case kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

Run::Flow Run::ExecuteIf(const Statement& statement) {
  for (const Branch& branch : statement.branches) {
    if (branch.test == nullptr || IsTrue(Evaluate(*branch.test))) return Execute(branch.body);
  }
  return Flow::kOn;
}

void Run::Assign(const Target& target, const Value& value) {
  at_ = target.at;
  if (target.tuple) {
    const std::vector<Value> items = ItemsOf(value);
    if (items.size() != target.parts.size()) {
      throw Fault("another number of values than of names to unpack them into",
                  std::to_string(target.parts.size()), std::to_string(items.size()));
    }
    for (std::size_t i = 0; i < items.size(); ++i) Assign(target.parts[i], items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->Set(target.name, value);
    return;
  }
  const Value* const space = scope_->Find(target.name);
  if (space == nullptr || !space->Is(Kind::kNamespace)) {
    throw Fault("attributes can be set of a namespace alone", "namespace(...)",
                "'" + tree_.names[target.name] + "'");
  }
  SetInNamespace(static_cast<NamespaceObject&>(*space->object()), target.attribute, value);
}

bool Run::Accepts(LoopObject& loop, const Value& item) {
  if (loop.statement == nullptr || loop.statement->test == nullptr) return true;
  const InScope in_scope(*this, std::make_shared<Scope>(loop.scope));
  Assign(loop.statement->target, item);
  return IsTrue(Evaluate(*loop.statement->test));
}

bool Run::Next(LoopObject& loop, Value& item) {
  while (loop.next < loop.items.size()) {
    Step();
    const Value value = loop.items[loop.next++];
    if (loop.length.has_value() || Accepts(loop, value)) {
      item = value;
      return true;
    }
  }
  return false;
}

std::int64_t Run::Length(LoopObject& loop) {
  if (!loop.length.has_value()) {
    std::vector<Value> rest;
    Value item;
    while (Next(loop, item)) rest.push_back(item);
    loop.length =
        static_cast<std::int64_t>(rest.size()) + loop.index0 + 1 + (loop.after.has_value() ? 1 : 0);
    loop.items = std::move(rest);  // accepted already
    loop.next = 0;
  }
  return *loop.length;
}

Run::Flow Run::ExecuteFor(const Statement& statement, const Value& iterable, std::int64_t depth0) {
  const Deeper deeper(*this);
  const auto loop = std::make_shared<LoopObject>(heap_, ItemsOf(iterable));
  loop->statement = &statement;
  loop->scope = scope_;
  loop->depth0 = depth0;
  // A loop that has ended goes through nothing anymore, and holds no scope that may hold it.
  struct End {
    ~End() {
      loop.statement = nullptr;
      loop.scope = nullptr;
    }
    LoopObject& loop;
  } const end{*loop};
  const auto number = tree_.numbers.find("loop");
  bool finished = false;  // a body came to its end: jinja2 takes the others for none, and so do we
  while (true) {
    Value item;
    if (loop->after.has_value()) {
      item = *std::exchange(loop->after, std::nullopt);
    } else if (!Next(*loop, item)) {
      break;
    }
    ++loop->index0;
    loop->before = std::exchange(loop->current, item);
    const InScope in_scope(*this, std::make_shared<Scope>(loop->scope));
    if (number != tree_.numbers.end()) scope_->Set(number->second, Value(Kind::kLoop, loop));
    Assign(statement.target, item);
    const Flow flow = Execute(statement.body);
    finished |= flow == Flow::kOn;
    if (flow == Flow::kBreak) break;
  }
  if (finished || statement.other.empty()) return Flow::kOn;
  const InScope in_scope(*this, std::make_shared<Scope>(scope_));
  return Execute(statement.other);
}

Run::Flow Run::ExecuteSetBlock(const Statement& statement) {
  Capture capture(*this);
  {
    const InScope in_scope(*this, std::make_shared<Scope>(scope_));
    const Flow flow = Execute(statement.body);
    if (flow != Flow::kOn) return flow;
  }
  Value value = String(capture.Take());
  if (statement.value != nullptr) {
    const Value outer = std::exchange(body_, value);
    value = Evaluate(*statement.value);
    body_ = outer;
  }
  Assign(statement.target, value);
  return Flow::kOn;
}

Run::Flow Run::ExecuteFilter(const Statement& statement) {
  Text text;
  {
    Capture capture(*this);
    const InScope in_scope(*this, std::make_shared<Scope>(scope_));
    const Flow flow = Execute(statement.body);
    if (flow != Flow::kOn) return flow;
    text = capture.Take();
  }
  const Value outer = std::exchange(body_, String(std::move(text)));
  const Value value = Evaluate(*statement.value);
  body_ = outer;
  Write(Str(value));
  return Flow::kOn;
}

Run::Flow Run::ExecuteWith(const Statement& statement) {
  std::vector<Value> values;
  for (const auto& [target, node] : statement.assignments) values.push_back(Evaluate(*node));
  const InScope in_scope(*this, std::make_shared<Scope>(scope_));
  for (std::size_t i = 0; i < values.size(); ++i) Assign(statement.assignments[i].first, values[i]);
  return Execute(statement.body);
}

void Run::ExecuteGeneration(const Statement& statement) {
  Text text;
  {
    Capture capture(*this);
    const InScope in_scope(*this, std::make_shared<Scope>(scope_));
    Execute(statement.body);
    text = capture.Take();
  }
  text.MarkAnswer();
  Write(text);
}

void Run::DefineMacro(const Statement& statement) {
  // The scope lives on with the macro, which may be kept elsewhere; it is let go with the run.
  if (scope_ != root_ && (kept_.empty() || kept_.back() != scope_)) {
    heap_.Take(sizeof(Scope));
    kept_.push_back(scope_);
  }
  const std::weak_ptr<Scope> weak = scope_;
  scope_->Set(statement.name,
              Function(statement.text, [&statement, weak](Run& run, Arguments& arguments) {
                return run.CallMacro(statement, weak.lock(), arguments);
              }));
}

void Run::ExecuteCall(const Statement& statement) {
  // The body is a macro for as long as the call lasts.
  const auto scope = std::make_shared<std::shared_ptr<Scope>>(scope_);
  struct End {
    ~End() { scope = nullptr; }
    std::shared_ptr<Scope>& scope;
  } const end{*scope};
  const Value caller = Function("caller", [&statement, scope](Run& run, Arguments& arguments) {
    if (*scope == nullptr) throw Fault("caller() is called after its call block has ended");
    const std::shared_ptr<Scope> around = *scope;
    return run.CallMacro(statement, around, arguments);
  });
  const Expression& call = *statement.value;
  const Value function = Evaluate(*call.children[0]);
  Arguments arguments = EvaluateArguments(call.call);
  arguments.named.emplace_back("caller", caller);
  at_ = statement.at;
  Write(Str(Call(function, arguments)));
}

Value Run::CallMacro(const Statement& statement, const std::shared_ptr<Scope>& scope,
                     Arguments& arguments) {
  const Deeper deeper(*this);
  const auto inner = std::make_shared<Scope>(scope);
  const InScope in_scope(*this, inner);
  const auto number_of = [&](std::string_view name) { return tree_.numbers.at(std::string(name)); };
  for (std::size_t i = 0; i < statement.parameters.size(); ++i) {
    const Parameter& parameter = statement.parameters[i];
    const auto named =
        std::ranges::find(arguments.named, parameter.text, &std::pair<std::string, Value>::first);
    if (i < arguments.positional.size()) {
      inner->Set(parameter.name, arguments.positional[i]);
      continue;  // its name once more is left over, and refused below
    }
    if (named != arguments.named.end()) {
      inner->Set(parameter.name, named->second);
      arguments.named.erase(named);
    } else if (parameter.missing != nullptr) {
      inner->Set(parameter.name, Evaluate(*parameter.missing));
    } else {
      inner->Set(parameter.name,
                 MakeUndefined(heap_, "parameter '" + parameter.text + "' was not given"));
    }
  }
  const auto caller =
      std::ranges::find(arguments.named, "caller", &std::pair<std::string, Value>::first);
  if (statement.uses_caller &&
      inner->values.end() == std::ranges::find(inner->values, number_of("caller"),
                                               &std::pair<std::size_t, Value>::first)) {
    const bool given = caller != arguments.named.end();
    inner->Set(number_of("caller"),
               given ? caller->second : MakeUndefined(heap_, "there is no caller"));
    if (given) arguments.named.erase(caller);
  }
  if (statement.uses_kwargs) {
    const auto dict = std::make_shared<DictObject>(heap_);
    for (auto& [name, value] : arguments.named)
      dict->Set(MakeString(heap_, name), std::move(value));
    arguments.named.clear();
    inner->Set(number_of("kwargs"), MakeDict(dict));
  }
  if (!arguments.named.empty()) {
    throw Fault("a macro does not take this argument", {}, Printable(arguments.named[0].first));
  }
  const std::size_t taken = std::min(statement.parameters.size(), arguments.positional.size());
  if (statement.uses_varargs) {
    inner->Set(number_of("varargs"),
               MakeSequence(heap_, Kind::kTuple,
                            {arguments.positional.begin() + static_cast<std::ptrdiff_t>(taken),
                             arguments.positional.end()}));
  } else if (arguments.positional.size() > taken) {
    throw Fault("a macro takes fewer arguments", "at most " + std::to_string(taken),
                std::to_string(arguments.positional.size()));
  }
  Capture capture(*this);
  Execute(statement.body);
  return String(capture.Take());
}

}  // namespace lieq::jinja
