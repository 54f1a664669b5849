// A map from byte strings to the order in which they came: 0, 1, 2, ... One table and one arena of
// bytes, where std::unordered_map takes an allocation per entry: look-ups are most of a word cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

class ByteMap {
 public:
  /// Number of the key; -1 where it is not there.
  [[nodiscard]] std::int32_t Find(std::string_view key) const noexcept;

  /// Adds a key that is not there yet; its number is size() before the call.
  void Add(std::string_view key);

  [[nodiscard]] std::size_t size() const noexcept { return ends_.size(); }
  [[nodiscard]] std::string_view key(std::size_t number) const noexcept {
    const std::size_t begin = number == 0 ? 0 : ends_[number - 1];
    return std::string_view(bytes_).substr(begin, ends_[number] - begin);
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::int32_t number = -1;  // -1: free
  };

  void Place(Slot slot) noexcept;
  void Grow();

  std::vector<Slot> slots_;        // a power of two of them, at most half taken
  std::string bytes_;              // all keys, one after another
  std::vector<std::size_t> ends_;  // of each key in bytes_
};

}  // namespace lieq
