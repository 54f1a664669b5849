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

constexpr std::ptrdiff_t kMostDepth = 640;  // columns at a time: 32 rows of them stay within L1
constexpr std::ptrdiff_t kMostPieces = kMostDepth / kColumns;

struct Buffers {
  alignas(64) std::uint16_t x[2][kMostPieces * kTileWords];  // upper and lower rows, tile by tile
  alignas(64) std::uint16_t w[2][kTileWords];                // last pairs of two panels
  alignas(64) float sums[4][kSide * kSide];
};

/// `rows` rows of x from column `at` on, tile behind tile; missing rows and columns are 0. Read
/// again for each pair of panels, they lie in a row, which the processor fetches ahead.
void CopyTiles(const std::uint16_t* x, std::ptrdiff_t width, std::ptrdiff_t rows, std::ptrdiff_t at,
               std::ptrdiff_t depth, std::uint16_t* to) {
  for (std::ptrdiff_t c = 0; c < depth; c += kColumns) {
    const std::ptrdiff_t columns = depth - c < kColumns ? depth - c : kColumns;
    const auto mask = static_cast<__mmask32>(columns == kColumns ? ~0U : (1U << columns) - 1U);
    for (std::ptrdiff_t r = 0; r < kSide; ++r, to += kColumns) {
      const __m512i words = r < rows ? _mm512_maskz_loadu_epi16(mask, x + r * width + at + c)
                                     : _mm512_setzero_si512();
      _mm512_store_si512(to, words);
    }
  }
}

/// The last pairs of a panel, the missing ones 0.
void CopyPairs(const std::uint16_t* panel, std::ptrdiff_t pairs, std::uint16_t* to) {
  for (std::ptrdiff_t p = 0; p < kSide; ++p) {
    const __m512i words =
        p < pairs ? _mm512_loadu_si512(panel + p * kColumns) : _mm512_setzero_si512();
    _mm512_store_si512(to + p * kColumns, words);
  }
}

/// Two by two tiles of sums, or those of the upper rows or the first panel alone.
template <bool kLower, bool kTwo>
void Block(const std::uint16_t* w, std::ptrdiff_t panel, std::ptrdiff_t depth, Buffers& buffers) {
  _tile_zero(0);
  if constexpr (kTwo) _tile_zero(1);
  if constexpr (kLower) _tile_zero(2);
  if constexpr (kLower && kTwo) _tile_zero(3);
  std::ptrdiff_t piece = 0;
  const auto step = [&](const std::uint16_t* first, const std::uint16_t* second) {
    _tile_loadd(4, buffers.x[0] + piece * kTileWords, kTileBytes);
    _tile_loadd(6, first, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kLower) {
      _tile_loadd(5, buffers.x[1] + piece * kTileWords, kTileBytes);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kTwo) {
      _tile_loadd(7, second, kTileBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kLower && kTwo) _tile_dpbf16ps(3, 5, 7);
  };
  for (; (piece + 1) * kColumns <= depth; ++piece) {
    step(w + piece * kTileWords, w + panel + piece * kTileWords);
  }
  if (const std::ptrdiff_t left = depth - piece * kColumns; left > 0) {
    CopyPairs(w + piece * kTileWords, left / 2, buffers.w[0]);
    if constexpr (kTwo) CopyPairs(w + panel + piece * kTileWords, left / 2, buffers.w[1]);
    Written();
    step(buffers.w[0], buffers.w[1]);
  }
  _tile_stored(0, buffers.sums[0], kTileBytes);
  if constexpr (kTwo) _tile_stored(1, buffers.sums[1], kTileBytes);
  if constexpr (kLower) _tile_stored(2, buffers.sums[2], kTileBytes);
  if constexpr (kLower && kTwo) _tile_stored(3, buffers.sums[3], kTileBytes);
  Written();
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
  for (std::ptrdiff_t at = 0; at < width; at += kMostDepth) {
    const std::ptrdiff_t depth = width - at < kMostDepth ? width - at : kMostDepth;
    for (std::ptrdiff_t row = 0; row < m; row += 2 * kSide) {
      const std::ptrdiff_t upper = m - row < kSide ? m - row : kSide;
      const std::ptrdiff_t rest = m - row - upper, lower = rest < kSide ? rest : kSide;
      CopyTiles(x + row * width, width, upper, at, depth, buffers.x[0]);
      if (lower > 0) CopyTiles(x + (row + kSide) * width, width, lower, at, depth, buffers.x[1]);
      Written();
      for (std::ptrdiff_t column = 0; column < n; column += 2 * kSide) {
        const std::ptrdiff_t columns = n - column;
        const bool two = columns > kSide;
        const std::uint16_t* weights = w + column / kSide * panel + at * kSide;
        const auto block = lower > 0 ? (two ? Block<true, true> : Block<true, false>)
                                     : (two ? Block<false, true> : Block<false, false>);
        block(weights, panel, depth, buffers);
        for (std::ptrdiff_t i = 0; i < 4; ++i) {
          const std::ptrdiff_t right = i % 2 * kSide, down = i / 2 * kSide;
          const std::ptrdiff_t rows = down > 0 ? lower : upper;
          if (rows == 0 || right >= columns) continue;
          Put(buffers.sums[i], rows, columns - right, y + (row + down) * stride + column + right,
              stride, add || at > 0);
        }
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
const Bf16Multiplier kAmxBf16 = {"amx", []() noexcept { return false; }, nullptr};
}  // namespace lieq

#endif
