// Where the bytes of a changed text come from.
#pragma once

#include <cstddef>
#include <vector>

namespace lieq {

/// Offsets of a text that was made of another one, to offsets of that other one. Without marks they
/// are the same.
class Origins {
 public:
  void Clear() noexcept { marks_.clear(); }
  /// Bytes from `at` on, up to the next mark, are those of the other text from `origin` on. Marks
  /// rise in both.
  void Mark(std::size_t at, std::size_t origin) { marks_.push_back({at, origin}); }
  /// Of a byte that has no counterpart (a longer replacement), where its replacement ends.
  [[nodiscard]] std::size_t Of(std::size_t at) const noexcept;

 private:
  struct Place {
    std::size_t at = 0;
    std::size_t origin = 0;
  };
  std::vector<Place> marks_;
};

}  // namespace lieq
