#include "lieq/device/cpu/bf16_product.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace lieq {
namespace {

constexpr std::ptrdiff_t kPanel = 16;  // outputs in one vector
constexpr std::ptrdiff_t kRows = 6;    // rows and panels of a block: 24 sums in 32 registers
constexpr std::ptrdiff_t kPanels = 4;

std::ptrdiff_t Pairs(std::ptrdiff_t k) {
  return (k + 1) / 2;
}
std::ptrdiff_t PanelWords(std::ptrdiff_t k) {
  return Pairs(k) * kPanel * 2;
}

__mmask16 FirstLanes(std::ptrdiff_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << count) - 1u);
}

/// 16 floats as bf16 words.
__m256i Round(__m512 v) {
  const __m256bh rounded = _mm512_cvtneps_pbh(v);
  __m256i words;
  __builtin_memcpy(&words, &rounded, sizeof words);
  return words;
}

__m512bh AsPairs(__m512i words) {
  __m512bh pairs;
  __builtin_memcpy(&pairs, &words, sizeof pairs);
  return pairs;
}

/// A block of kM rows by kN panels: sums stay in registers over all of k.
template <int kM, int kN>
void Block(const std::uint16_t* x, const std::uint16_t* w, float* y, std::ptrdiff_t columns,
           std::ptrdiff_t k, std::ptrdiff_t stride, bool add) {
  const std::ptrdiff_t pairs = Pairs(k), row_words = 2 * pairs, panel = PanelWords(k);
  __m512 sums[kM][kN];
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) sums[i][j] = _mm512_setzero_ps();
  }
  for (std::ptrdiff_t p = 0; p < pairs; ++p) {
    __m512bh weights[kN];
    for (int j = 0; j < kN; ++j) {
      weights[j] = AsPairs(_mm512_loadu_si512(w + j * panel + p * kPanel * 2));
    }
    for (int i = 0; i < kM; ++i) {
      int pair = 0;
      __builtin_memcpy(&pair, x + i * row_words + 2 * p, sizeof pair);
      const __m512bh both = AsPairs(_mm512_set1_epi32(pair));
      for (int j = 0; j < kN; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], both, weights[j]);
    }
  }
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) {
      float* out = y + i * stride + j * kPanel;
      const __mmask16 mask = FirstLanes(columns - j * kPanel);
      if (add) sums[i][j] = _mm512_add_ps(sums[i][j], _mm512_maskz_loadu_ps(mask, out));
      _mm512_mask_storeu_ps(out, mask, sums[i][j]);
    }
  }
}

using BlockFunction = void (*)(const std::uint16_t*, const std::uint16_t*, float*, std::ptrdiff_t,
                               std::ptrdiff_t, std::ptrdiff_t, bool);

template <int kN>
BlockFunction ForRows(std::ptrdiff_t rows) {
  constexpr BlockFunction kTable[] = {Block<1, kN>, Block<2, kN>, Block<3, kN>,
                                      Block<4, kN>, Block<5, kN>, Block<6, kN>};
  return kTable[rows - 1];
}

BlockFunction ForShape(std::ptrdiff_t rows, std::ptrdiff_t panels) {
  switch (panels) {
    case 1:
      return ForRows<1>(rows);
    case 2:
      return ForRows<2>(rows);
    case 3:
      return ForRows<3>(rows);
    default:
      return ForRows<4>(rows);
  }
}

}  // namespace

bool HasBf16Product() noexcept {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

std::size_t PackedBf16Words(std::ptrdiff_t n, std::ptrdiff_t k) noexcept {
  return static_cast<std::size_t>((n + kPanel - 1) / kPanel * PanelWords(k));
}

void PackBf16Weights(const float* w, std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t stride,
                     std::uint16_t* packed) noexcept {
  // Sixteen pairs of sixteen rows at a time, which change places in a small block.
  const __m512i of_column =
      _mm512_mullo_epi32(_mm512_set1_epi32(kPanel),
                         _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
  for (std::ptrdiff_t first = 0; first < n; first += kPanel) {
    std::uint16_t* panel = packed + first / kPanel * PanelWords(k);
    const std::ptrdiff_t rows = n - first < kPanel ? n - first : kPanel;
    alignas(64) std::int32_t block[kPanel * kPanel] = {};
    for (std::ptrdiff_t c = 0; c < k; c += 2 * kPanel) {
      for (std::ptrdiff_t row = 0; row < rows; ++row) {
        const float* from = w + (first + row) * stride + c;
        const auto half = [&](std::ptrdiff_t at) {
          const std::ptrdiff_t left = k - c - at;
          return Round(left > 0 ? _mm512_maskz_loadu_ps(FirstLanes(left), from + at)
                                : _mm512_setzero_ps());
        };
        auto* to = reinterpret_cast<__m256i*>(block + row * kPanel);
        _mm256_store_si256(to, half(0));
        _mm256_store_si256(to + 1, half(kPanel));
      }
      const std::ptrdiff_t left = Pairs(k) - c / 2, pairs = left < kPanel ? left : kPanel;
      for (std::ptrdiff_t p = 0; p < pairs; ++p) {
        const __m512i column =
            _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xFFFF, of_column, block + p, 4);
        _mm512_storeu_si512(panel + (c / 2 + p) * kPanel * 2, column);
      }
    }
  }
}

void RoundRowsToBf16(const float* x, std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t stride,
                     std::uint16_t* rounded) noexcept {
  const std::ptrdiff_t width = EvenColumns(k);
  for (std::ptrdiff_t row = 0; row < m; ++row) {
    for (std::ptrdiff_t c = 0; c < width; c += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(FirstLanes(k - c), x + row * stride + c);
      _mm256_mask_storeu_epi16(rounded + row * width + c, FirstLanes(width - c), Round(v));
    }
  }
}

void PackBf16Columns(const float* w, std::ptrdiff_t rows, std::ptrdiff_t n, std::ptrdiff_t stride,
                     std::ptrdiff_t first, std::ptrdiff_t all, std::uint16_t* packed) noexcept {
  for (std::ptrdiff_t column = 0; column < n; column += kPanel) {
    const __mmask16 mask = FirstLanes(n - column);
    std::uint16_t* panel = packed + column / kPanel * PanelWords(all) + first * kPanel;
    for (std::ptrdiff_t r = 0; r < rows; r += 2) {
      const float* row = w + r * stride + column;
      const __m256i even = Round(_mm512_maskz_loadu_ps(mask, row));
      const __m256i odd =
          r + 1 < rows ? Round(_mm512_maskz_loadu_ps(mask, row + stride)) : _mm256_setzero_si256();
      const __m512i low = _mm512_maskz_cvtepu16_epi32(0xFFFF, even);
      const __m512i high =
          _mm512_maskz_slli_epi32(0xFFFF, _mm512_maskz_cvtepu16_epi32(0xFFFF, odd), 16);
      _mm512_storeu_si512(panel + r * kPanel, _mm512_or_si512(low, high));
    }
  }
}

void RoundColumnsToBf16(const float* x, std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t stride,
                        std::uint16_t* rounded) noexcept {
  constexpr std::ptrdiff_t kBlock = 32;  // rows of x: 64 bytes of a row that is written
  const std::ptrdiff_t width = EvenColumns(k);
  for (std::ptrdiff_t first = 0; first < width; first += kBlock) {
    const std::ptrdiff_t words = width - first < kBlock ? width - first : kBlock;
    for (std::ptrdiff_t column = 0; column < m; column += kPanel) {
      const std::ptrdiff_t columns = m - column < kPanel ? m - column : kPanel;
      alignas(64) std::uint16_t block[kBlock][kPanel];
      for (std::ptrdiff_t i = 0; i < words; ++i) {
        const __m512 v = first + i < k ? _mm512_maskz_loadu_ps(FirstLanes(columns),
                                                               x + (first + i) * stride + column)
                                       : _mm512_setzero_ps();
        _mm256_store_si256(reinterpret_cast<__m256i*>(block[i]), Round(v));
      }
      for (std::ptrdiff_t c = 0; c < columns; ++c) {
        std::uint16_t* to = rounded + (column + c) * width + first;
        for (std::ptrdiff_t i = 0; i < words; ++i) to[i] = block[i][c];
      }
    }
  }
}

namespace {

void MultiplyVectors(const std::uint16_t* x, const std::uint16_t* w, float* y, std::ptrdiff_t m,
                     std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t stride, bool add) noexcept {
  const std::ptrdiff_t width = EvenColumns(k);
  for (std::ptrdiff_t column = 0; column < n; column += kPanels * kPanel) {
    const std::ptrdiff_t columns = n - column < kPanels * kPanel ? n - column : kPanels * kPanel;
    const std::uint16_t* panels = w + column / kPanel * PanelWords(k);
    for (std::ptrdiff_t row = 0; row < m; row += kRows) {
      const std::ptrdiff_t rows = m - row < kRows ? m - row : kRows;
      ForShape(rows, (columns + kPanel - 1) / kPanel)(
          x + row * width, panels, y + row * stride + column, columns, k, stride, add);
    }
  }
}

}  // namespace

const Bf16Multiplier kVectorBf16 = {"avx512bf16", HasBf16Product, MultiplyVectors};

}  // namespace lieq

#else  // other processors: never called, since HasBf16Product says no

namespace lieq {

bool HasBf16Product() noexcept {
  return false;
}
std::size_t PackedBf16Words(std::ptrdiff_t, std::ptrdiff_t) noexcept {
  return 0;
}
void PackBf16Weights(const float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                     std::uint16_t*) noexcept {}
void RoundRowsToBf16(const float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                     std::uint16_t*) noexcept {}
void PackBf16Columns(const float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                     std::ptrdiff_t, std::uint16_t*) noexcept {}
void RoundColumnsToBf16(const float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                        std::uint16_t*) noexcept {}
const Bf16Multiplier kVectorBf16 = {"avx512bf16", HasBf16Product, nullptr};

}  // namespace lieq

#endif
