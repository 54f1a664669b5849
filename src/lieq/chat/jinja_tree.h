// The tree of a template: what the parser makes, and a run goes through. Nodes are owned by the
// tree all together, so that a deep one is not destroyed by recursion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/chat/jinja_value.h"

namespace lieq::jinja {

enum class ExpressionKind : std::uint8_t {
  kConstant,
  kName,
  kBody,       // what a filter of a block works on
  kList,       // children
  kTuple,      // children
  kDict,       // children: key, value, key, value, ...
  kAttribute,  // children[0] . text
  kItem,       // children[0] [children[1]]
  kSlice,      // children[0] [children[1..3]]; a part that is left out is nullptr
  kCall,       // children[0], call
  kFilter,     // children[0] | text, call
  kTest,       // children[0] is text, call
  kNot,
  kNegative,
  kPositive,
  kBinary,   // text: the operator
  kConcat,   // children with ~ between them
  kAnd,      // two children
  kOr,       // two children
  kCompare,  // children, and an operator before each but the first
  kIfElse,   // children: value, test, other or nullptr
};

struct Expression;

struct CallArguments {
  std::vector<const Expression*> positional;
  std::vector<std::pair<std::string, const Expression*>> named;
  const Expression* star = nullptr;       // *list
  const Expression* star_star = nullptr;  // **dict
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  std::size_t at = 0;  // byte of the source
  std::string text;
  std::size_t name = 0;  // of kName: its number
  Value constant;
  std::vector<const Expression*> children;
  std::vector<std::string> operators;
  CallArguments call;
};

enum class StatementKind : std::uint8_t {
  kData,        // text
  kOutput,      // value
  kIf,          // branches
  kFor,         // target, value, test, body, other
  kSet,         // target, value
  kSetBlock,    // target, value: a chain of filters on kBody, or nullptr; body
  kMacro,       // name, parameters, body
  kCallBlock,   // value: the call; parameters, body
  kFilter,      // value: a chain of filters on kBody; body
  kGeneration,  // body
  kWith,        // assignments, body
  kBreak,
  kContinue,
};

struct Statement;
using Body = std::vector<const Statement*>;

/// What is assigned to: a name, name.attribute, or several of them.
struct Target {
  std::size_t at = 0;
  std::size_t name = 0;
  std::string attribute;      // of a namespace; empty: the name itself
  std::vector<Target> parts;  // not empty or `tuple`: unpacks
  bool tuple = false;
};

struct Branch {
  const Expression* test = nullptr;  // nullptr: else
  Body body;
};

struct Parameter {
  std::size_t name = 0;
  std::string text;
  const Expression* missing = nullptr;  // the default
};

struct Statement {
  StatementKind kind = StatementKind::kData;
  std::size_t at = 0;
  std::string text;
  std::size_t name = 0;
  const Expression* value = nullptr;
  const Expression* test = nullptr;
  Target target;
  bool recursive = false;
  Body body;
  Body other;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  std::vector<std::pair<Target, const Expression*>> assignments;
  // Names that a macro has without declaring them, where its body uses them.
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct Tree {
  explicit Tree(std::size_t limit) : heap(limit) {}

  /// The number of a name.
  std::size_t NameOf(std::string_view text) {
    const auto [place, added] = numbers.emplace(std::string(text), names.size());
    if (added) names.emplace_back(text);
    return place->second;
  }

  Heap heap;  // of the constants; before what refers to it
  std::deque<Expression> expressions;
  std::deque<Statement> statements;
  std::vector<std::string> names;
  std::unordered_map<std::string, std::size_t> numbers;
  Body body;
};

/// Parses a normalized source. Sets `at` to the place it has come to. Throws Fault.
void Parse(std::string_view source, Tree& tree, std::size_t& at);

}  // namespace lieq::jinja
