#include "lieq/text/junctions.h"

#include <algorithm>
#include <utility>

#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr std::uint64_t kFree = 0;  // no pair: U+0000 twice is ASCII
constexpr std::size_t kFewestSlots = 1024;

constexpr std::uint64_t PairOf(char32_t left, char32_t right) {
  return std::uint64_t{left} << 32u | right;
}

char32_t LastCharacter(std::string_view text) {
  std::size_t start = text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0u) == 0x80u) --start;
  return CodePointAt(text, start).value;
}

}  // namespace

std::size_t Junctions::HashOf(std::uint64_t pair) noexcept {
  return static_cast<std::size_t>(pair * 0x9E3779B97F4A7C15u >> 32u);
}

void Junctions::Add(std::string_view left, std::string_view right) {
  if (left.empty() || right.empty()) return;
  const char32_t last = LastCharacter(left), first = CodePointAt(right, 0).value;
  if (last < kAscii && first < kAscii) {
    ascii_.set(last * kAscii + first);
  } else {
    Insert(PairOf(last, first));
  }
}

void Junctions::Insert(std::uint64_t pair) {
  if (taken_ * 2 >= slots_.size()) {
    const std::vector<std::uint64_t> old = std::exchange(
        slots_, std::vector<std::uint64_t>(std::max(kFewestSlots, slots_.size() * 2), kFree));
    taken_ = 0;
    for (const std::uint64_t each : old) {
      if (each != kFree) Insert(each);
    }
  }
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = HashOf(pair) & mask;
  while (slots_[at] != kFree && slots_[at] != pair) at = (at + 1) & mask;
  taken_ += slots_[at] == kFree ? 1 : 0;
  slots_[at] = pair;
}

bool Junctions::MayJoin(char32_t left, char32_t right) const noexcept {
  if (left < kAscii && right < kAscii) return ascii_.test(left * kAscii + right);
  if (slots_.empty()) return false;
  const std::uint64_t pair = PairOf(left, right);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = HashOf(pair) & mask;; at = (at + 1) & mask) {
    if (slots_[at] == pair) return true;
    if (slots_[at] == kFree) return false;
  }
}

}  // namespace lieq
