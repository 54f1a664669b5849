// AVX-512, and for many rows of rounded activations the matrix unit: 16 rows of activations times
// 64 columns of sixteen rows of codes in one instruction. Codes of a piece, unpacked, lie in a tile
// just as in lanes. Sums are the same integers, and what is added in float is added in the order of
// the other rows, so that bits are the same.
#include <cpuid.h>
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lieq/device/cpu/packed_kernels.h"

#define LIEQ_PACKED_NAMESPACE packed_amx
#define LIEQ_INLINE static inline __attribute__((always_inline))

// clang-format off: the lanes, then what is built on them
#include "lieq/device/cpu/packed_lanes_avx512.inc"
#include "lieq/device/cpu/packed_steps.inc"
// clang-format on

namespace lieq::packed_amx {
namespace {

constexpr ptrdiff_t kTileRows = 16;
constexpr ptrdiff_t kTiles = 8;  // of rows that share the unpacked codes
constexpr ptrdiff_t kMostRows = kTiles * kTileRows;
// Tiles are named by digits alone: 0 products, 6 codes, 7 activations.

/// What was written before is there for tiles to read: the compiler does not know that they do.
LIEQ_INLINE void Written() {
  __asm__ volatile("" ::: "memory");
}

/// Eight tiles of 16 rows of 64 bytes.
struct Configuration {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Configuration) == 64);

/// Codes of a piece, one to a byte: fields in order are the rows of a tile. Missing steps are 0, so
/// that what lies behind the activations of a piece counts for nothing.
template <int kBits>
LIEQ_INLINE void Unpack(const uint8_t* codes, ptrdiff_t steps, uint8_t* to) {
  constexpr int kFields = Step<kBits>::kFields;
  ptrdiff_t s = 0;
  for (; s < steps; ++s) {
    Ints fields[kFields];
    Step<kBits>::Plain(codes + s * Step<kBits>::kBytes, fields);
    for (int k = 0; k < kFields; ++k) _mm512_store_si512(to + (s * kFields + k) * 64, fields[k]);
  }
  for (; s < kPieceSteps<kBits>; ++s) {
    for (int k = 0; k < kFields; ++k) _mm512_store_si512(to + (s * kFields + k) * 64, Zero());
  }
}

/// products[tile] = x of 16 rows times the unpacked codes.
LIEQ_INLINE void MultiplyTiles(const int8_t* x, ptrdiff_t stride, ptrdiff_t tiles,
                               ptrdiff_t tile_stride, int32_t* products) {
  for (ptrdiff_t t = 0; t < tiles; ++t) {
    _tile_zero(0);
    _tile_loadd(7, x + t * tile_stride, stride);
    _tile_dpbsud(0, 7, 6);
    _tile_stored(0, products + t * kTileRows * kBlockRows, 64);
  }
}

struct Buffers {
  alignas(64) uint8_t codes[kTileRows * 64];
  alignas(64) int32_t products[2][kMostRows * kBlockRows];
  alignas(64) float sums[kMostRows * kBlockRows];
};

/// One block of sixteen outputs times up to kMostRows rows, a multiple of 16.
template <int kBits, int kPlanes>
void TileBlock(const PackedProduct& p, ptrdiff_t block, ptrdiff_t row, ptrdiff_t rows,
               Buffers& buffers) {
  const PackedShape& shape = p.shape;
  const RoundedRows& x = p.x;
  const bool odd = p.w.twice_zero % 2 != 0;
  const ptrdiff_t group_bytes = shape.group_steps * Step<kBits>::kBytes;
  const ptrdiff_t row_stride = kPlanes * x.code_stride;  // of one plane's rows
  for (ptrdiff_t r = 0; r < rows; ++r) {
    _mm512_store_ps(buffers.sums + r * kBlockRows, _mm512_setzero_ps());
  }
  for (ptrdiff_t g = 0; g < shape.groups; ++g) {
    const ptrdiff_t group = block * shape.groups + g;
    const Floats scales = LoadNumbers(p.w.scales, p.w.half, group);
    const Ints zeros = p.w.zeros != nullptr ? LoadBytes(p.w.zeros + group * kBlockRows) : Zero();
    const Floats minima =
        p.w.minima != nullptr ? LoadNumbers(p.w.minima, p.w.half, group) : ZeroFloats();
    for (ptrdiff_t i = 0; i < shape.group_pieces; ++i) {
      const ptrdiff_t left = shape.group_steps - i * kPieceSteps<kBits>;
      Unpack<kBits>(p.w.codes + group * group_bytes + i * kPieceSteps<kBits> * Step<kBits>::kBytes,
                    left < kPieceSteps<kBits> ? left : kPieceSteps<kBits>, buffers.codes);
      Written();
      _tile_loadd(6, buffers.codes, 64);
      const int8_t* from =
          x.codes + row * row_stride + g * shape.group_positions + i * kPieceColumns;
      for (int n = 0; n < kPlanes; ++n) {
        MultiplyTiles(from + n * x.code_stride, row_stride, rows / kTileRows,
                      kTileRows * row_stride, buffers.products[n]);
      }
      const ptrdiff_t piece = row * x.piece_stride + g * shape.group_pieces + i;
      for (ptrdiff_t r = 0; r < rows; ++r) {
        const ptrdiff_t at = piece + r * x.piece_stride;
        Ints sum = _mm512_load_si512(buffers.products[0] + r * kBlockRows);
        if constexpr (kPlanes == 2) {
          sum = Add(ShiftLeft<8>(sum), _mm512_load_si512(buffers.products[1] + r * kBlockRows));
        }
        if (odd) sum = Add(sum, sum);
        if (p.w.zeros != nullptr) sum = Subtract(sum, Multiply(zeros, SplatInt(x.sums[at])));
        if (p.w.twice_zero != 0) sum = Add(sum, SplatInt(x.sums[at]));
        float* to = buffers.sums + r * kBlockRows;
        Floats total = MultiplyAdd(ToFloats(sum), MultiplyFloats(scales, SplatFloat(x.scales[at])),
                                   LoadFloats(to));
        if (p.w.minima != nullptr) {
          total = MultiplyAdd(minima, SplatFloat(x.totals[at]), total);
        }
        StoreFloats(to, total);
      }
    }
  }
  for (ptrdiff_t r = 0; r < rows; ++r) {
    Floats sum = LoadFloats(buffers.sums + r * kBlockRows);
    if (odd) sum = MultiplyFloats(sum, SplatFloat(0.5f));
    Finish(p, sum, row + r, block * kBlockRows);
  }
}

template <int kPlanes>
void TileBlockOfBits(const PackedProduct& p, ptrdiff_t block, ptrdiff_t row, ptrdiff_t rows,
                     Buffers& buffers) {
  switch (p.shape.bits) {
    case 2:
      return TileBlock<2, kPlanes>(p, block, row, rows, buffers);
    case 3:
      return TileBlock<3, kPlanes>(p, block, row, rows, buffers);
    case 4:
      return TileBlock<4, kPlanes>(p, block, row, rows, buffers);
    case 6:
      return TileBlock<6, kPlanes>(p, block, row, rows, buffers);
    default:
      return TileBlock<8, kPlanes>(p, block, row, rows, buffers);
  }
}

template <Activations kType>
void MultiplyBlocks(const PackedProduct& p) {
  const auto few = kAvx512PackedKernels.multiply[static_cast<size_t>(kType)];
  // Parts of K-quants fill a quarter or a half of a tile, which does not pay.
  const ptrdiff_t whole = p.shape.parts == 1 ? p.rows / kTileRows * kTileRows : 0;
  if (whole > 0) {
    const Configuration configuration;
    _tile_loadconfig(&configuration);
    Buffers buffers;
    for (ptrdiff_t block = 0; block * kBlockRows < p.outs; ++block) {
      for (ptrdiff_t row = 0; row < whole; row += kMostRows) {
        const ptrdiff_t rows = whole - row < kMostRows ? whole - row : kMostRows;
        TileBlockOfBits<PlanesOf(kType)>(p, block, row, rows, buffers);
      }
    }
    _tile_release();
  }
  if (whole == p.rows) return;
  PackedProduct last = p;
  last.rows -= whole;
  last.x.codes += whole * PlanesOf(kType) * p.x.code_stride;
  last.x.scales += whole * p.x.piece_stride;
  last.x.sums += whole * p.x.part_stride;
  last.x.totals += whole * p.x.part_stride;
  last.y += whole * p.y_stride;
  few(last);
}

/// Whether the processor has tiles of bytes, and the system lets this process use them: it asks.
bool Supported() {
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  constexpr long kTileData = 18;  // the number of their registers' part of a saved state
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!kAvx512PackedKernels.supported() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
    return false;
  }
  return (d & kTile) != 0 && (d & kInt8) != 0 &&
         syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, kTileData) == 0;
}

}  // namespace
}  // namespace lieq::packed_amx

namespace lieq {

const PackedKernels kAmxPackedKernels = {
    .name = "amx",
    .supported = packed_amx::Supported,
    .round =
        [](const PackedShape& shape, Activations type, const float* x, ptrdiff_t x_stride,
           ptrdiff_t rows, const RoundedRows& to) {
          kAvx512PackedKernels.round(shape, type, x, x_stride, rows, to);
        },
    .multiply = {[](const PackedProduct& p) { kAvx512PackedKernels.multiply[0](p); },
                 packed_amx::MultiplyBlocks<Activations::kInt8>,
                 packed_amx::MultiplyBlocks<Activations::kInt16>}};

}  // namespace lieq
