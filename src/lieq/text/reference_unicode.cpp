#include "lieq/text/reference_unicode.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>

#include "lieq/text/utf8.h"

namespace lieq {
namespace {

struct CodePointRange {
  char32_t first = 0;
  char32_t last = 0;
};

struct StandInRange {
  char32_t first = 0;
  char32_t last = 0;
  char32_t stand_in = 0;
};

#include "lieq/text/reference_unicode.inc"

constexpr std::size_t kPageBits = 8;
using Pages = std::array<bool, (0x110000u >> kPageBits)>;

/// Pages of 256 code points that a table touches: most characters need no search.
template <class Table>
constexpr Pages PagesOf(const Table& table) {
  Pages pages{};
  for (const auto& range : table) {
    for (char32_t page = range.first >> kPageBits; page <= range.last >> kPageBits; ++page) {
      pages[page] = true;
    }
  }
  return pages;
}

constexpr Pages kStandInPages = PagesOf(kStandIns);
constexpr Pages kInertPages = PagesOf(kInert);

/// The range that holds the code point; nullptr where none does. Ranges rise.
template <class Range, std::size_t size>
const Range* Find(const Range (&table)[size], const Pages& pages, char32_t code_point) noexcept {
  if (!pages[code_point >> kPageBits]) return nullptr;
  const Range* const range = std::ranges::lower_bound(table, code_point, {}, &Range::last);
  return range != std::end(table) && range->first <= code_point ? range : nullptr;
}

}  // namespace

std::string_view WithStandIns(std::string_view text, std::string& storage) {
  std::size_t copied = 0;  // bytes of `text` that are in `storage`
  for (std::size_t position = 0; position < text.size();) {
    position += AsciiWords(text, position);
    if (position == text.size()) break;
    const CodePoint character = CodePointAt(text, position);
    if (const auto* range = Find(kStandIns, kStandInPages, character.value)) {
      if (copied == 0) storage.clear();
      storage.append(text, copied, position - copied);
      AppendUtf8(storage, range->stand_in);
      copied = position + character.bytes;
    }
    position += character.bytes;
  }
  if (copied == 0) return text;
  storage.append(text, copied);
  return storage;
}

bool IsInert(char32_t code_point) noexcept {
  return Find(kInert, kInertPages, code_point) != nullptr;
}

}  // namespace lieq
