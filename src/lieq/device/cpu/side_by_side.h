// Sixteen rows of words side by side: the one movement that laying a matrix out is made of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lieq {

/// to[i * 16 + lane] = rows[lane][i] for i in 0 .. count - 1. A row that is null is zeros.
inline void SideBySide(const std::array<const std::uint32_t*, 16>& rows, std::ptrdiff_t count,
                       std::uint32_t* to) {
  // Four words of four rows at a time, in registers of 16 bytes, which every processor has: words
  // written one by one meet each line of the cache sixteen times.
  using Words = std::uint32_t __attribute__((vector_size(16)));
  constexpr std::ptrdiff_t kLanes = 16, kQuad = 4;
  const auto load = [](const std::uint32_t* row, std::ptrdiff_t at) {
    Words words{};
    if (row != nullptr) std::memcpy(&words, row + at, sizeof(words));
    return words;
  };
  std::ptrdiff_t i = 0;
  for (; i + kQuad <= count; i += kQuad) {
    for (std::size_t lane = 0; lane < kLanes; lane += kQuad) {
      const Words a = load(rows[lane], i), b = load(rows[lane + 1], i);
      const Words c = load(rows[lane + 2], i), d = load(rows[lane + 3], i);
      const Words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const Words cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
      const Words ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Words cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      const std::array<Words, kQuad> columns{__builtin_shufflevector(ab, cd, 0, 1, 4, 5),
                                             __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                                             __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5),
                                             __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
      for (std::size_t k = 0; k < columns.size(); ++k) {
        std::memcpy(to + (i + static_cast<std::ptrdiff_t>(k)) * kLanes + lane, &columns[k],
                    sizeof(Words));
      }
    }
  }
  for (; i < count; ++i) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      to[i * kLanes + static_cast<std::ptrdiff_t>(lane)] =
          rows[lane] != nullptr ? rows[lane][i] : 0;
    }
  }
}

}  // namespace lieq
