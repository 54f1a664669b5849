// The few scalar types that every folder shares.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lieq {

using TokenId = std::int32_t;
using Index =
    std::int64_t;  // extents and offsets of matrices: signed, so that differences are safe

/// Index as the unsigned type of the standard library; negative values are a broken invariant.
constexpr std::size_t Size(Index value) noexcept {
  return static_cast<std::size_t>(value);
}

constexpr Index CeilDiv(Index value, Index divisor) noexcept {
  return (value + divisor - 1) / divisor;
}

/// a * b or a + b where both come from a file: false on overflow, so that the caller can name it.
[[nodiscard]] inline bool CheckedMultiply(std::uint64_t a, std::uint64_t b,
                                          std::uint64_t& product) noexcept {
  return !__builtin_mul_overflow(a, b, &product);
}
[[nodiscard]] inline bool CheckedAdd(std::uint64_t a, std::uint64_t b,
                                     std::uint64_t& sum) noexcept {
  return !__builtin_add_overflow(a, b, &sum);
}

}  // namespace lieq
