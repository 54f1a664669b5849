#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "lieq/chat/jinja_run.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

/// json.dumps.
class JsonWriter {
 public:
  JsonWriter(Run& run, const Bound& bound) : run_(run), ascii_(bound.True(0, false)) {
    indents_ = bound.HasValue(1);
    if (indents_ && bound[1].Is(Kind::kString)) {
      indent_ = bound[1].bytes();
    } else if (indents_) {
      const std::int64_t width = bound.Integer(1, 0);
      if (width > 1000) throw Fault("an indent of tojson is too large");
      indent_.assign(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
    }
    comma_ = indents_ ? "," : ", ";
    if (bound.HasValue(2)) {
      const std::vector<Value> signs = run.ItemsOf(bound[2]);
      if (signs.size() != 2 || !signs[0].Is(Kind::kString) || !signs[1].Is(Kind::kString)) {
        throw Fault("separators of tojson are two strings");
      }
      comma_ = signs[0].bytes();
      colon_ = signs[1].bytes();
    }
    sorted_ = bound.True(3, false);
  }

  Text Write(const Value& value) {
    Add(value, 0);
    return std::move(text_);
  }

 private:
  void Add(const Value& value, std::size_t depth) {
    run_.Step();
    run_.heap().Check(text_.cost());
    switch (value.kind()) {
      case Kind::kNone:
        return text_.Append("null");
      case Kind::kBool:
        return text_.Append(value.integer() != 0 ? "true" : "false");
      case Kind::kInt:
        return text_.Append(std::to_string(value.integer()));
      case Kind::kFloat:
        return text_.Append(NumberText(value.real()));
      case Kind::kString:
        return AddString(value.text());
      case Kind::kList:
      case Kind::kTuple:
        return AddList(value, depth);
      case Kind::kDict:
        return AddDict(value, depth);
      default:
        throw Fault("tojson cannot write this", "strings, numbers, lists and dicts",
                    std::string(TypeName(value)));
    }
  }

  static std::string NumberText(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatText(value);
  }

  void NewLine(std::size_t depth) {
    if (!indents_) return;
    text_.Append("\n");
    for (std::size_t i = 0; i < depth; ++i) text_.Append(indent_);
  }

  void AddList(const Value& value, std::size_t depth) {
    if (value.items().empty()) return text_.Append("[]");
    text_.Append("[");
    bool first = true;
    for (const Value& item : value.items()) {
      if (!std::exchange(first, false)) text_.Append(comma_);
      NewLine(depth + 1);
      Add(item, depth + 1);
    }
    NewLine(depth);
    text_.Append("]");
  }

  void AddDict(const Value& value, std::size_t depth) {
    std::vector<std::pair<Value, Value>> items = DictOf(value).items;
    if (items.empty()) return text_.Append("{}");
    if (sorted_) {
      run_.Step(items.size() * 8);
      std::ranges::stable_sort(items, IsLess, &std::pair<Value, Value>::first);
    }
    text_.Append("{");
    bool first = true;
    for (const auto& [key, item] : items) {
      if (!std::exchange(first, false)) text_.Append(comma_);
      NewLine(depth + 1);
      AddKey(key);
      text_.Append(colon_);
      Add(item, depth + 1);
    }
    NewLine(depth);
    text_.Append("}");
  }

  void AddKey(const Value& key) {
    if (key.Is(Kind::kString)) return AddString(key.text());
    if (!key.IsNumber() && !key.Is(Kind::kNone)) {
      throw Fault("tojson takes strings and numbers as keys", {}, std::string(TypeName(key)));
    }
    text_.Append("\"");
    Add(key, 0);
    text_.Append("\"");
  }

  void AddString(const Text& value) {
    constexpr std::string_view kSigns = "\"\\\n\r\t\b\f";
    constexpr std::string_view kLetters = "\"\\nrtbf";
    const std::string& bytes = value.bytes();
    text_.Append("\"");
    run_.Step(bytes.size() / 16);
    for (std::size_t i = 0; i < bytes.size();) {
      const CodePoint point = CodePointAt(bytes, i);
      const Mark mark = value.MarkAt(i);
      const std::size_t known = point.bytes == 1 ? kSigns.find(bytes[i]) : std::string_view::npos;
      if (known != std::string_view::npos) {
        text_.Append(std::string{'\\', kLetters[known]}, mark);
      } else if (point.value < 0x20 || (ascii_ && point.value > 0x7E)) {
        AddEscape(point.value, mark);
      } else {
        text_.Append(value, i, i + point.bytes);
      }
      i += point.bytes;
    }
    text_.Append("\"");
  }

  void AddEscape(char32_t character, Mark mark) {
    if (ascii_ && character == 0x7F) return text_.Append("\x7F", mark);
    const auto unit = [&](unsigned code) {
      std::array<char, 16> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", code);
      text_.Append(escape.data(), mark);
    };
    if (character < 0x10000) return unit(static_cast<unsigned>(character));
    unit(0xD800 + ((static_cast<unsigned>(character) - 0x10000) >> 10));
    unit(0xDC00 + ((static_cast<unsigned>(character) - 0x10000) & 0x3FF));
  }

  Run& run_;
  Text text_;
  bool ascii_;
  bool indents_ = false;
  bool sorted_ = false;
  std::string indent_;
  std::string comma_;
  std::string colon_ = ": ";
};

}  // namespace

Value ToJson(Run& run, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  return run.String(JsonWriter(run, bound).Write(value));
}

}  // namespace lieq::jinja
