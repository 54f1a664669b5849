#include <algorithm>
#include <array>
#include <utility>

#include "lieq/chat/jinja_parser.h"
#include "lieq/io/printable.h"

namespace lieq::jinja {
namespace {

class StatementParser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  void Run() { tree_.body = ReadBody({}); }

 private:
  using Ends = std::initializer_list<std::string_view>;
  using Reader = void (StatementParser::*)(Statement&);
  struct Row {
    std::string_view name;
    StatementKind kind;
    Reader read;
  };
  static constexpr std::size_t kRows = 11;
  static const std::array<Row, kRows>& Rows();

  Statement& MakeStatement(StatementKind kind, std::size_t at) {
    Statement& statement = tree_.statements.emplace_back();
    statement.kind = kind;
    statement.at = at;
    return statement;
  }

  /// Up to a tag whose name is one of `ends`, whose name is the next token then; up to the end of
  /// the template where there are none.
  Body ReadBody(Ends ends) {
    const Level level(*this);
    Body body;
    while (!IsAt(TokenKind::kEnd)) {
      const std::size_t at = Look().at;
      if (IsAt(TokenKind::kData)) {
        Statement& data = MakeStatement(StatementKind::kData, at);
        data.text = Take().text;
        body.push_back(&data);
      } else if (IsAt(TokenKind::kOpenVariable)) {
        Take();
        Statement& output = MakeStatement(StatementKind::kOutput, at);
        output.value = ParseTuple(true);
        Expect(TokenKind::kCloseVariable, "}}");
        body.push_back(&output);
      } else {
        Expect(TokenKind::kOpenBlock, "a tag");
        if (IsAt(TokenKind::kName) && std::ranges::find(ends, Look().text) != ends.end())
          return body;
        body.push_back(&ReadStatement());
        Expect(TokenKind::kCloseBlock, "%}");
      }
    }
    if (ends.size() > 0) {
      throw Fault("a block has no end",
                  "{% " + std::string(std::data(ends)[ends.size() - 1]) + " %}",
                  "the end of the template");
    }
    return body;
  }

  /// The body of a block whose opening tag has been read up to its end; the closing tag, whose
  /// name is `end`, up to its own end.
  Body ReadBlock(std::string_view end) {
    OpenBody();
    Body body = ReadBody({end});
    Take();
    return body;
  }
  void OpenBody() {
    SkipOperator(":");
    Expect(TokenKind::kCloseBlock, "%}");
  }

  Statement& ReadStatement() {
    const std::size_t at = Look().at;
    const std::string name = TakeName();
    for (const Row& row : Rows()) {
      if (row.name != name) continue;
      Statement& statement = MakeStatement(row.kind, at);
      (this->*row.read)(statement);
      return statement;
    }
    std::string known;
    for (const Row& row : Rows()) known += (known.empty() ? "" : ", ") + std::string(row.name);
    throw Fault("this tag is not supported", known, Printable(name));
  }

  void ReadIf(Statement& statement) {
    bool last = false;
    while (!last) {
      Branch branch;
      if (statement.branches.empty() || SkipName("elif")) {
        branch.test = ParseTuple(false);
        OpenBody();
        branch.body = ReadBody({"elif", "else", "endif"});
      } else {
        last = true;
        if (SkipName("endif")) return;
        ExpectName("else");
        branch.body = ReadBlock("endif");
      }
      statement.branches.push_back(std::move(branch));
    }
  }

  void ReadFor(Statement& statement) {
    statement.target = ReadTarget(false, {"in"});
    ForbidLoop(statement.target);
    ExpectName("in");
    statement.value = ParseTuple(false, {"recursive"});
    if (SkipName("if")) statement.test = ParseExpression();
    statement.recursive = SkipName("recursive");
    OpenBody();
    ++loops_;
    statement.body = ReadBody({"else", "endfor"});
    --loops_;
    if (SkipName("endfor")) return;
    ExpectName("else");
    statement.other = ReadBlock("endfor");
  }

  void ForbidLoop(const Target& target) {
    if (!target.tuple && tree_.names[target.name] == "loop") {
      throw Fault("'loop' cannot be the variable of a loop");
    }
    for (const Target& part : target.parts) ForbidLoop(part);
  }

  void ReadSet(Statement& statement) {
    statement.target = ReadTarget(true, {});
    if (SkipOperator("=")) {
      statement.value = ParseTuple(true);
      return;
    }
    statement.kind = StatementKind::kSetBlock;
    if (Look().IsOperator("|")) statement.value = Filters(&Make(ExpressionKind::kBody), false);
    statement.body = ReadBlock("endset");
  }

  /// With commas between them several names are unpacked.
  Target ReadTarget(bool attributes, Ends end) {
    Target all{.at = Look().at, .tuple = true};
    bool comma = false;
    const auto ended = [&] {
      return IsAt(TokenKind::kCloseBlock) || Look().IsOperator(")") ||
             (IsAt(TokenKind::kName) && std::ranges::find(end, Look().text) != end.end());
    };
    while (!ended()) {
      all.parts.push_back(ReadOneTarget(attributes));
      if (!SkipOperator(",")) break;
      comma = true;
    }
    if (comma) return all;
    if (all.parts.empty()) Refuse("a name");
    return std::move(all.parts[0]);
  }

  Target ReadOneTarget(bool attributes) {
    const Level level(*this);
    Target target{.at = Look().at};
    if (SkipOperator("(")) {
      target = ReadTarget(attributes, {});
      ExpectOperator(")");
      return target;
    }
    const std::string name = TakeName();
    for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
      if (name == reserved) throw Fault("this cannot be assigned to", "a name", name);
    }
    target.name = tree_.NameOf(name);
    if (attributes && SkipOperator(".")) target.attribute = TakeName();
    return target;
  }

  void ReadParameters(Statement& statement) {
    ExpectOperator("(");
    while (!Look().IsOperator(")")) {
      if (!statement.parameters.empty()) ExpectOperator(",");
      Parameter parameter;
      parameter.text = TakeName();
      parameter.name = tree_.NameOf(parameter.text);
      for (const Parameter& other : statement.parameters) {
        if (other.name == parameter.name)
          throw Fault("a parameter is there twice", {}, parameter.text);
      }
      if (SkipOperator("=")) {
        parameter.missing = ParseExpression();
      } else if (!statement.parameters.empty() && statement.parameters.back().missing != nullptr) {
        Refuse("a default for this parameter too");
      }
      statement.parameters.push_back(std::move(parameter));
    }
    ExpectOperator(")");
  }

  /// The body of a macro: what it uses is noted, and no loop around it can be left from within.
  void ReadMacroBody(Statement& statement, std::string_view end) {
    const bool caller = std::exchange(uses_caller_, false);
    const bool varargs = std::exchange(uses_varargs_, false);
    const bool kwargs = std::exchange(uses_kwargs_, false);
    const std::size_t loops = std::exchange(loops_, 0);
    statement.body = ReadBlock(end);
    statement.uses_caller = uses_caller_;
    statement.uses_varargs = uses_varargs_;
    statement.uses_kwargs = uses_kwargs_;
    uses_caller_ |= caller;
    uses_varargs_ |= varargs;
    uses_kwargs_ |= kwargs;
    loops_ = loops;
  }

  void ReadMacro(Statement& statement) {
    statement.text = TakeName();
    statement.name = tree_.NameOf(statement.text);
    ReadParameters(statement);
    ReadMacroBody(statement, "endmacro");
  }

  void ReadCall(Statement& statement) {
    if (Look().IsOperator("(")) ReadParameters(statement);
    statement.value = ParseExpression();
    if (statement.value->kind != ExpressionKind::kCall) Refuse("a call");
    ReadMacroBody(statement, "endcall");
  }

  void ReadFilter(Statement& statement) {
    statement.value = Filters(&Make(ExpressionKind::kBody), true);
    statement.body = ReadBlock("endfilter");
  }

  void ReadGeneration(Statement& statement) { ReadMacroBody(statement, "endgeneration"); }

  void ReadWith(Statement& statement) {
    while (!IsAt(TokenKind::kCloseBlock)) {
      if (!statement.assignments.empty()) ExpectOperator(",");
      Target target = ReadOneTarget(false);
      ExpectOperator("=");
      statement.assignments.emplace_back(std::move(target), ParseExpression());
    }
    statement.body = ReadBlock("endwith");
  }

  void ReadLeave(Statement& statement) {
    if (loops_ == 0) {
      throw Fault(statement.kind == StatementKind::kBreak ? "break is in no loop"
                                                          : "continue is in no loop");
    }
  }

  void ReadPrint(Statement& statement) {
    Expression& all = Make(ExpressionKind::kConcat);
    while (!IsAt(TokenKind::kCloseBlock)) {
      if (!all.children.empty()) ExpectOperator(",");
      all.children.push_back(ParseExpression());
    }
    statement.value = &all;
  }

  std::size_t loops_ = 0;  // around this place, inside the macro that it is in
};

const std::array<StatementParser::Row, StatementParser::kRows>& StatementParser::Rows() {
  using S = StatementParser;
  static constexpr std::array<Row, kRows> kTable{{
      {"if", StatementKind::kIf, &S::ReadIf},
      {"for", StatementKind::kFor, &S::ReadFor},
      {"set", StatementKind::kSet, &S::ReadSet},
      {"macro", StatementKind::kMacro, &S::ReadMacro},
      {"call", StatementKind::kCallBlock, &S::ReadCall},
      {"filter", StatementKind::kFilter, &S::ReadFilter},
      {"generation", StatementKind::kGeneration, &S::ReadGeneration},
      {"with", StatementKind::kWith, &S::ReadWith},
      {"print", StatementKind::kOutput, &S::ReadPrint},
      {"break", StatementKind::kBreak, &S::ReadLeave},
      {"continue", StatementKind::kContinue, &S::ReadLeave},
  }};
  return kTable;
}

}  // namespace

void Parse(std::string_view source, Tree& tree, std::size_t& at) {
  std::vector<Token> tokens = Lex(source, at);
  StatementParser(std::move(tokens), tree, at).Run();
}

}  // namespace lieq::jinja
