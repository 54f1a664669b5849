// Codes into units (packed.h).
#include "lieq/device/cuda/packed.cuh"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 128;

__device__ std::uint32_t CodeOf(const Source& w, Index row, Index col) {
  if (row >= w.rows || col >= w.cols) return 0;
  const Index bit = col * w.bits, word = bit / 32;
  const std::uint32_t* words = w.words + row * w.words_per_row;
  std::uint64_t stream = words[word];
  if (word + 1 < w.words_per_row) stream |= static_cast<std::uint64_t>(words[word + 1]) << 32;
  return static_cast<std::uint32_t>(stream >> (bit % 32)) & ((1u << w.bits) - 1);
}

__device__ std::uint16_t HalfBits(float value) {
  return __half_as_ushort(__float2half_rn(value));
}

/// A block makes a unit; each thread has some of its words.
__global__ void PackKernel(Source from, Source to) {
  const Index tile = blockIdx.x, k = blockIdx.y;
  std::byte* unit = to.units + (tile * to.units_per_row + k) * to.unit_bytes;
  const Index first_row = tile * kUnitRows, first_col = k * kUnitColumns;
  const int bits = to.bits, low_bits = bits == 3 ? 2 : bits;
  const int codes = bits == 3 ? 8 : 16 / bits, words_of_q = 8 / codes;
  // The words of lane (row % 8, t) that hold row `row`.
  for (int i = threadIdx.x; i < 2 * words_of_q * 16 * 4; i += kThreads) {
    const int t = i % 4, row = i / 4 % 16, part = i / 64 % words_of_q, q = i / 64 / words_of_q;
    std::uint32_t word = 0;
    for (int p = part * codes; p < (part + 1) * codes; ++p) {
      for (int h = 0; h < 2; ++h) {
        const std::uint32_t code =
            CodeOf(from, first_row + row, first_col + q * 64 + 8 * p + 2 * t + h);
        word |= (code & ((1u << low_bits) - 1)) << (16 * h + CodeBit(bits, p));
      }
    }
    *reinterpret_cast<std::uint32_t*>(unit + WordByte(bits, q, part * codes, row, t)) = word;
  }
  if (bits == 3) {
    for (int i = threadIdx.x; i < 2 * 8 * 4; i += kThreads) {
      const int t = i % 4, g = i / 4 % 8, q = i / 32;
      std::uint32_t word = 0;
      for (int half = 0; half < 2; ++half) {
        const int row = g + 8 * half;
        for (int p = 0; p < 8; ++p) {
          for (int h = 0; h < 2; ++h) {
            const std::uint32_t code =
                CodeOf(from, first_row + row, first_col + q * 64 + 8 * p + 2 * t + h);
            word |= (code >> 2) << (16 * h + HighBit(p, row));
          }
        }
      }
      *reinterpret_cast<std::uint32_t*>(unit + HighByte(q, g, t)) = word;
    }
  }
  std::byte* const scales = unit + 256 * bits;
  std::byte* const offsets = scales + 32 * to.unit_scales;
  const bool has_offsets = to.has_zeros || to.has_minima;
  for (int i = threadIdx.x; i < to.unit_scales * 16; i += kThreads) {
    const int row = i % 16, which = i / 16;
    const Index r = first_row + row, c = first_col + which * (kUnitColumns / to.unit_scales);
    float scale = 0, offset = 0;
    if (r < from.rows && c < from.cols) {
      const Index group = r * from.groups + c / from.group_columns;
      scale = from.scales[group];
      offset = to.has_minima  ? from.minima[group]
               : to.has_zeros ? static_cast<float>(from.zeros[group])
                              : 0.0f;
    }
    const int at = ScaleByte(to.unit_scales, which, row);
    *reinterpret_cast<std::uint16_t*>(scales + at) = HalfBits(scale);
    if (has_offsets) *reinterpret_cast<std::uint16_t*>(offsets + at) = HalfBits(offset);
  }
}

}  // namespace

int ScalesOfUnit(Index group_columns) noexcept {
  if (group_columns % 128 == 0) return 1;
  if (group_columns % 64 == 0) return 2;
  return group_columns % 32 == 0 ? 4 : 0;
}

Index UnitBytes(int bits, int scales, bool offsets) noexcept {
  return Index{256} * bits + Index{32} * scales * (offsets ? 2 : 1);
}

void Pack(const Source& from, const Source& to, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(CeilDiv(from.rows, kUnitRows)),
                  static_cast<unsigned>(to.units_per_row), 1);
  PackKernel<<<grid, kThreads, 0, stream>>>(from, to);
}

}  // namespace lieq::cuda
