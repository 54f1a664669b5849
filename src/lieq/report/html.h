// HTML built so that no text from a record can become markup.
//
// Names of models, texts and settings come from files that others wrote. Text and attribute values
// are escaped here and nowhere else; a fragment joins another only as an Html, never as a string.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

/// `text` for HTML content and for attributes in double quotes: the five special characters as
/// references, and U+FFFD for invalid UTF-8, control characters other than tab and line feed,
/// noncharacters, and the characters that turn the direction of what follows.
[[nodiscard]] std::string EscapeHtml(std::string_view text);

struct Attribute {
  std::string_view name;  // ours, written as it is
  std::string value;      // escaped
};

/// A fragment of HTML or inline SVG, well-formed by the time it is read.
class Html {
 public:
  Html& Open(std::string_view tag, std::initializer_list<Attribute> attributes = {});
  /// Closes the innermost open element.
  Html& Close();
  Html& Text(std::string_view text);
  /// Open, Text, Close.
  Html& Element(std::string_view tag, std::string_view text,
                std::initializer_list<Attribute> attributes = {});
  /// An element without content or end tag: meta, br, input.
  Html& Void(std::string_view tag, std::initializer_list<Attribute> attributes = {});
  Html& Add(const Html& fragment);
  /// Markup, style or script of our own; never anything out of a record.
  Html& Trusted(std::string_view markup);

  [[nodiscard]] bool empty() const noexcept { return markup_.empty(); }
  /// All elements must be closed.
  [[nodiscard]] const std::string& str() const;

 private:
  void Start(std::string_view tag, std::initializer_list<Attribute> attributes);

  std::string markup_;
  std::vector<std::string> open_;
};

}  // namespace lieq
