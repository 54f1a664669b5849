// Where codes, scales and offsets lie in a unit of 16 rows by 128 columns (packed.h).
//
// Lane (g, t) of a warp, g = lane / 4 and t = lane % 4, holds rows g and g + 8. Of 64 columns,
// those are c = 8 p + 2 t + h with p of 0 .. 7 and h of 0 and 1: what it needs of A for the step j
// of 16 columns is p = 2 j and p = 2 j + 1. Codes of one (p, h) lie so that one AND leaves those of
// h = 0 in the low half of a word and of h = 1 in the high one, below bit 10: as numbers of f16
// they are subnormal, code * 2^(shift - 24), and the shift is undone in x.
//   2 bits: a word for 64 columns of a row; (p, h) at bit 16 h + 2 p
//   3 bits: the same for the two low bits; the third of rows g and g + 8 in another word, at bit
//           16 h + 8 (row / 8) + 2 (p % 4) + p / 4
//   4 bits: a word for 32 columns; (p, h) at bit 16 h + 4 (p % 4)
//   8 bits: a word for 16 columns; (p, h) at bit 16 h + 8 (p % 2)
#pragma once

#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/packed.h"

namespace lieq::cuda {

/// Words of codes that a lane has of a unit: of each half q of the columns those that follow one
/// another, of 3 bits the high ones behind all low ones.
template <int kBits>
inline constexpr int kLaneWords = 2 * kBits;

/// The codes of p and of row g + 8 half, as two subnormal numbers of f16.
template <int kBits>
__device__ __forceinline__ std::uint32_t CodePair(const std::uint32_t (&words)[kLaneWords<kBits>],
                                                  int q, int p, int half) {
  if constexpr (kBits == 2 || kBits == 3) {
    const std::uint32_t word = words[q * 2 + half];
    const std::uint32_t low = (p < 4 ? word : word >> 8) & (0x00030003u << (2 * (p % 4)));
    if constexpr (kBits == 2) return low;
    const std::uint32_t high = words[4 + q];
    const std::uint32_t there =
        half == 0 ? (p < 4 ? high << 2 : high << 1) : (p < 4 ? high >> 6 : high >> 7);
    return low | (there & (0x00040004u << (2 * (p % 4))));
  } else if constexpr (kBits == 4) {
    const std::uint32_t word = words[q * 4 + p / 4 * 2 + half];
    return (p % 4 >= 2 ? word >> 8 : word) & (0x000F000Fu << (4 * (p % 2)));
  } else {
    const std::uint32_t word = words[q * 8 + p / 2 * 2 + half];
    return (p % 2 == 1 ? word >> 8 : word) & 0x00FF00FFu;
  }
}

/// Byte of the word of (row, p) among the codes of half `q` of the columns, for lane (row % 8, t);
/// of 3 bits, the word of the low ones.
__host__ __device__ constexpr int WordByte(int bits, int q, int p, int row, int t) {
  const int lane = row % 8 * 4 + t, half = row / 8;
  // Words of a lane: [q][p / codes of a half word][row / 8], four of them in each 512 bytes.
  const int per_q = bits == 3 ? 1 : bits / 2, codes = bits == 3 ? 8 : 16 / bits;
  const int word = (q * per_q + p / codes) * 2 + half;
  return word / 4 * 512 + lane * 16 + word % 4 * 4;
}
/// Bit of h = 0 of it.
__host__ __device__ constexpr int CodeBit(int bits, int p) {
  return bits == 3 ? 2 * p : bits * (p % (16 / bits));
}
__host__ __device__ constexpr int HighByte(int q, int row, int t) {
  return 512 + (row % 8 * 4 + t) * 8 + q * 4;
}
__host__ __device__ constexpr int HighBit(int p, int row) {
  return 8 * (row / 8) + 2 * (p % 4) + p / 4;
}
/// Byte behind the codes of the scale (of f16) of a row, or of its offset behind all scales.
__host__ __device__ constexpr int ScaleByte(int scales, int which, int row) {
  return row % 8 * (scales * 4) + which * 4 + row / 8 * 2;
}

/// What a word of codes is too large by, as a power of two, at p.
__host__ __device__ constexpr int ShiftOf(int bits, int p) {
  return bits == 8 ? 0 : bits == 4 ? 4 * (p % 2) : 2 * (p % 4);
}

/// Of the power of two by which numbers up to `most` are divided: the largest is below 2^15 then
/// and, where it is a number of usual size, at least 2^14.
__device__ __forceinline__ int ExponentOf(float most) {
  const int exponent = static_cast<int>(__float_as_uint(most) >> 23 & 0xff) - 127 - 14;
  return max(-120, min(exponent, 100));
}

}  // namespace lieq::cuda
