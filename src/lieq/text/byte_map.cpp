#include "lieq/text/byte_map.h"

#include <algorithm>
#include <utility>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr std::size_t kFewestSlots = 64;

/// High and low half of the 128-bit product, folded: the mixing step of wyhash.
std::uint64_t Fold(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// Up to eight bytes as a number.
std::uint64_t Load(std::string_view bytes) noexcept {
  std::uint64_t word = 0;
  bytes.copy(reinterpret_cast<char*>(&word), sizeof word);
  return word;
}

std::uint32_t Hash(std::string_view key) noexcept {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15u;
  std::uint64_t hash = key.size() * kOdd;
  for (; key.size() > 8; key.remove_prefix(8)) hash = Fold(hash ^ Load(key.substr(0, 8)), kOdd);
  hash = Fold(hash ^ Load(key), kOdd);
  return static_cast<std::uint32_t>(hash ^ hash >> 32);
}

}  // namespace

std::int32_t ByteMap::Find(std::string_view key) const noexcept {
  if (slots_.empty()) return -1;
  const std::uint32_t hash = Hash(key);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.number < 0) return -1;
    if (slot.hash == hash && this->key(static_cast<std::size_t>(slot.number)) == key) {
      return slot.number;
    }
  }
}

void ByteMap::Add(std::string_view key) {
  LIEQ_ASSERT(Find(key) < 0);
  if (ends_.size() * 2 >= slots_.size()) Grow();
  bytes_ += key;
  Place({Hash(key), static_cast<std::int32_t>(ends_.size())});
  ends_.push_back(bytes_.size());
}

void ByteMap::Place(Slot slot) noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = slot.hash & mask;
  while (slots_[at].number >= 0) at = (at + 1) & mask;
  slots_[at] = slot;
}

void ByteMap::Grow() {
  const std::vector<Slot> old =
      std::exchange(slots_, std::vector<Slot>(std::max(kFewestSlots, slots_.size() * 2)));
  for (const Slot& slot : old) {
    if (slot.number >= 0) Place(slot);
  }
}

}  // namespace lieq
