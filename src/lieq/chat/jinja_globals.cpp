// The functions that every template has.
#include <array>
#include <ctime>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/io/printable.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

Value RangeFunction(Run& run, Arguments& arguments) {
  const Bound bound(arguments, "range", {"start", "stop", "step"}, 1);
  const std::int64_t start = bound.Has(1) ? bound.Integer(0, 0) : 0;
  const std::int64_t stop = bound.Integer(bound.Has(1) ? 1 : 0, 0);
  const std::int64_t step = bound.Integer(2, 1);
  constexpr std::int64_t kMost = 100'000;  // of jinja2's sandbox
  if (step == 0) throw Fault("the step of a range is zero");
  std::vector<Value> items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == kMost) throw Fault("a range is too long", std::to_string(kMost));
    run.Step();
    items.push_back(Value::Int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return MakeSequence(run.heap(), Kind::kRange, std::move(items), RangeName(start, stop, step));
}

Value NamespaceFunction(Run& run, Arguments& arguments) {
  const std::shared_ptr<NamespaceObject> space = run.MakeNamespace();
  if (arguments.positional.size() > 1) throw Fault("namespace takes one dict at most");
  for (const Value& dict : arguments.positional) {
    if (!dict.Is(Kind::kDict))
      throw Fault("namespace takes a dict", {}, std::string(TypeName(dict)));
    for (const auto& [key, value] : DictOf(dict).items) {
      if (key.Is(Kind::kString)) SetInNamespace(*space, key.bytes(), value);
    }
  }
  for (const auto& [name, value] : arguments.named) SetInNamespace(*space, name, value);
  return {Kind::kNamespace, space};
}

Value DictFunction(Run& run, Arguments& arguments) {
  const auto dict = std::make_shared<DictObject>(run.heap());
  if (arguments.positional.size() > 1) throw Fault("dict takes one value at most");
  for (const Value& given : arguments.positional) {
    if (given.Is(Kind::kDict)) {
      for (const auto& [key, value] : DictOf(given).items) dict->Set(key, value);
      continue;
    }
    if (given.Is(Kind::kUndefined)) continue;
    for (const Value& pair : run.ItemsOf(given)) {
      const std::vector<Value> parts = run.ItemsOf(pair);
      if (parts.size() != 2) throw Fault("dict takes pairs");
      dict->Set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) dict->Set(MakeString(run.heap(), name), value);
  return MakeDict(dict);
}

Value CyclerFunction(Run& run, Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty()) {
    throw Fault("cycler takes the values to go through");
  }
  return {Kind::kCycler, std::make_shared<CyclerObject>(run.heap(), arguments.positional)};
}

Value JoinerFunction(Run& run, Arguments& arguments) {
  const Bound bound(arguments, "joiner", {"sep"});
  const Value separator = bound.Has(0) ? bound[0] : MakeString(run.heap(), ", ");
  const auto used = std::make_shared<bool>(false);
  const Value joiner = run.Function("joiner", [separator, used](Run& inner, Arguments& none) {
    const Bound no_arguments(none, "joiner", {});
    return std::exchange(*used, true) ? separator : MakeString(inner.heap(), "");
  });
  joiner.object()->Contain(separator);
  return joiner;
}

Value RaiseFunction(Run& run, Arguments& arguments) {
  const Bound bound(arguments, "raise_exception", {"message"}, 1);
  constexpr std::size_t kShown = 500;
  throw Fault("the template refuses: " + Printable(run.Str(bound[0]).bytes().substr(0, kShown)));
}

Value NowFunction(Run& run, Arguments& arguments) {
  const Bound bound(arguments, "strftime_now", {"format"}, 1);
  const std::string format = bound[0].Is(Kind::kString) ? bound[0].bytes() : "";
  std::tm time{};
  if (run.now().has_value()) {
    time = *run.now();
  } else {
    const std::time_t now = std::time(nullptr);
    localtime_r(&now, &time);
  }
  if (format.size() > 200) throw Fault("a format of strftime_now is too long");
  std::array<char, 4096> buffer{};
  // A byte before it tells an empty result from one that does not fit. The format is the template's
  // own, and read by the C library as Python has it read.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const std::size_t length =
      std::strftime(buffer.data(), buffer.size(), (" " + format).c_str(), &time);
#pragma GCC diagnostic pop
  if (length == 0) throw Fault("what strftime_now gives is too long");
  std::string repaired;
  return MakeString(run.heap(),
                    ToValidUtf8(std::string_view(buffer.data() + 1, length - 1), repaired));
}

struct GlobalRow {
  std::string_view name;
  Value (*function)(Run&, Arguments&);
};
constexpr std::array<GlobalRow, 7> kGlobals{{
    {"range", RangeFunction},
    {"namespace", NamespaceFunction},
    {"dict", DictFunction},
    {"cycler", CyclerFunction},
    {"joiner", JoinerFunction},
    {"raise_exception", RaiseFunction},
    {"strftime_now", NowFunction},
}};

}  // namespace

std::string RangeName(std::int64_t begin, std::int64_t end, std::int64_t step) {
  std::string name = "range(" + std::to_string(begin) + ", " + std::to_string(end);
  if (step != 1) name += ", " + std::to_string(step);
  return name + ")";
}

std::optional<Value> GlobalOf(Run& run, const std::string& name) {
  for (const GlobalRow& row : kGlobals) {
    if (row.name == name) return run.Function(name, row.function);
  }
  return std::nullopt;
}

}  // namespace lieq::jinja
