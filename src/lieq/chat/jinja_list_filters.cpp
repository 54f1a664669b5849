#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "lieq/chat/jinja_filter_rows.h"
#include "lieq/io/printable.h"

namespace lieq::jinja {
namespace {

/// "a.b.0" of a value: what map(attribute=...) and its like look up.
class AttributeGetter {
 public:
  AttributeGetter(Run& run, const Value& attribute) : run_(run) {
    if (attribute.Is(Kind::kString)) {
      std::size_t begin = 0;
      const std::string& text = attribute.bytes();
      while (begin <= text.size()) {
        const std::size_t end = std::min(text.find('.', begin), text.size());
        AddPart(text.substr(begin, end - begin));
        begin = end + 1;
      }
    } else if (!attribute.Is(Kind::kNone)) {
      parts_.push_back(attribute);
    }
  }

  Value Get(Value item, const Value* missing = nullptr) {
    for (const Value& part : parts_) {
      run_.Step();
      item = run_.Item(item, part);
      if (missing != nullptr && item.Is(Kind::kUndefined)) item = *missing;
    }
    return item;
  }

 private:
  void AddPart(const std::string& text) {
    std::int64_t number = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool digits = std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
    if (digits && !text.empty() && read.ec == std::errc()) {
      parts_.push_back(Value::Int(number));
    } else {
      parts_.push_back(MakeString(run_.heap(), text));
    }
  }

  Run& run_;
  std::vector<Value> parts_;
};

/// A key to compare by: lower case unless cases are told apart.
Value KeyFor(Run& run, const Value& value, bool sensitive) {
  if (sensitive || !value.Is(Kind::kString)) return value;
  return run.String(InCase(run, value.text(), LetterCase::kLower));
}

/// Sorts `items` by keys; equal ones stay in their order.
std::vector<Value> SortedBy(Run& run, const std::vector<Value>& items,
                            const std::vector<Value>& keys, bool reverse) {
  std::vector<std::size_t> order(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    run.Step();
    return reverse ? IsLess(keys[b], keys[a]) : IsLess(keys[a], keys[b]);
  });
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const std::size_t i : order) sorted.push_back(items[i]);
  return sorted;
}

Value SortFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const std::vector<Value> items = run.ItemsOf(value);
  std::vector<AttributeGetter> getters;
  if (bound.HasValue(2) && bound[2].Is(Kind::kString)) {
    std::size_t begin = 0;
    const std::string& text = bound[2].bytes();
    while (begin <= text.size()) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      getters.emplace_back(run, MakeString(run.heap(), text.substr(begin, end - begin)));
      begin = end + 1;
    }
  } else {
    getters.emplace_back(run, bound.HasValue(2) ? bound[2] : Value::None());
  }
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (AttributeGetter& getter : getters) {
      parts.push_back(KeyFor(run, getter.Get(item), bound.True(1, false)));
    }
    keys.push_back(run.List(std::move(parts)));
  }
  return run.List(SortedBy(run, items, keys, bound.True(0, false)));
}

Value DictsortFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  if (!value.Is(Kind::kDict))
    throw Fault("dictsort takes a dict", {}, std::string(TypeName(value)));
  const std::string by = bound.Has(1) && bound[1].Is(Kind::kString) ? bound[1].bytes() : "key";
  if (by != "key" && by != "value") throw Fault("dictsort sorts by key or by value");
  std::vector<Value> items;
  std::vector<Value> keys;
  for (const auto& [key, item] : DictOf(value).items) {
    items.push_back(MakeSequence(run.heap(), Kind::kTuple, {key, item}));
    keys.push_back(KeyFor(run, by == "key" ? key : item, bound.True(0, false)));
  }
  return run.List(SortedBy(run, items, keys, bound.True(2, false)));
}

Value UniqueFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "unique", {"case_sensitive", "attribute"});
  AttributeGetter getter(run, bound.HasValue(1) ? bound[1] : Value::None());
  DictObject seen(run.heap());
  std::vector<Value> items;
  for (const Value& item : run.ItemsOf(value)) {
    const Value key = KeyFor(run, getter.Get(item), bound.True(0, false));
    if (seen.Find(key) != nullptr) continue;
    seen.Set(key, Value::None());
    items.push_back(item);
  }
  return run.Generator(std::move(items));
}

template <bool kMost>
Value ExtremeFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "min and max", {"case_sensitive", "attribute"});
  const std::vector<Value> items = run.ItemsOf(value);
  if (items.empty()) return MakeUndefined(run.heap(), "the least or greatest of no items");
  AttributeGetter getter(run, bound.HasValue(1) ? bound[1] : Value::None());
  Value best = items[0];
  Value best_key = KeyFor(run, getter.Get(best), bound.True(0, false));
  for (std::size_t i = 1; i < items.size(); ++i) {
    Value key = KeyFor(run, getter.Get(items[i]), bound.True(0, false));
    if (kMost ? !IsLess(best_key, key) : !IsLess(key, best_key)) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

Value SumFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sum", {"attribute", "start"});
  AttributeGetter getter(run, bound.HasValue(0) ? bound[0] : Value::None());
  Value sum = bound.Has(1) ? bound[1] : Value::Int(0);
  if (sum.Is(Kind::kString)) throw Fault("sum adds no strings", "join");
  for (const Value& item : run.ItemsOf(value)) sum = run.Binary("+", sum, getter.Get(item));
  return sum;
}

Value JoinFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "join", {"d", "attribute"});
  AttributeGetter getter(run, bound.HasValue(1) ? bound[1] : Value::None());
  const Text between = bound.Has(0) ? run.Str(bound[0]) : Text();
  Text text;
  bool first = true;
  for (const Value& item : run.ItemsOf(value)) {
    if (!std::exchange(first, false)) text.Append(between);
    AppendStr(run.heap(), getter.Get(item), text);
    run.Step(1 + between.size() / 64);
    run.heap().Check(text.cost());
  }
  return run.String(std::move(text));
}

Value FirstFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "first", {});
  if (value.Is(Kind::kGenerator)) {  // takes no more than one
    auto& generator = static_cast<SequenceObject&>(*value.object());
    if (generator.next < generator.items.size()) return generator.items[generator.next++];
    return MakeUndefined(run.heap(), "the first of no items");
  }
  const std::vector<Value> items = run.ItemsOf(value);
  return items.empty() ? MakeUndefined(run.heap(), "the first of no items") : items.front();
}

Value LastFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "last", {});
  if (value.Is(Kind::kGenerator)) throw Fault("this has no last item", "a list", "a generator");
  const std::vector<Value> items = run.ItemsOf(value);
  return items.empty() ? MakeUndefined(run.heap(), "the last of no items") : items.back();
}

Value ListFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "list", {});
  return run.List(run.ItemsOf(value));
}

Value ItemsFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "items", {});
  if (value.Is(Kind::kUndefined)) return run.Generator({});
  if (!value.Is(Kind::kDict)) throw Fault("items takes a dict", {}, std::string(TypeName(value)));
  std::vector<Value> items;
  for (const auto& [key, item] : DictOf(value).items) {
    items.push_back(MakeSequence(run.heap(), Kind::kTuple, {key, item}));
  }
  return run.Generator(std::move(items));
}

Value ReverseFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "reverse", {});
  if (value.Is(Kind::kString)) {
    return run.Slice(value, Value::None(), Value::None(), Value::Int(-1));
  }
  std::vector<Value> items = run.ItemsOf(value);
  std::ranges::reverse(items);
  return value.Is(Kind::kGenerator) ? run.List(std::move(items)) : run.Generator(std::move(items));
}

Value BatchFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "batch", {"linecount", "fill_with"}, 1);
  const std::int64_t count = bound.Integer(0, 1);
  std::vector<Value> batches;
  std::vector<Value> batch;
  const auto finish = [&] { batches.push_back(run.List(std::exchange(batch, {}))); };
  for (const Value& item : run.ItemsOf(value)) {
    if (static_cast<std::int64_t>(batch.size()) == count) finish();
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (bound.HasValue(1) && count > static_cast<std::int64_t>(batch.size())) {
      run.heap().Check(static_cast<std::size_t>(std::min<std::int64_t>(count, INT32_MAX)) *
                       sizeof(Value));
      batch.resize(static_cast<std::size_t>(count), bound[1]);
    }
    finish();
  }
  return run.Generator(std::move(batches));
}

Value SliceFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "slice", {"slices", "fill_with"}, 1);
  const std::int64_t slices = bound.Integer(0, 1);
  const std::vector<Value> items = run.ItemsOf(value);
  if (slices == 0) throw Fault("slice makes no parts");
  const auto length = static_cast<std::int64_t>(items.size());
  const std::int64_t each = slices < 0 ? 0 : length / slices;
  const std::int64_t longer = slices < 0 ? 0 : length % slices;
  std::vector<Value> parts;
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < slices; ++i) {
    run.Step();
    const std::int64_t end = begin + each + (i < longer ? 1 : 0);
    std::vector<Value> part(items.begin() + begin, items.begin() + end);
    if (bound.HasValue(1) && i >= longer) part.push_back(bound[1]);
    parts.push_back(run.List(std::move(part)));
    begin = end;
  }
  return run.Generator(std::move(parts));
}

Value GroupbyFilter(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  AttributeGetter getter(run, bound[0]);
  const std::vector<Value> items = run.ItemsOf(value);
  std::vector<Value> pairs;
  std::vector<Value> keys;
  for (const Value& item : items) {
    const Value own = getter.Get(item, bound.HasValue(1) ? &bound[1] : nullptr);
    keys.push_back(KeyFor(run, own, bound.True(2, false)));
    pairs.push_back(MakeSequence(run.heap(), Kind::kTuple, {own, keys.back(), item}));
  }
  std::vector<Value> groups;
  std::vector<Value> group;
  const std::vector<Value> sorted = SortedBy(run, pairs, keys, false);
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const std::vector<Value>& pair = sorted[i].items();
    group.push_back(pair[2]);
    if (i + 1 < sorted.size() && IsEqual(sorted[i + 1].items()[1], pair[1])) continue;
    const Value first = sorted[i + 1 - group.size()].items()[0];  // its own case
    Value list = run.List(std::exchange(group, {}));
    groups.push_back(MakeSequence(run.heap(), Kind::kTuple, {first, std::move(list)}, "group"));
  }
  return run.List(std::move(groups));
}

std::string NameArgument(Arguments& arguments, std::string_view filter) {
  if (arguments.positional.empty() || !arguments.positional[0].Is(Kind::kString)) {
    throw Fault(std::string(filter) + " takes a name");
  }
  std::string name = arguments.positional[0].bytes();
  arguments.positional.erase(arguments.positional.begin());
  return name;
}

Value MapFilter(Run& run, const Value& value, Arguments& arguments) {
  std::vector<Value> results;
  if (!IsTrue(value)) return run.Generator({});
  if (arguments.positional.empty() && !arguments.named.empty()) {
    const Bound bound(arguments, "map", {"attribute", "default"}, 1);
    AttributeGetter getter(run, bound[0]);
    const Value* const missing = bound.HasValue(1) ? &bound[1] : nullptr;
    for (const Value& item : run.ItemsOf(value)) results.push_back(getter.Get(item, missing));
    return run.Generator(std::move(results));
  }
  const std::string name = NameArgument(arguments, "map");
  for (const Value& item : run.ItemsOf(value)) {
    Arguments copy = arguments;
    run.Step();
    results.push_back(run.Filter(name, item, copy));
  }
  return run.Generator(std::move(results));
}

template <bool kWanted, bool kAttribute>
Value SelectFilter(Run& run, const Value& value, Arguments& arguments) {
  std::vector<Value> results;
  if (!IsTrue(value)) return run.Generator({});
  Value attribute = Value::None();
  if (kAttribute) {
    if (arguments.positional.empty()) throw Fault("selectattr takes the name of an attribute");
    attribute = arguments.positional[0];
    arguments.positional.erase(arguments.positional.begin());
  }
  AttributeGetter getter(run, attribute);
  const bool tests = !arguments.positional.empty();
  const std::string name = tests ? NameArgument(arguments, "select") : std::string();
  for (const Value& item : run.ItemsOf(value)) {
    run.Step();
    const Value part = getter.Get(item);
    Arguments copy = arguments;
    if ((tests ? run.Test(name, part, copy) : IsTrue(part)) == kWanted) results.push_back(item);
  }
  return run.Generator(std::move(results));
}

constexpr std::array<FilterRow, 20> kListFilters{{
    {"join", JoinFilter},
    {"list", ListFilter},
    {"items", ItemsFilter},
    {"first", FirstFilter},
    {"last", LastFilter},
    {"reverse", ReverseFilter},
    {"sort", SortFilter},
    {"dictsort", DictsortFilter},
    {"unique", UniqueFilter},
    {"min", ExtremeFilter<false>},
    {"max", ExtremeFilter<true>},
    {"sum", SumFilter},
    {"map", MapFilter},
    {"select", SelectFilter<true, false>},
    {"reject", SelectFilter<false, false>},
    {"selectattr", SelectFilter<true, true>},
    {"rejectattr", SelectFilter<false, true>},
    {"batch", BatchFilter},
    {"slice", SliceFilter},
    {"groupby", GroupbyFilter},
}};

}  // namespace

std::span<const FilterRow> ListFilters() {
  return kListFilters;
}

}  // namespace lieq::jinja
