// Methods of strings, lists and dicts.
#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/io/printable.h"
#include "lieq/text/characters.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

using Method = Value (*)(Run&, const Value& self, Arguments&);
struct MethodRow {
  std::string_view name;
  Method method;
};

const Text& TextArgument(const Bound& bound, std::size_t i, std::string_view function) {
  if (!bound[i].Is(Kind::kString)) {
    throw Fault(std::string(function) + " takes a string", {}, std::string(TypeName(bound[i])));
  }
  return bound[i].text();
}

template <bool kLeft, bool kRight>
Value StripMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "strip", {"chars"});
  const Text* const characters = bound.HasValue(0) ? &TextArgument(bound, 0, "strip") : nullptr;
  run.Step(self.bytes().size() / 64);
  return run.String(Stripped(self.text(), characters, kLeft, kRight));
}

template <LetterCase kCase>
Value CaseMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "this method", {});
  return run.String(InCase(run, self.text(), kCase));
}

std::vector<Text> WordsOf(const Text& text, std::int64_t most, bool from_right) {
  const std::string& bytes = text.bytes();
  std::vector<std::pair<std::size_t, std::size_t>> words;
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t next = NextCharacter(bytes, i);
    if (!IsSpaceCharacter(CodePointAt(bytes, i).value)) {
      if (words.empty() || words.back().second != i) words.emplace_back(i, i);
      words.back().second = next;
    }
    i = next;
  }
  if (words.empty()) return {};
  // Beyond so many cuts the rest is one part, as far as its outer white space.
  const std::size_t cuts = most < 0 ? words.size() : static_cast<std::size_t>(most);
  if (words.size() > cuts + 1) {
    if (from_right) {
      const std::size_t kept = words.size() - cuts;
      words[kept - 1].first = 0;
      words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(kept - 1));
    } else {
      words[cuts].second = bytes.size();
      words.resize(cuts + 1);
    }
  }
  std::vector<Text> parts;
  for (const auto& [begin, end] : words) parts.push_back(text.Part(begin, end));
  return parts;
}

std::vector<Text> PartsBetween(const Text& text, const std::string& separator, std::int64_t most,
                               bool from_right) {
  std::vector<Text> parts;
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    if (from_right) {
      if (end < separator.size()) break;
      const std::size_t found = text.bytes().rfind(separator, end - separator.size());
      if (found == std::string::npos) break;
      parts.push_back(text.Part(found + separator.size(), end));
      end = found;
    } else {
      const std::size_t found = text.bytes().find(separator, begin);
      if (found == std::string::npos) break;
      parts.push_back(text.Part(begin, found));
      begin = found + separator.size();
    }
  }
  parts.push_back(text.Part(begin, end));
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

Value ListOfTexts(Run& run, std::vector<Text> texts) {
  std::vector<Value> items;
  run.Step(texts.size());
  for (Text& text : texts) items.push_back(run.String(std::move(text)));
  return run.List(std::move(items));
}

template <bool kFromRight>
Value SplitMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "split", {"sep", "maxsplit"});
  const std::int64_t most = bound.Integer(1, -1);
  run.Step(self.bytes().size() / 16);
  if (!bound.HasValue(0)) return ListOfTexts(run, WordsOf(self.text(), most, kFromRight));
  const std::string& separator = TextArgument(bound, 0, "split").bytes();
  if (separator.empty()) throw Fault("split takes a separator that is not empty");
  return ListOfTexts(run, PartsBetween(self.text(), separator, most, kFromRight));
}

Value SplitlinesMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "splitlines", {"keepends"});
  run.Step(self.bytes().size() / 16);
  return ListOfTexts(run, LinesOf(self.text(), bound.True(0, false)));
}

/// The part of `self` that the arguments "start" and "end" of find and its like are about, as
/// bytes. Nothing where it begins behind the end.
std::optional<std::pair<std::size_t, std::size_t>> PartOf(Run& run, const Value& self,
                                                          const Bound& bound) {
  const std::string& bytes = self.bytes();
  if (!bound.HasValue(1) && !bound.HasValue(2))
    return std::pair<std::size_t, std::size_t>(0, bytes.size());
  const std::int64_t length = run.LengthOf(self);
  const auto clip = [&](std::size_t i, std::int64_t missing) {
    std::int64_t place = bound.HasValue(i) ? bound.Integer(i, missing) : missing;
    if (place < 0) place = std::max<std::int64_t>(place < -length ? 0 : place + length, 0);
    return place;
  };
  const std::int64_t begin = clip(1, 0);
  const std::int64_t end = std::min(clip(2, length), length);
  if (begin > end) return std::nullopt;
  const auto byte_of = [&](std::int64_t character) {
    std::size_t at = 0;
    for (std::int64_t i = 0; i < character; ++i) at = NextCharacter(bytes, at);
    return at;
  };
  return std::pair(byte_of(begin), byte_of(end));
}

template <bool kStart>
Value AffixMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, kStart ? "startswith" : "endswith", {"affix", "start", "end"}, 1);
  const auto part = PartOf(run, self, bound);
  const auto matches = [&](const Value& affix) {
    if (!affix.Is(Kind::kString)) {
      throw Fault("startswith and endswith take a string, or a tuple of them", {},
                  std::string(TypeName(affix)));
    }
    if (!part.has_value()) return false;
    const std::string_view view =
        std::string_view(self.bytes()).substr(part->first, part->second - part->first);
    return kStart ? view.starts_with(affix.bytes()) : view.ends_with(affix.bytes());
  };
  if (!bound[0].Is(Kind::kTuple)) return Value::Bool(matches(bound[0]));
  return Value::Bool(std::ranges::any_of(bound[0].items(), matches));
}

enum class Search : std::uint8_t { kFind, kFindLast, kIndex, kIndexLast, kCount };

template <Search kSearch>
Value FindMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "find", {"sub", "start", "end"}, 1);
  const std::string& wanted = TextArgument(bound, 0, "find").bytes();
  const auto part = PartOf(run, self, bound);
  run.Step(self.bytes().size() / 16);
  const std::string text = part ? self.bytes().substr(part->first, part->second - part->first) : "";
  if (kSearch == Search::kCount) {
    if (!part.has_value()) return Value::Int(0);
    if (wanted.empty()) return Value::Int(CharactersOf(text) + 1);
    std::int64_t count = 0;
    for (std::size_t i = text.find(wanted); i != std::string::npos;
         i = text.find(wanted, i + wanted.size()))
      ++count;
    return Value::Int(count);
  }
  constexpr bool kLast = kSearch == Search::kFindLast || kSearch == Search::kIndexLast;
  const std::size_t found = !part.has_value() ? std::string::npos
                            : kLast           ? text.rfind(wanted)
                                              : text.find(wanted);
  if (found == std::string::npos) {
    if (kSearch == Search::kIndex || kSearch == Search::kIndexLast)
      throw Fault("index finds nothing");
    return Value::Int(-1);
  }
  return Value::Int(CharactersOf(self.bytes().substr(0, part->first + found)));
}

Value ReplaceMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"}, 2);
  return run.String(Replaced(run, self.text(), TextArgument(bound, 0, "replace"),
                             TextArgument(bound, 1, "replace"), bound.Integer(2, -1)));
}

Value JoinMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "join", {"iterable"}, 1);
  Text text;
  bool first = true;
  for (const Value& item : run.ItemsOf(bound[0])) {
    if (!item.Is(Kind::kString)) {
      throw Fault("join takes strings", {}, std::string(TypeName(item)));
    }
    if (!std::exchange(first, false)) text.Append(self.text());
    text.Append(item.text());
    run.heap().Check(text.cost());
  }
  return run.String(std::move(text));
}

template <bool kPrefix>
Value RemoveMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "removeprefix", {"affix"}, 1);
  const Text& affix = TextArgument(bound, 0, "removeprefix");
  const std::string& bytes = self.bytes();
  if (kPrefix && bytes.starts_with(affix.bytes())) {
    return run.String(self.text().Part(affix.size(), bytes.size()));
  }
  if (!kPrefix && bytes.ends_with(affix.bytes())) {
    return run.String(self.text().Part(0, bytes.size() - affix.size()));
  }
  return self;
}

template <bool kLast>
Value PartitionMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "partition", {"sep"}, 1);
  const Text& separator = TextArgument(bound, 0, "partition");
  if (separator.size() == 0) throw Fault("partition takes a separator that is not empty");
  const std::string& bytes = self.bytes();
  const std::size_t found = kLast ? bytes.rfind(separator.bytes()) : bytes.find(separator.bytes());
  std::vector<Value> parts(3, MakeString(run.heap(), ""));
  if (found == std::string::npos) {
    parts[kLast ? 2 : 0] = self;
  } else {
    parts = {run.String(self.text().Part(0, found)), bound[0],
             run.String(self.text().Part(found + separator.size(), bytes.size()))};
  }
  return MakeSequence(run.heap(), Kind::kTuple, std::move(parts));
}

/// Whether there are characters, and all are of a kind.
template <bool (*kIs)(char32_t)>
Value AllMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "this method", {});
  const std::string& bytes = self.bytes();
  run.Step(bytes.size() / 16);
  for (std::size_t i = 0; i < bytes.size(); i = NextCharacter(bytes, i)) {
    if (!kIs(CodePointAt(bytes, i).value)) return Value::Bool(false);
  }
  return Value::Bool(!bytes.empty());
}

template <bool kUpper>
Value OfCaseMethod(Run& run, const Value& self, Arguments& arguments) {
  return Value::Bool(run.Test(kUpper ? "upper" : "lower", self, arguments));
}

template <bool kLeft, bool kRight>
Value JustMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "ljust", {"width", "fillchar"}, 1);
  const Text fill = bound.Has(1) ? TextArgument(bound, 1, "ljust") : Text(" ");
  if (CharactersOf(fill.bytes()) != 1) throw Fault("ljust and rjust fill with one character");
  const std::int64_t missing = bound.Integer(0, 0) - run.LengthOf(self);
  if (missing <= 0) return self;
  run.heap().Check(static_cast<std::size_t>(missing) * fill.size());
  run.Step(static_cast<std::size_t>(missing));
  // Python's center gives the odd one to the left where the width is odd.
  const std::int64_t before = !kLeft    ? 0
                              : !kRight ? missing
                                        : missing / 2 + (missing & bound.Integer(0, 0) & 1);
  Text text;
  for (std::int64_t i = 0; i < before; ++i) text.Append(fill);
  text.Append(self.text());
  for (std::int64_t i = before; i < missing; ++i) text.Append(fill);
  return run.String(std::move(text));
}

/// "{} {name}".format(...): names, numbers and what follows them by . and [], !r and !s; no widths.
Value FormatMethod(Run& run, const Value& self, Arguments& arguments) {
  const Text& format = self.text();
  const std::string& text = format.bytes();
  Text result;
  std::size_t next = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    run.Step();
    const char c = text[i];
    if ((c == '{' || c == '}') && i + 1 < text.size() && text[i + 1] == c) {
      result.Append(format, i, i + 1);
      ++i;
    } else if (c == '}') {
      throw Fault("a format has a '}' too many");
    } else if (c != '{') {
      result.Append(format, i, i + 1);
    } else {
      const std::size_t end = text.find('}', i);
      if (end == std::string::npos) throw Fault("a format has a '{' without end");
      std::string field = text.substr(i + 1, end - i - 1);
      i = end;
      bool repr = false;
      if (field.ends_with("!r") || field.ends_with("!s")) {
        repr = field.ends_with("!r");
        field.resize(field.size() - 2);
      }
      if (field.find_first_of(":.[!{") != std::string::npos) {
        throw Fault("this field of a format is not supported", "{}, {0} or {name}",
                    Printable(field));
      }
      const auto named =
          std::ranges::find(arguments.named, field, &std::pair<std::string, Value>::first);
      const Value* value = nullptr;
      if (field.empty() ||
          std::ranges::all_of(field, [](char d) { return d >= '0' && d <= '9'; })) {
        const std::size_t number = field.empty()      ? next++
                                   : field.size() > 4 ? 99999
                                                      : static_cast<std::size_t>(std::stoi(field));
        if (number < arguments.positional.size()) value = &arguments.positional[number];
      } else if (named != arguments.named.end()) {
        value = &named->second;
      }
      if (value == nullptr)
        throw Fault("a format wants a value that is not there", {}, Printable(field));
      repr ? AppendRepr(run.heap(), *value, result) : AppendStr(run.heap(), *value, result);
    }
    run.heap().Check(result.cost());
  }
  return run.String(std::move(result));
}

constexpr std::array<MethodRow, 36> kStringMethods{{
    {"strip", StripMethod<true, true>},
    {"lstrip", StripMethod<true, false>},
    {"rstrip", StripMethod<false, true>},
    {"split", SplitMethod<false>},
    {"rsplit", SplitMethod<true>},
    {"splitlines", SplitlinesMethod},
    {"startswith", AffixMethod<true>},
    {"endswith", AffixMethod<false>},
    {"replace", ReplaceMethod},
    {"upper", CaseMethod<LetterCase::kUpper>},
    {"lower", CaseMethod<LetterCase::kLower>},
    {"title", CaseMethod<LetterCase::kTitle>},
    {"capitalize", CaseMethod<LetterCase::kCapitalized>},
    {"swapcase", CaseMethod<LetterCase::kSwapped>},
    {"find", FindMethod<Search::kFind>},
    {"rfind", FindMethod<Search::kFindLast>},
    {"index", FindMethod<Search::kIndex>},
    {"rindex", FindMethod<Search::kIndexLast>},
    {"count", FindMethod<Search::kCount>},
    {"join", JoinMethod},
    {"removeprefix", RemoveMethod<true>},
    {"removesuffix", RemoveMethod<false>},
    {"partition", PartitionMethod<false>},
    {"rpartition", PartitionMethod<true>},
    {"isdigit", AllMethod<IsDigit>},
    {"isdecimal", AllMethod<IsDigit>},
    {"isnumeric", AllMethod<IsDigit>},
    {"isalpha", AllMethod<IsLetter>},
    {"isalnum", AllMethod<IsLetterOrDigit>},
    {"isspace", AllMethod<IsSpaceCharacter>},
    {"isupper", OfCaseMethod<true>},
    {"islower", OfCaseMethod<false>},
    {"ljust", JustMethod<false, true>},
    {"rjust", JustMethod<true, false>},
    {"center", JustMethod<true, true>},
    {"format", FormatMethod},
}};

Value PairOf(Run& run, const std::pair<Value, Value>& item) {
  return MakeSequence(run.heap(), Kind::kTuple, {item.first, item.second});
}

Value ItemsMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "items", {});
  std::vector<Value> items;
  for (const auto& item : DictOf(self).items) items.push_back(PairOf(run, item));
  return MakeSequence(run.heap(), Kind::kView, std::move(items), "dict_items");
}

Value KeysMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "keys", {});
  return MakeSequence(run.heap(), Kind::kView, run.ItemsOf(self), "dict_keys");
}

Value ValuesMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "values", {});
  std::vector<Value> items;
  for (const auto& [key, value] : DictOf(self).items) items.push_back(value);
  return MakeSequence(run.heap(), Kind::kView, std::move(items), "dict_values");
}

Value GetMethod(Run&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "get", {"key", "default"}, 1);
  if (const Value* value = DictOf(self).Find(bound[0])) return *value;
  return bound.Has(1) ? bound[1] : Value::None();
}

Value CopyMethod(Run&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "copy", {});
  return self;  // nothing can be changed
}

constexpr std::array<MethodRow, 5> kDictMethods{{
    {"items", ItemsMethod},
    {"keys", KeysMethod},
    {"values", ValuesMethod},
    {"get", GetMethod},
    {"copy", CopyMethod},
}};

template <bool kCount>
Value PlaceMethod(Run& run, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "index", {"value"}, 1);
  const std::vector<Value> items = run.ItemsOf(self);
  const auto same = [&](const Value& item) { return IsEqual(item, bound[0]); };
  if (kCount) return Value::Int(std::ranges::count_if(items, same));
  const auto found = std::ranges::find_if(items, same);
  if (found == items.end()) throw Fault("index finds nothing");
  return Value::Int(found - items.begin());
}

constexpr std::array<MethodRow, 3> kListMethods{{
    {"index", PlaceMethod<false>},
    {"count", PlaceMethod<true>},
    {"copy", CopyMethod},
}};

Value NextOfCycler(Run&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "next", {});
  auto& cycler = static_cast<CyclerObject&>(*self.object());
  return cycler.items[cycler.place++ % cycler.items.size()];
}

Value ResetOfCycler(Run&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "reset", {});
  static_cast<CyclerObject&>(*self.object()).place = 0;
  return Value::None();
}

constexpr std::array<MethodRow, 2> kCyclerMethods{
    {{"next", NextOfCycler}, {"reset", ResetOfCycler}}};

std::span<const MethodRow> MethodsOf(const Value& value) {
  switch (value.kind()) {
    case Kind::kString:
      return kStringMethods;
    case Kind::kDict:
      return kDictMethods;
    case Kind::kList:
      return kListMethods;
    case Kind::kTuple:
    case Kind::kRange:
      return std::span(kListMethods).first(2);
    case Kind::kCycler:
      return kCyclerMethods;
    default:
      return {};
  }
}

}  // namespace

std::optional<Value> MethodOf(Run& run, const Value& value, const std::string& name) {
  if (value.Is(Kind::kCycler) && name == "current") {
    const auto& cycler = static_cast<const CyclerObject&>(*value.object());
    return cycler.items[cycler.place % cycler.items.size()];
  }
  if (value.Is(Kind::kTuple) && (name == "grouper" || name == "list")) {
    const auto& group = static_cast<const SequenceObject&>(*value.object());
    if (group.name == "group") return group.items[name == "list" ? 1 : 0];
  }
  for (const MethodRow& row : MethodsOf(value)) {
    if (row.name != name) continue;
    Value bound = run.Function(name, [value, &row](Run& inner, Arguments& arguments) {
      return row.method(inner, value, arguments);
    });
    bound.object()->Contain(value);
    return bound;
  }
  return std::nullopt;
}

}  // namespace lieq::jinja
