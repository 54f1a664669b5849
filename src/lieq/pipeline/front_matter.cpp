#include "lieq/pipeline/front_matter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "lieq/text/utf8.h"

namespace lieq {
namespace {

using Key = std::pair<std::string, std::vector<std::string>>;
using Scalar = std::optional<std::string>;

constexpr std::size_t kLongest = 1000;  // bytes of a value: a license's link, not its text
constexpr std::size_t kMostItems = 1000;

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

bool IsWordCharacter(unsigned char c) {
  return std::isalnum(c) != 0 || c == '_' || c == '-';
}

/// Whether YAML 1.1 allows the character in a stream, and every editor shows it on its line.
bool IsPrintable(char32_t c) {
  if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return false;
  return c != 0x2028 && c != 0x2029 && c != 0xFEFF && c != 0xFFFE && c != 0xFFFF;
}

bool IsPrintable(std::string_view text) {
  if (FindFaults(text).bytes > 0) return false;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = CodePointAt(text, at);
    if (!IsPrintable(point.value)) return false;
    at += point.bytes;
  }
  return true;
}

bool IsBlankOrRemark(std::string_view text) {
  text = Trimmed(text);
  return text.empty() || text.front() == '#';
}

/// Up to the quote that closes what begins with one; behind it there is nothing but a remark.
Scalar Quoted(std::string_view text) {
  const char quote = text.front();
  std::string value;
  for (std::size_t at = 1; at < text.size(); ++at) {
    const bool twice = quote == '\'' && text.substr(at).starts_with("''");
    const bool escaped = quote == '"' && text[at] == '\\';
    if (twice || escaped) {
      if (++at == text.size()) return {};
      if (escaped && text[at] != '"' && text[at] != '\\') return {};
    } else if (text[at] == quote) {
      const std::string_view rest = text.substr(at + 1);
      const bool remark =
          rest.empty() || ((rest.front() == ' ' || rest.front() == '\t') && IsBlankOrRemark(rest));
      return remark ? Scalar(std::move(value)) : std::nullopt;
    }
    value += text[at];
  }
  return {};
}

/// text: without white space around it. Nothing where it may mean something else than it says.
Scalar ReadScalar(std::string_view text) {
  if (text.empty() || text.size() > kLongest || !IsPrintable(text)) return {};
  if (text.front() == '"' || text.front() == '\'') return Quoted(text);
  const std::size_t remark = text.find(" #");
  text = Trimmed(text.substr(0, remark));
  constexpr std::string_view kSigns = "[]{}|>&*!%@`#,?";
  if (text.empty() || kSigns.find(text.front()) != std::string_view::npos) return {};
  if (text.front() == '-' && (text.size() == 1 || text[1] == ' ')) return {};
  if (text.find(": ") != std::string_view::npos || text.back() == ':') return {};
  if (text == "~" || text == "null") return {};
  return std::string(text);
}

/// "[en, 'de']"; nothing where an item cannot be read.
std::optional<std::vector<std::string>> FlowList(std::string_view text) {
  text = text.substr(1, text.size() - 2);
  std::vector<std::string> values;
  while (!Trimmed(text).empty()) {
    text = Trimmed(text);
    std::size_t end = 0;
    for (char quote = 0; end < text.size() && (quote != 0 || text[end] != ','); ++end) {
      const char c = text[end];
      if (quote == 0 && end == 0 && (c == '"' || c == '\'')) {
        quote = c;
      } else if (c == quote) {
        quote = 0;
      }
    }
    Scalar item = ReadScalar(Trimmed(text.substr(0, end)));
    if (!item || values.size() == kMostItems) return {};
    values.push_back(std::move(*item));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return values;
}

/// Lines of a head, one after another.
class Reader {
 public:
  void Line(std::string_view line) {
    if (IsBlankOrRemark(line)) return;
    const std::string_view content = Trimmed(line);
    const auto margin = static_cast<std::size_t>(content.data() - line.data());
    const bool item = content == "-" || content.starts_with("- ");
    if (item && list_ && (keys_.back().second.empty() || margin == margin_)) {
      margin_ = margin;
      Add(ReadScalar(Trimmed(content.substr(1))));
    } else if (margin > 0 || item) {  // belongs to what is above, in a way that is not read
      Drop();
    } else {
      Begin(content);
    }
  }
  [[nodiscard]] std::vector<Key> Finish() { return std::move(keys_); }

 private:
  void Begin(std::string_view content) {
    list_ = false;
    open_ = false;
    const std::size_t colon = content.find(':');
    if (colon == std::string_view::npos || colon == 0 || colon > kLongest) return;
    const std::string_view name = content.substr(0, colon), rest = content.substr(colon + 1);
    if (!std::ranges::all_of(name, IsWordCharacter)) return;
    if (!rest.empty() && rest.front() != ' ' && rest.front() != '\t') return;
    keys_.emplace_back(std::string(name), std::vector<std::string>());
    open_ = true;
    const std::string_view value = Trimmed(rest);
    list_ = IsBlankOrRemark(value);
    if (list_) return;
    if (value.front() == '[' && value.back() == ']') {
      if (auto values = FlowList(value)) keys_.back().second = std::move(*values);
    } else if (Scalar scalar = ReadScalar(value)) {
      keys_.back().second.push_back(std::move(*scalar));
    }
  }
  void Add(Scalar item) {
    if (!item || keys_.back().second.size() == kMostItems) return Drop();
    keys_.back().second.push_back(std::move(*item));
  }
  void Drop() {
    list_ = false;
    if (open_) keys_.back().second.clear();
  }

  std::vector<Key> keys_;
  bool open_ = false;  // the last key is that of the lines that come
  bool list_ = false;  // and items of it may come
  std::size_t margin_ = 0;
};

}  // namespace

std::vector<Key> FrontMatter(std::string_view text) {
  constexpr std::string_view kFence = "---", kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  Reader reader;
  for (bool open = false; !text.empty(); open = true) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool fence = Trimmed(line) == kFence && line.starts_with(kFence);
    if (!open && !fence) return {};  // it is at the very start or not there
    if (open && fence) return reader.Finish();
    if (open) reader.Line(line);
  }
  return {};  // never closed: a text that happens to begin with a rule
}

std::string YamlString(std::string_view value) {
  // Words that YAML 1.1 reads as something else, in any case.
  constexpr std::array<std::string_view, 9> kWords{"no",    "yes",  "on", "off", "true",
                                                   "false", "null", "y",  "n"};
  std::string lower(value);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool plain = !value.empty() && std::isalpha(static_cast<unsigned char>(value[0])) != 0 &&
                     std::ranges::all_of(value, [](unsigned char c) {
                       return IsWordCharacter(c) || c == '.' || c == '/';
                     });
  if (plain && std::ranges::find(kWords, lower) == kWords.end()) return std::string(value);
  std::string storage, text = "\"";
  const std::string_view valid = ToValidUtf8(value, storage);
  for (std::size_t at = 0; at < valid.size();) {
    const CodePoint point = CodePointAt(valid, at);
    const std::string_view bytes = valid.substr(at, point.bytes);
    at += point.bytes;
    if (point.value == '"' || point.value == '\\') text += '\\';
    if (IsPrintable(point.value)) {
      text += bytes;
    } else {
      text += fmt::format("\\u{:04X}", static_cast<std::uint32_t>(point.value));
    }
  }
  return text + "\"";
}

}  // namespace lieq
