#include "lieq/report/html.h"

#include <cstdint>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Decoded {
  std::uint32_t code = 0;
  std::size_t bytes = 0;  // 0: not UTF-8
};

/// The code point at the start of `text`, which is not empty. Overlong forms, surrogates and code
/// points beyond U+10FFFF are not UTF-8.
Decoded Decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < bytes) return {};
  std::uint32_t code = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[bytes] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return {};
  return {code, bytes};
}

/// Characters that a page should not carry, or that make text look like other text.
bool Unwanted(std::uint32_t code) {
  if (code < 0x20) return code != '\t' && code != '\n';
  if (code >= 0x7F && code <= 0x9F) return true;
  if (code == 0x061C || code == 0x200E || code == 0x200F) return true;  // direction marks
  if (code >= 0x202A && code <= 0x202E) return true;                    // embeddings, overrides
  if (code >= 0x2066 && code <= 0x2069) return true;                    // isolates
  return (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const Decoded decoded = Decode(text);
    if (decoded.bytes == 0) {
      escaped += kReplacement;
      text.remove_prefix(1);
      continue;
    }
    switch (decoded.code) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += Unwanted(decoded.code) ? kReplacement : text.substr(0, decoded.bytes);
    }
    text.remove_prefix(decoded.bytes);
  }
  return escaped;
}

void Html::Start(std::string_view tag, std::initializer_list<Attribute> attributes) {
  markup_ += '<';
  markup_ += tag;
  for (const Attribute& attribute : attributes) {
    markup_ += ' ';
    markup_ += attribute.name;
    markup_ += "=\"";
    markup_ += EscapeHtml(attribute.value);
    markup_ += '"';
  }
  markup_ += '>';
}

Html& Html::Open(std::string_view tag, std::initializer_list<Attribute> attributes) {
  Start(tag, attributes);
  open_.emplace_back(tag);
  return *this;
}

Html& Html::Close() {
  LIEQ_ASSERT(!open_.empty());
  markup_ += "</" + open_.back() + ">";
  open_.pop_back();
  return *this;
}

Html& Html::Text(std::string_view text) {
  markup_ += EscapeHtml(text);
  return *this;
}

Html& Html::Element(std::string_view tag, std::string_view text,
                    std::initializer_list<Attribute> attributes) {
  return Open(tag, attributes).Text(text).Close();
}

Html& Html::Void(std::string_view tag, std::initializer_list<Attribute> attributes) {
  Start(tag, attributes);
  return *this;
}

Html& Html::Add(const Html& fragment) {
  markup_ += fragment.str();
  return *this;
}

Html& Html::Trusted(std::string_view markup) {
  markup_ += markup;
  return *this;
}

const std::string& Html::str() const {
  LIEQ_ASSERT(open_.empty());
  return markup_;
}

}  // namespace lieq
