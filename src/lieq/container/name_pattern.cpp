#include "lieq/container/name_pattern.h"

#include <algorithm>
#include <map>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::size_t kMostBytes = 4096;
constexpr int kMostDepth = 32;
constexpr std::uint32_t kMostSteps = 20'000;
constexpr std::uint32_t kMostLooks = 16;
constexpr int kMostRepeats = 1000;
constexpr int kUnbounded = -1;
// Of a document. The work is a few seconds in the worst case; a hundred layers may have patterns of
// 190,000 steps in all, where what quantizers write has a few thousand.
constexpr std::uint64_t kMostDocumentBytes = 1 << 16;
constexpr std::uint64_t kMostDocumentWork = std::uint64_t{1} << 27;
constexpr std::uint64_t kFewestNames = 256;  // steps take memory too, however few the names

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsWord(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool IsSpace(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

}  // namespace

/// Recursive descent into a small tree, then into steps.
class PatternCompiler {
 public:
  PatternCompiler(std::string_view pattern, const std::string& where, NamePattern& out)
      : pattern_(pattern), where_(where), out_(out) {}

  void Compile() {
    if (pattern_.size() > kMostBytes) {
      Fail("pattern is too long", "at most " + std::to_string(kMostBytes) + " bytes");
    }
    for (const char c : pattern_) {
      if (static_cast<unsigned char>(c) >= 128) Fail("pattern is not ASCII", "");
    }
    const Node root = Alternatives(0);
    if (at_ < pattern_.size()) Fail("unbalanced ')' in pattern", "");
    Emit(root);
    Append({NamePattern::Op::kAccept});
  }

 private:
  using Op = NamePattern::Op;
  enum class Kind : std::uint8_t { kEmpty, kStep, kLook, kSequence, kChoice, kRepeat };
  struct Node {
    Kind kind = Kind::kEmpty;
    NamePattern::Step step;  // kStep; kLook: its op
    int least = 0;           // kRepeat
    int most = 0;            // kRepeat; kUnbounded
    std::vector<Node> inside;
  };

  [[noreturn]] void Fail(std::string what, std::string expected) const {
    throw Error({.what = std::move(what),
                 .where = where_,
                 .expected = std::move(expected),
                 .found = "'" + Printable(pattern_) + "' at byte " + std::to_string(at_)});
  }

  [[nodiscard]] bool More() const { return at_ < pattern_.size(); }
  [[nodiscard]] bool Skip(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  Node Alternatives(int depth) {
    if (depth > kMostDepth) {
      Fail("pattern is nested too deeply", "at most " + std::to_string(kMostDepth) + " groups");
    }
    Node choice{.kind = Kind::kChoice};
    do {
      choice.inside.push_back(Sequence(depth));
    } while (Skip("|"));
    return choice.inside.size() == 1 ? Node(std::move(choice.inside[0])) : choice;
  }

  Node Sequence(int depth) {
    Node sequence{.kind = Kind::kSequence};
    while (More() && pattern_[at_] != '|' && pattern_[at_] != ')') {
      sequence.inside.push_back(Repeated(Atom(depth)));
    }
    return sequence;
  }

  Node Repeated(Node atom) {
    int least = 0;
    int most = kUnbounded;
    if (Skip("+")) {
      least = 1;
    } else if (Skip("?")) {
      most = 1;
    } else if (Skip("{")) {
      least = Count(0);
      most = Skip(",") ? Count(kUnbounded) : least;
      if (!Skip("}") || (most != kUnbounded && most < least)) {
        Fail("not a valid repeat count", "{m}, {m,}, {,n} or {m,n}");
      }
    } else if (!Skip("*")) {
      return atom;
    }
    if (atom.kind == Kind::kStep && atom.step.op != Op::kClass) Fail("nothing to repeat", "");
    (void)Skip("?");  // lazy: no difference to whether there is a match
    if (More() && std::string_view("*+?{").find(pattern_[at_]) != std::string_view::npos) {
      Fail("repeat of a repeat is not supported", "");
    }
    Node repeat{.kind = Kind::kRepeat, .least = least, .most = most};
    repeat.inside.push_back(std::move(atom));
    return repeat;
  }

  int Count(int missing) {
    if (!More() || !IsDigit(pattern_[at_])) return missing;
    int count = 0;
    while (More() && IsDigit(pattern_[at_])) {
      count = count * 10 + (pattern_[at_++] - '0');
      if (count > kMostRepeats) {
        Fail("repeat count is too large", "at most " + std::to_string(kMostRepeats));
      }
    }
    return count;
  }

  Node Atom(int depth) {
    const char c = pattern_[at_++];
    switch (c) {
      case '(':
        return Group(depth);
      case '[':
        return OneOf(Bracket());
      case '.': {
        NamePattern::Class any;
        any.fill(true);
        any['\n'] = false;
        return OneOf(any);
      }
      case '^':
        return {.kind = Kind::kStep, .step = {Op::kBegin}};
      case '$':
        return {.kind = Kind::kStep, .step = {Op::kEnd}};
      case '\\':
        return Escape();
      case '*':
      case '+':
      case '?':
      case '{':
        --at_;
        Fail("nothing to repeat", "");
      default:
        return OneOf(Single(c));
    }
  }

  Node Group(int depth) {
    Node node;
    if (Skip("?=") || Skip("?!")) {
      node.kind = Kind::kLook;
      node.step.op = pattern_[at_ - 1] == '=' ? Op::kLook : Op::kNotLook;
      node.inside.push_back(Alternatives(depth + 1));
    } else {
      if (Skip("?P<")) {
        while (More() && IsWord(pattern_[at_])) ++at_;
        if (!Skip(">")) Fail("unfinished name of a group", "'>'");
      } else if (!Skip("?:") && More() && pattern_[at_] == '?') {
        Fail("group of this kind is not supported", "(...), (?:...), (?=...) or (?!...)");
      }
      node = Alternatives(depth + 1);
    }
    if (!Skip(")")) Fail("unbalanced '(' in pattern", "')'");
    return node;
  }

  Node Escape() {
    if (Skip("A")) return {.kind = Kind::kStep, .step = {Op::kBegin}};
    if (Skip("Z")) return {.kind = Kind::kStep, .step = {Op::kEnd}};
    if (Skip("b")) return {.kind = Kind::kStep, .step = {Op::kWord}};
    if (Skip("B")) return {.kind = Kind::kStep, .step = {Op::kNotWord}};
    return OneOf(EscapedClass().first);
  }

  /// What follows a backslash: a class, and whether it is a single character.
  std::pair<NamePattern::Class, bool> EscapedClass() {
    if (!More()) Fail("pattern ends in a backslash", "");
    const char c = pattern_[at_++];
    constexpr std::string_view kNames = "ntrfv";
    constexpr std::string_view kControls = "\n\t\r\f\v";
    if (const auto known = kNames.find(c); known != std::string_view::npos) {
      return {Single(kControls[known]), true};
    }
    using Named = std::pair<char, bool (*)(char)>;
    for (const auto& [name, contains] :
         {Named('d', &IsDigit), Named('w', &IsWord), Named('s', &IsSpace)}) {
      const bool opposite = c == name - 'a' + 'A';
      if (c != name && !opposite) continue;
      NamePattern::Class set;
      for (int i = 0; i < 128; ++i) {
        set[static_cast<std::size_t>(i)] = contains(static_cast<char>(i)) != opposite;
      }
      return {set, false};
    }
    if (IsWord(c) && c != '_') Fail("escape is not supported", R"(\d \w \s \b or punctuation)");
    return {Single(c), true};
  }

  NamePattern::Class Bracket() {
    NamePattern::Class set{};
    const bool negated = Skip("^");
    bool first = true;
    while (first || !More() || pattern_[at_] != ']') {
      first = false;
      if (!More()) Fail("unbalanced '[' in pattern", "']'");
      const char low = pattern_[at_];
      const auto [part, single] = BracketItem();
      // A hyphen before the closing bracket is itself.
      if (single && pattern_.substr(at_).size() >= 2 && pattern_[at_] == '-' &&
          pattern_[at_ + 1] != ']') {
        ++at_;
        const char high = pattern_[at_];
        const auto [upper, upper_single] = BracketItem();
        if (low == '\\' || high == '\\' || !upper_single || high < low) {
          Fail("not a valid range in a class", "[a-z]");
        }
        for (char c = low; c <= high && c >= 0; ++c) {
          set[static_cast<std::size_t>(c)] = true;
          if (c == 127) break;
        }
        continue;
      }
      for (std::size_t i = 0; i < set.size(); ++i) set[i] = set[i] || part[i];
    }
    ++at_;
    if (negated) {
      for (bool& member : set) member = !member;
    }
    return set;
  }

  std::pair<NamePattern::Class, bool> BracketItem() {
    const char c = pattern_[at_++];
    if (c == '\\') return EscapedClass();
    return {Single(c), true};
  }

  static NamePattern::Class Single(char c) {
    NamePattern::Class set{};
    set[static_cast<std::size_t>(c)] = true;
    return set;
  }

  Node OneOf(const NamePattern::Class& set) {
    out_.classes_.push_back(set);
    const auto index = static_cast<std::uint32_t>(out_.classes_.size() - 1);
    return {.kind = Kind::kStep, .step = {Op::kClass, index}};
  }

  [[nodiscard]] std::uint32_t Here() const {
    return static_cast<std::uint32_t>(out_.steps_.size());
  }
  std::uint32_t Append(NamePattern::Step step) {
    out_.steps_.push_back(step);
    return Here() - 1;
  }

  void Emit(const Node& node) {
    // Counted by node as well: repeats of nothing append no steps but take time.
    if (++emitted_ > kMostSteps || Here() > kMostSteps) {
      Fail("pattern is too large", "at most " + std::to_string(kMostSteps) + " steps");
    }
    switch (node.kind) {
      case Kind::kEmpty:
        return;
      case Kind::kStep:
        Append(node.step);
        return;
      case Kind::kSequence:
        for (const Node& each : node.inside) Emit(each);
        return;
      case Kind::kLook: {
        if (++looks_ > kMostLooks) {
          Fail("too many look-aheads", "at most " + std::to_string(kMostLooks));
        }
        const std::uint32_t look = Append(node.step);
        Emit(node.inside[0]);
        Append({Op::kAccept});
        out_.steps_[look].first = Here();
        return;
      }
      case Kind::kChoice:
        return EmitChoice(node);
      case Kind::kRepeat:
        return EmitRepeat(node);
    }
  }

  void EmitChoice(const Node& node) {
    std::vector<std::uint32_t> ends;
    for (std::size_t i = 0; i < node.inside.size(); ++i) {
      if (i + 1 == node.inside.size()) {
        Emit(node.inside[i]);
        break;
      }
      const std::uint32_t split = Append({Op::kSplit, Here() + 1});
      Emit(node.inside[i]);
      ends.push_back(Append({Op::kJump}));
      out_.steps_[split].second = Here();
    }
    for (const std::uint32_t jump : ends) out_.steps_[jump].first = Here();
  }

  void EmitRepeat(const Node& node) {
    for (int i = 0; i < node.least; ++i) Emit(node.inside[0]);
    if (node.most == kUnbounded) {
      const std::uint32_t split = Append({Op::kSplit, Here() + 1});
      Emit(node.inside[0]);
      Append({Op::kJump, split});
      out_.steps_[split].second = Here();
      return;
    }
    std::vector<std::uint32_t> splits;
    for (int i = node.least; i < node.most; ++i) {
      splits.push_back(Append({Op::kSplit, Here() + 1}));
      Emit(node.inside[0]);
    }
    for (const std::uint32_t split : splits) out_.steps_[split].second = Here();
  }

  std::string_view pattern_;
  const std::string& where_;
  NamePattern& out_;
  std::size_t at_ = 0;
  std::uint32_t emitted_ = 0;
  std::uint32_t looks_ = 0;
};

NamePattern::NamePattern(std::string_view pattern, const std::string& where) {
  PatternCompiler(pattern, where, *this).Compile();
}

struct NamePattern::Walk {
  std::string_view name;
  // Answers of look-aheads: without them nested ones would be asked again and again.
  std::map<std::pair<std::uint32_t, std::size_t>, bool> looked;
};

bool NamePattern::Holds(Walk& walk, std::uint32_t step, std::size_t position) const {
  const auto word = [&](std::size_t at) { return at < walk.name.size() && IsWord(walk.name[at]); };
  const auto edge = [&] { return word(position) != (position > 0 && word(position - 1)); };
  switch (steps_[step].op) {
    case Op::kBegin:
      return position == 0;
    case Op::kEnd:
      return position == walk.name.size();
    case Op::kWord:
      return edge();
    case Op::kNotWord:
      return !edge();
    default: {
      const auto [known, fresh] = walk.looked.try_emplace({step, position}, false);
      if (fresh) {
        const bool matches = MatchesFrom(walk, step + 1, position);
        known->second = matches == (steps_[step].op == Op::kLook);
      }
      return known->second;
    }
  }
}

bool NamePattern::MatchesFrom(Walk& walk, std::uint32_t start, std::size_t position) const {
  std::vector<std::uint32_t> open{start};  // to be followed at this position
  std::vector<std::uint32_t> waiting;      // kClass steps that want the next character
  std::vector<std::size_t> seen(steps_.size(), std::string_view::npos);  // last position entered
  while (true) {
    waiting.clear();
    while (!open.empty()) {
      const std::uint32_t step = open.back();
      open.pop_back();
      if (std::exchange(seen[step], position) == position) continue;
      const Step& what = steps_[step];
      switch (what.op) {
        case Op::kAccept:
          return true;
        case Op::kClass:
          waiting.push_back(step);
          break;
        case Op::kSplit:
          open.push_back(what.second);
          open.push_back(what.first);
          break;
        case Op::kJump:
          open.push_back(what.first);
          break;
        case Op::kLook:
        case Op::kNotLook:
          if (Holds(walk, step, position)) open.push_back(what.first);
          break;
        default:
          if (Holds(walk, step, position)) open.push_back(step + 1);
          break;
      }
    }
    if (position == walk.name.size()) return false;
    const auto character = static_cast<unsigned char>(walk.name[position++]);
    for (const std::uint32_t step : waiting) {
      if (character < 128 && classes_[steps_[step].first][character]) open.push_back(step + 1);
    }
    if (open.empty()) return false;
  }
}

bool NamePattern::Matches(std::string_view name) const {
  Walk walk{.name = name};
  return MatchesFrom(walk, 0, 0);
}

std::uint64_t NamePattern::work() const noexcept {
  constexpr std::uint64_t kNameBytes = 40;  // a look-ahead may be asked at each of them
  const auto looks = std::ranges::count_if(
      steps_, [](const Step& step) { return step.op == Op::kLook || step.op == Op::kNotLook; });
  return steps_.size() * (1 + kNameBytes * static_cast<std::uint64_t>(looks));
}

PatternBudget::PatternBudget(std::uint64_t names) : names_(std::max(names, kFewestNames)) {}

NamePattern PatternBudget::Compile(std::string_view pattern, const std::string& where) {
  const auto refuse = [&](const std::string& expected) {
    throw Error({.what = "too many patterns",
                 .where = where,
                 .expected = expected,
                 .found = "more with '" + Printable(pattern, 60) + "'"});
  };
  bytes_ += pattern.size();
  if (bytes_ > kMostDocumentBytes) {
    refuse("at most " + std::to_string(kMostDocumentBytes) + " bytes in all");
  }
  NamePattern compiled(pattern, where);
  work_ += compiled.work() * names_;
  if (work_ > kMostDocumentWork) {
    refuse("at most " + std::to_string(kMostDocumentWork / names_) + " steps in all for " +
           std::to_string(names_) + " names");
  }
  return compiled;
}

}  // namespace lieq
