// Tokens to the tree of expressions, by jinja2's order of precedence; the parser of statements is
// built on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/chat/jinja_lexer.h"
#include "lieq/chat/jinja_tree.h"

namespace lieq::jinja {

class ExpressionParser {
 public:
  /// All of them must outlive this. at: is kept at the token that is looked at.
  ExpressionParser(std::vector<Token> tokens, Tree& tree, std::size_t& at)
      : tree_(tree), tokens_(std::move(tokens)), at_(at) {
    at_ = tokens_[0].at;
  }

 protected:
  [[nodiscard]] const Token& Look(std::size_t ahead = 0) const {
    return tokens_[std::min(place_ + ahead, tokens_.size() - 1)];
  }
  [[nodiscard]] bool IsAt(TokenKind kind) const { return Look().kind == kind; }
  const Token& Take();
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view sign);
  void ExpectName(std::string_view name);
  void ExpectOperator(std::string_view sign);
  void Expect(TokenKind kind, std::string_view what);
  /// Any name.
  std::string TakeName();
  [[noreturn]] void Refuse(std::string_view expected) const;

  Expression& Make(ExpressionKind kind, std::vector<const Expression*> children = {});

  const Expression* ParseExpression() { return IfElse(); }
  /// Expressions with commas between them are a tuple. end: names that may stand behind it.
  const Expression* ParseTuple(bool conditional, std::initializer_list<std::string_view> end = {},
                               bool parentheses = false);
  /// Filters on `body`, from a "|" on, or from a name where one is there already.
  const Expression* Filters(const Expression* body, bool begun);
  void ReadArguments(CallArguments& call);

  /// One more level of what is in one another.
  struct Level {
    explicit Level(ExpressionParser& parser);
    ~Level() { --depth; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    std::size_t& depth;
  };

  Tree& tree_;
  // Whether these names were read since the flags were cleared.
  bool uses_caller_ = false;
  bool uses_varargs_ = false;
  bool uses_kwargs_ = false;

 private:
  using Rule = const Expression* (ExpressionParser::*)();
  const Expression* IfElse();
  const Expression* Or();
  const Expression* And();
  const Expression* Not();
  const Expression* Compare();
  const Expression* Sum();
  const Expression* Concat();
  const Expression* Product();
  const Expression* Power();
  const Expression* Unary(bool filters);
  const Expression* Primary();
  const Expression* NameOrConstant();
  const Expression* List();
  const Expression* Dict();
  const Expression* Postfix(const Expression* node);
  const Expression* FiltersAndTests(const Expression* node);
  const Expression* Subscript(const Expression* node);
  const Expression* Part(const Expression* node);
  const Expression* Call(const Expression* node);
  const Expression* Test(const Expression* node);
  const Expression* Binary(Rule part, std::initializer_list<std::string_view> signs);
  [[nodiscard]] bool EndsTuple(std::initializer_list<std::string_view> end) const;
  std::string DottedName();
  Expression* Constant(Value value);

  std::vector<Token> tokens_;
  std::size_t place_ = 0;
  std::size_t& at_;
  std::size_t depth_ = 0;
};

}  // namespace lieq::jinja
