// Matrix products in bf16 arithmetic: factors rounded to bf16, sums in float. Two paths: vectors
// (AVX512_BF16) and the matrix unit (AMX_BF16).
#pragma once

#include <cstddef>
#include <cstdint>

namespace lieq {

/// Whether this processor has the instructions; nothing else here may be called otherwise.
[[nodiscard]] bool HasBf16Product() noexcept;

/// 16-bit words that PackBf16Weights writes for w [n, k].
[[nodiscard]] std::size_t PackedBf16Words(std::ptrdiff_t n, std::ptrdiff_t k) noexcept;
/// Columns of a row that RoundRowsToBf16 writes for k columns: the next even number.
[[nodiscard]] constexpr std::ptrdiff_t EvenColumns(std::ptrdiff_t k) noexcept {
  return k + k % 2;
}

/// Panels of 16 rows of w: for each pair of columns, 16 times two words. Missing rows and the
/// missing column of an odd k are 0. w [n, k] with a row stride in elements.
void PackBf16Weights(const float* w, std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t stride,
                     std::uint16_t* packed) noexcept;

/// The same of weights that lie the other way, w [k, n]: pairs first / 2 .. of panels for `all`
/// columns of the product, from `rows` rows of w. first: even; rows: even but at the end.
void PackBf16Columns(const float* w, std::ptrdiff_t rows, std::ptrdiff_t n, std::ptrdiff_t stride,
                     std::ptrdiff_t first, std::ptrdiff_t all, std::uint16_t* packed) noexcept;

/// Rows of x [m, k] as bf16, [m, EvenColumns(k)], the added column 0. To nearest, ties to even.
void RoundRowsToBf16(const float* x, std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t stride,
                     std::uint16_t* rounded) noexcept;
/// Columns of x [k, m], with a row stride, as rows of the same form.
void RoundColumnsToBf16(const float* x, std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t stride,
                        std::uint16_t* rounded) noexcept;

/// A path: which processors have it, and y = x wᵀ, or y += x wᵀ where `add`. x as from
/// RoundRowsToBf16, w as from PackBf16Weights, y [m, n] with a row stride. Sums run over columns in
/// order, so that bits depend on k and the path alone.
struct Bf16Multiplier {
  const char* name;
  bool (*supported)() noexcept;
  void (*multiply)(const std::uint16_t* x, const std::uint16_t* w, float* y, std::ptrdiff_t m,
                   std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t stride, bool add) noexcept;
};
extern const Bf16Multiplier kVectorBf16, kAmxBf16;
/// The fastest that this processor has; call it where HasBf16Product.
[[nodiscard]] const Bf16Multiplier& BestBf16() noexcept;

}  // namespace lieq
