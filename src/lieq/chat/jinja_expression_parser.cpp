#include <algorithm>
#include <array>
#include <utility>

#include "lieq/chat/jinja_parser.h"
#include "lieq/io/printable.h"

namespace lieq::jinja {
namespace {

constexpr std::size_t kDeepestSource = 200;  // brackets and blocks in one another
constexpr std::size_t kMostNodes = 200'000;

std::string DescribeToken(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kCloseBlock:
      return "the end of the tag, %}";
    case TokenKind::kCloseVariable:
      return "the end of the tag, }}";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return "a number";
    default:
      return "'" + Printable(token.text) + "'";
  }
}

constexpr std::array<std::string_view, 6> kComparisons{"==", "!=", "<", "<=", ">", ">="};

}  // namespace

ExpressionParser::Level::Level(ExpressionParser& parser) : depth(parser.depth_) {
  if (++depth > kDeepestSource) {
    --depth;
    throw Fault("brackets or blocks lie too deep in one another",
                "at most " + std::to_string(kDeepestSource));
  }
}

const Token& ExpressionParser::Take() {
  const Token& token = Look();
  if (place_ + 1 < tokens_.size()) ++place_;
  at_ = Look().at;
  return token;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!Look().IsName(name)) return false;
  Take();
  return true;
}

bool ExpressionParser::SkipOperator(std::string_view sign) {
  if (!Look().IsOperator(sign)) return false;
  Take();
  return true;
}

void ExpressionParser::ExpectName(std::string_view name) {
  if (!SkipName(name)) Refuse(name);
}

void ExpressionParser::ExpectOperator(std::string_view sign) {
  if (!SkipOperator(sign)) Refuse(sign);
}

void ExpressionParser::Expect(TokenKind kind, std::string_view what) {
  if (!IsAt(kind)) Refuse(what);
  Take();
}

std::string ExpressionParser::TakeName() {
  if (!IsAt(TokenKind::kName)) Refuse("a name");
  return Take().text;
}

void ExpressionParser::Refuse(std::string_view expected) const {
  throw Fault("the template is not well formed", std::string(expected), DescribeToken(Look()));
}

Expression& ExpressionParser::Make(ExpressionKind kind, std::vector<const Expression*> children) {
  if (tree_.expressions.size() >= kMostNodes) throw Fault("the template is too long");
  Expression& node = tree_.expressions.emplace_back();
  node.kind = kind;
  node.at = at_;
  node.children = std::move(children);
  return node;
}

Expression* ExpressionParser::Constant(Value value) {
  Expression& node = Make(ExpressionKind::kConstant);
  node.constant = std::move(value);
  return &node;
}

const Expression* ExpressionParser::IfElse() {
  const Level level(*this);
  const Expression* value = Or();
  while (Look().IsName("if")) {
    Expression& node = Make(ExpressionKind::kIfElse);
    Take();
    const Expression* test = Or();
    const Expression* other = SkipName("else") ? IfElse() : nullptr;
    node.children = {value, test, other};
    value = &node;
  }
  return value;
}

const Expression* ExpressionParser::Or() {
  const Expression* left = And();
  while (Look().IsName("or")) {
    Expression& node = Make(ExpressionKind::kOr);
    Take();
    node.children = {left, And()};
    left = &node;
  }
  return left;
}

const Expression* ExpressionParser::And() {
  const Expression* left = Not();
  while (Look().IsName("and")) {
    Expression& node = Make(ExpressionKind::kAnd);
    Take();
    node.children = {left, Not()};
    left = &node;
  }
  return left;
}

const Expression* ExpressionParser::Not() {
  if (!Look().IsName("not")) return Compare();
  const Level level(*this);
  Expression& node = Make(ExpressionKind::kNot);
  Take();
  node.children = {Not()};
  return &node;
}

const Expression* ExpressionParser::Compare() {
  const Expression* first = Sum();
  Expression* node = nullptr;
  while (true) {
    std::string sign;
    if (IsAt(TokenKind::kOperator) &&
        std::ranges::find(kComparisons, Look().text) != kComparisons.end()) {
      sign = Look().text;
    } else if (Look().IsName("in")) {
      sign = "in";
    } else if (Look().IsName("not") && Look(1).IsName("in")) {
      sign = "not in";
    } else {
      break;
    }
    if (node == nullptr) node = &Make(ExpressionKind::kCompare, {first});
    Take();
    if (sign == "not in") Take();
    node->children.push_back(Sum());
    node->operators.push_back(sign);
  }
  return node == nullptr ? first : node;
}

const Expression* ExpressionParser::Binary(Rule part,
                                           std::initializer_list<std::string_view> signs) {
  const Expression* left = (this->*part)();
  while (IsAt(TokenKind::kOperator) && std::ranges::find(signs, Look().text) != signs.end()) {
    Expression& node = Make(ExpressionKind::kBinary);
    node.text = Take().text;
    node.children = {left, (this->*part)()};
    left = &node;
  }
  return left;
}

const Expression* ExpressionParser::Sum() {
  return Binary(&ExpressionParser::Concat, {"+", "-"});
}

const Expression* ExpressionParser::Concat() {
  const Expression* first = Product();
  if (!Look().IsOperator("~")) return first;
  Expression& node = Make(ExpressionKind::kConcat, {first});
  while (SkipOperator("~")) node.children.push_back(Product());
  return &node;
}

const Expression* ExpressionParser::Product() {
  return Binary(&ExpressionParser::Power, {"*", "/", "//", "%"});
}

const Expression* ExpressionParser::Power() {
  const Expression* left = Unary(true);
  while (Look().IsOperator("**")) {
    Expression& node = Make(ExpressionKind::kBinary);
    node.text = Take().text;
    node.children = {left, Unary(true)};
    left = &node;
  }
  return left;
}

const Expression* ExpressionParser::Unary(bool filters) {
  const Expression* node = nullptr;
  if (Look().IsOperator("-") || Look().IsOperator("+")) {
    const Level level(*this);
    Expression& sign =
        Make(Look().IsOperator("-") ? ExpressionKind::kNegative : ExpressionKind::kPositive);
    Take();
    sign.children = {Unary(false)};
    node = &sign;
  } else {
    node = Primary();
  }
  node = Postfix(node);
  return filters ? FiltersAndTests(node) : node;
}

const Expression* ExpressionParser::NameOrConstant() {
  const std::string& text = Look().text;
  if (text == "true" || text == "True" || text == "false" || text == "False") {
    Expression* node = Constant(Value::Bool(text == "true" || text == "True"));
    Take();
    return node;
  }
  if (text == "none" || text == "None") {
    Expression* node = Constant(Value::None());
    Take();
    return node;
  }
  uses_caller_ |= text == "caller";
  uses_varargs_ |= text == "varargs";
  uses_kwargs_ |= text == "kwargs";
  Expression& node = Make(ExpressionKind::kName);
  node.name = tree_.NameOf(text);
  Take();
  return &node;
}

const Expression* ExpressionParser::Primary() {
  switch (Look().kind) {
    case TokenKind::kName:
      return NameOrConstant();
    case TokenKind::kString: {  // neighbours are one string
      Expression& node = Make(ExpressionKind::kConstant);
      std::string text;
      while (IsAt(TokenKind::kString)) text += Take().text;
      node.constant = MakeString(tree_.heap, text);
      return &node;
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat: {
      Expression* node = Constant(Look().kind == TokenKind::kInteger ? Value::Int(Look().integer)
                                                                     : Value::Float(Look().real));
      Take();
      return node;
    }
    default:
      break;
  }
  if (SkipOperator("(")) {
    const Expression* node = ParseTuple(true, {}, true);
    ExpectOperator(")");
    return node;
  }
  if (Look().IsOperator("[")) return List();
  if (Look().IsOperator("{")) return Dict();
  Refuse("an expression");
}

bool ExpressionParser::EndsTuple(std::initializer_list<std::string_view> end) const {
  if (IsAt(TokenKind::kCloseVariable) || IsAt(TokenKind::kCloseBlock)) return true;
  if (Look().IsOperator(")")) return true;
  return IsAt(TokenKind::kName) && std::ranges::find(end, Look().text) != end.end();
}

const Expression* ExpressionParser::ParseTuple(bool conditional,
                                               std::initializer_list<std::string_view> end,
                                               bool parentheses) {
  const Level level(*this);
  Expression& node = Make(ExpressionKind::kTuple);
  bool tuple = false;
  while (!EndsTuple(end)) {
    node.children.push_back(conditional ? IfElse() : Or());
    if (!SkipOperator(",")) break;
    tuple = true;
  }
  if (tuple || (parentheses && node.children.empty())) return &node;
  if (node.children.empty()) Refuse("an expression");
  return node.children[0];
}

const Expression* ExpressionParser::List() {
  Expression& node = Make(ExpressionKind::kList);
  ExpectOperator("[");
  while (!Look().IsOperator("]")) {
    node.children.push_back(IfElse());
    if (!Look().IsOperator("]")) ExpectOperator(",");
  }
  ExpectOperator("]");
  return &node;
}

const Expression* ExpressionParser::Dict() {
  Expression& node = Make(ExpressionKind::kDict);
  ExpectOperator("{");
  while (!Look().IsOperator("}")) {
    node.children.push_back(IfElse());
    ExpectOperator(":");
    node.children.push_back(IfElse());
    if (!Look().IsOperator("}")) ExpectOperator(",");
  }
  ExpectOperator("}");
  return &node;
}

const Expression* ExpressionParser::Postfix(const Expression* node) {
  while (true) {
    if (Look().IsOperator(".") || Look().IsOperator("[")) {
      node = Subscript(node);
    } else if (Look().IsOperator("(")) {
      node = Call(node);
    } else {
      return node;
    }
  }
}

const Expression* ExpressionParser::FiltersAndTests(const Expression* node) {
  while (true) {
    if (Look().IsOperator("|")) {
      node = Filters(node, false);
    } else if (Look().IsName("is")) {
      node = Test(node);
    } else if (Look().IsOperator("(")) {
      node = Call(node);
    } else {
      return node;
    }
  }
}

const Expression* ExpressionParser::Subscript(const Expression* node) {
  if (SkipOperator(".")) {
    if (IsAt(TokenKind::kInteger)) {
      Expression& item = Make(ExpressionKind::kItem, {node, Constant(Value::Int(Look().integer))});
      Take();
      return &item;
    }
    Expression& attribute = Make(ExpressionKind::kAttribute, {node});
    if (!IsAt(TokenKind::kName)) Refuse("a name or a number");
    attribute.text = Take().text;
    return &attribute;
  }
  ExpectOperator("[");
  const Expression* item = Part(node);
  if (Look().IsOperator(",")) {  // x[1, 2]: a tuple as key
    if (item->kind == ExpressionKind::kSlice) Refuse("]");
    Expression& key = Make(ExpressionKind::kTuple, {item->children[1]});
    while (SkipOperator(",") && !Look().IsOperator("]")) key.children.push_back(IfElse());
    item = &Make(ExpressionKind::kItem, {node, &key});
  }
  ExpectOperator("]");
  return item;
}

/// What is in brackets behind `node`: an item, or a slice.
const Expression* ExpressionParser::Part(const Expression* node) {
  Expression& item = Make(ExpressionKind::kItem, {node});
  item.children.push_back(Look().IsOperator(":") ? nullptr : IfElse());
  if (!SkipOperator(":")) return &item;
  const auto left_out = [&] {
    return Look().IsOperator(":") || Look().IsOperator("]") || Look().IsOperator(",");
  };
  item.kind = ExpressionKind::kSlice;
  item.children.push_back(left_out() ? nullptr : IfElse());
  item.children.push_back(SkipOperator(":") && !left_out() ? IfElse() : nullptr);
  return &item;
}

const Expression* ExpressionParser::Call(const Expression* node) {
  Expression& call = Make(ExpressionKind::kCall, {node});
  ReadArguments(call.call);
  return &call;
}

void ExpressionParser::ReadArguments(CallArguments& call) {
  ExpectOperator("(");
  while (!Look().IsOperator(")")) {
    if (SkipOperator("*")) {
      if (call.star != nullptr || call.star_star != nullptr) Refuse("one *list");
      call.star = IfElse();
    } else if (SkipOperator("**")) {
      if (call.star_star != nullptr) Refuse("one **dict");
      call.star_star = IfElse();
    } else if (IsAt(TokenKind::kName) && Look(1).IsOperator("=")) {
      if (call.star_star != nullptr) Refuse("no named argument behind **dict");
      std::string name = Take().text;
      Take();
      for (const auto& [other, value] : call.named) {
        if (other == name) throw Fault("an argument is given twice", {}, name);
      }
      call.named.emplace_back(std::move(name), IfElse());
    } else {
      if (!call.named.empty() || call.star != nullptr || call.star_star != nullptr) {
        Refuse("a named argument");
      }
      call.positional.push_back(IfElse());
    }
    if (!Look().IsOperator(")")) ExpectOperator(",");
  }
  ExpectOperator(")");
}

std::string ExpressionParser::DottedName() {
  std::string name = TakeName();
  while (SkipOperator(".")) name += "." + TakeName();
  return name;
}

const Expression* ExpressionParser::Filters(const Expression* body, bool begun) {
  while (begun || Look().IsOperator("|")) {
    if (!begun) Take();
    begun = false;
    Expression& filter = Make(ExpressionKind::kFilter, {body});
    filter.text = DottedName();
    if (Look().IsOperator("(")) ReadArguments(filter.call);
    body = &filter;
  }
  return body;
}

const Expression* ExpressionParser::Test(const Expression* node) {
  ExpectName("is");
  Expression* negation = nullptr;
  if (Look().IsName("not")) {
    negation = &Make(ExpressionKind::kNot);
    Take();
  }
  Expression& test = Make(ExpressionKind::kTest, {node});
  test.text = DottedName();
  const bool value = IsAt(TokenKind::kName) || IsAt(TokenKind::kString) ||
                     IsAt(TokenKind::kInteger) || IsAt(TokenKind::kFloat) ||
                     Look().IsOperator("[") || Look().IsOperator("{");
  if (Look().IsOperator("(")) {
    ReadArguments(test.call);
  } else if (value && !Look().IsName("else") && !Look().IsName("or") && !Look().IsName("and")) {
    if (Look().IsName("is")) Refuse("no second test");
    test.call.positional.push_back(Postfix(Primary()));
  }
  if (negation == nullptr) return &test;
  negation->children = {&test};
  return negation;
}

}  // namespace lieq::jinja
