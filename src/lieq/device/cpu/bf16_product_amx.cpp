// Matrix products in bf16 arithmetic on the matrix unit (AMX_BF16): 16 rows times 16 outputs over
// 32 columns in one instruction. Panels of packed weights are its tiles as they lie.
#include "lieq/device/cpu/bf16_product.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lieq {
namespace {

constexpr std::ptrdiff_t kSide = 16;     // rows and outputs of a tile
constexpr std::ptrdiff_t kColumns = 32;  // of a row of activations in a tile: 64 bytes
constexpr std::ptrdiff_t kTileWords = kSide * kColumns;
constexpr std::ptrdiff_t kTileBytes = 64;  // of a row of any tile
// Tiles are named by digits alone: 0 to 3 sums, 4 and 5 activations, 6 and 7 weights.

/// Eight tiles of 16 rows of 64 bytes.
struct Configuration {
  std::uint8_t palette = 1, start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Configuration) == 64);

/// What was written before is there for tiles to read: the compiler does not know that they do.
inline void Written() {
  __asm__ volatile("" ::: "memory");
}

/// 16 rows of activations, the missing ones 0.
struct Rows {
  const std::uint16_t* data;
  std::ptrdiff_t width;  // words of a row
  std::ptrdiff_t rows;
};

/// Words of a piece of `columns` columns, the missing ones and those of missing rows 0.
void CopyRows(const Rows& x, std::ptrdiff_t at, std::ptrdiff_t columns, std::uint16_t* to) {
  const auto mask = static_cast<__mmask32>(columns >= 32 ? ~0U : (1U << columns) - 1U);
  for (std::ptrdiff_t r = 0; r < kSide; ++r) {
    const __m512i words = r < x.rows ? _mm512_maskz_loadu_epi16(mask, x.data + r * x.width + at)
                                     : _mm512_setzero_si512();
    _mm512_storeu_si512(to + r * kColumns, words);
  }
}

/// The last pairs of a panel, the missing ones 0.
void CopyPairs(const std::uint16_t* panel, std::ptrdiff_t pairs, std::uint16_t* to) {
  for (std::ptrdiff_t p = 0; p < kSide; ++p) {
    const __m512i words =
        p < pairs ? _mm512_loadu_si512(panel + p * kColumns) : _mm512_setzero_si512();
    _mm512_storeu_si512(to + p * kColumns, words);
  }
}

struct Buffers {
  alignas(64) std::uint16_t x[2][kTileWords];
  alignas(64) std::uint16_t w[2][kTileWords];
  alignas(64) float sums[4][kSide * kSide];
};

/// Two by two tiles: 32 rows, of which those of `second` may all be missing, by one panel or two.
void Block(const Rows& first, const Rows& second, const std::uint16_t* w, std::ptrdiff_t panel,
           bool two, std::ptrdiff_t k, Buffers& buffers) {
  const bool lower = second.rows > 0;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const bool whole = first.rows == kSide && (!lower || second.rows == kSide);
  for (std::ptrdiff_t at = 0; at < k; at += kColumns) {
    const std::ptrdiff_t columns = k - at < kColumns ? k - at : kColumns;
    const std::uint16_t* weights = w + at * kSide;
    if (whole && columns == kColumns) {
      const std::ptrdiff_t stride = first.width * 2;
      _tile_loadd(4, first.data + at, stride);
      if (lower) _tile_loadd(5, second.data + at, stride);
      _tile_loadd(6, weights, kTileBytes);
      if (two) _tile_loadd(7, weights + panel, kTileBytes);
    } else {
      const std::ptrdiff_t even = columns + columns % 2;
      CopyRows(first, at, even, buffers.x[0]);
      if (lower) CopyRows(second, at, even, buffers.x[1]);
      CopyPairs(weights, even / 2, buffers.w[0]);
      if (two) CopyPairs(weights + panel, even / 2, buffers.w[1]);
      Written();
      _tile_loadd(4, buffers.x[0], kTileBytes);
      if (lower) _tile_loadd(5, buffers.x[1], kTileBytes);
      _tile_loadd(6, buffers.w[0], kTileBytes);
      if (two) _tile_loadd(7, buffers.w[1], kTileBytes);
    }
    _tile_dpbf16ps(0, 4, 6);
    if (two) _tile_dpbf16ps(1, 4, 7);
    if (lower) {
      _tile_dpbf16ps(2, 5, 6);
      if (two) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, buffers.sums[0], kTileBytes);
  if (two) _tile_stored(1, buffers.sums[1], kTileBytes);
  if (lower) _tile_stored(2, buffers.sums[2], kTileBytes);
  if (lower && two) _tile_stored(3, buffers.sums[3], kTileBytes);
}

void Put(const float* sums, std::ptrdiff_t rows, std::ptrdiff_t columns, float* y,
         std::ptrdiff_t stride, bool add) {
  const auto mask = static_cast<__mmask16>(columns >= kSide ? 0xFFFFU : (1U << columns) - 1U);
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    __m512 sum = _mm512_load_ps(sums + r * kSide);
    if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, y + r * stride));
    _mm512_mask_storeu_ps(y + r * stride, mask, sum);
  }
}

void Multiply(const std::uint16_t* x, const std::uint16_t* w, float* y, std::ptrdiff_t m,
              std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t stride, bool add) noexcept {
  const std::ptrdiff_t width = EvenColumns(k);
  const auto panel = static_cast<std::ptrdiff_t>(PackedBf16Words(1, k));
  const Configuration configuration;
  _tile_loadconfig(&configuration);
  Buffers buffers;
  const auto rows_from = [&](std::ptrdiff_t row) {
    const std::ptrdiff_t left = m - row < 0 ? 0 : m - row;
    return Rows{x + row * width, width, left < kSide ? left : kSide};
  };
  for (std::ptrdiff_t column = 0; column < n; column += 2 * kSide) {
    const std::ptrdiff_t columns = n - column;
    const bool two = columns > kSide;
    for (std::ptrdiff_t row = 0; row < m; row += 2 * kSide) {
      const Rows first = rows_from(row), second = rows_from(row + kSide);
      Block(first, second, w + column / kSide * panel, panel, two, k, buffers);
      for (int i = 0; i < 4; ++i) {
        const Rows& rows = i < 2 ? first : second;
        if (rows.rows == 0 || (i % 2 == 1 && !two)) continue;
        const std::ptrdiff_t right = i % 2 * kSide;
        Put(buffers.sums[i], rows.rows, columns - right,
            y + (row + i / 2 * kSide) * stride + column + right, stride, add);
      }
    }
  }
  _tile_release();
}

/// Whether the processor has tiles of bf16, and the system lets this process use them: it asks.
bool Supported() noexcept {
  constexpr unsigned kTile = 1U << 24, kBf16 = 1U << 22;
  constexpr long kTileData = 18;  // the number of their registers' part of a saved state
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!HasBf16Product() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d & kTile) != 0 && (d & kBf16) != 0 &&
         syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, kTileData) == 0;
}

}  // namespace

const Bf16Multiplier kAmxBf16 = {"amx", Supported, Multiply};

}  // namespace lieq

#else

namespace lieq {
const Bf16Multiplier kAmxBf16 = {"amx", [] { return false; }, nullptr};
}  // namespace lieq

#endif
