#include "lieq/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/text/reference_unicode.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

enum class Kind : std::uint8_t {
  kStarter,  // unchanged on its own, and takes no part in what comes before it
  kInert,    // the same, nor in what follows
  kActive,   // may change, or move, or compose with what comes before
};

// All characters below are starters that compose with nothing before them and are composed already.
constexpr char32_t kFirstMark = 0x300;

constexpr bool IsConjoiningJamo(char32_t c) {
  return c >= 0x1160 && c <= 0x11FF;
}
constexpr bool IsHangulSyllable(char32_t c) {
  return c >= 0xAC00 && c <= 0xD7A3;
}

Kind KindOf(char32_t code_point) {
  if (code_point < kFirstMark) return Kind::kStarter;
  if (IsInert(code_point)) return Kind::kInert;
  if (IsHangulSyllable(code_point)) return Kind::kStarter;  // decomposes by rule, and is composed
  const utf8proc_property_t& property =
      *utf8proc_get_property(static_cast<utf8proc_int32_t>(code_point));
  const bool decomposes = property.decomp_seqindex != UINT16_MAX && property.decomp_type == 0;
  const bool mark = property.category == UTF8PROC_CATEGORY_MN ||
                    property.category == UTF8PROC_CATEGORY_MC ||
                    property.category == UTF8PROC_CATEGORY_ME;
  return decomposes || mark || IsConjoiningJamo(code_point) ? Kind::kActive : Kind::kStarter;
}

utf8proc_propval_t CombiningClass(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

/// NFC of `text`, which neither takes part in what is around it nor holds inert characters, into
/// `nfc`. `points` is scratch.
///
/// utf8proc's own decomposition puts marks in order by a bubble sort, so a megabyte of them would
/// take hours.
void Compose(std::string_view text, std::vector<utf8proc_int32_t>& points, std::string& nfc) {
  points.clear();
  nfc.clear();
  for (std::size_t position = 0; position < text.size();) {
    const CodePoint character = CodePointAt(text, position);
    position += character.bytes;
    std::array<utf8proc_int32_t, 8> parts{};  // the longest canonical decomposition has four
    int boundary_class = 0;                   // of grapheme breaks, which are not asked for
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(character.value), parts.data(), parts.size(),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary_class);
    LIEQ_ASSERT(count > 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()));
    points.insert(points.end(), parts.begin(), parts.begin() + count);
  }

  const auto starts = [](utf8proc_int32_t point) { return CombiningClass(point) == 0; };
  for (auto run = points.begin(); run != points.end();) {
    run = std::find_if_not(run, points.end(), starts);
    const auto end = std::find_if(run, points.end(), starts);
    std::ranges::stable_sort(run, end, {}, CombiningClass);
    run = end;
  }

  const utf8proc_ssize_t composed =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  LIEQ_ASSERT(composed >= 0);
  points.resize(static_cast<std::size_t>(composed));
  for (const utf8proc_int32_t point : points) AppendUtf8(nfc, static_cast<char32_t>(point));
}

}  // namespace

std::string_view ToNfc(std::string_view text, std::string& storage) {
  std::vector<utf8proc_int32_t> points;
  std::string nfc;
  storage.clear();
  std::size_t copied = 0;  // bytes of `text` that are in `storage`
  std::size_t begin = 0;   // of what an active character may change: the starter before it
  for (std::size_t position = 0; position < text.size();) {
    if (const std::size_t ascii = AsciiWords(text, position); ascii > 0) {
      position += ascii;
      begin = position - 1;
      continue;
    }
    CodePoint character = CodePointAt(text, position);
    Kind kind = KindOf(character.value);
    if (kind != Kind::kActive) {
      begin = kind == Kind::kStarter ? position : position + character.bytes;
      position += character.bytes;
      continue;
    }
    while (kind == Kind::kActive) {
      position += character.bytes;
      if (position == text.size()) break;
      character = CodePointAt(text, position);
      kind = KindOf(character.value);
    }
    const std::string_view part = text.substr(begin, position - begin);
    Compose(part, points, nfc);
    if (nfc != part) {
      storage.append(text, copied, begin - copied);
      storage += nfc;
      copied = position;
    }
    begin = position;
  }
  if (copied == 0) return text;
  storage.append(text, copied);
  return storage;
}

}  // namespace lieq
