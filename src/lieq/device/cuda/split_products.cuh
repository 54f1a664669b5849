// Products of attention on tensor cores, of factors in float32.
//
// Each factor is a sum of two numbers of 11 bits (tf32), and three of the four products of those
// are added in float; what is left out is below 2^-21 of a product.
#pragma once

#include <cstdint>

namespace lieq::cuda {

struct Halves {
  std::uint32_t high, low;
};
__device__ inline std::uint32_t Tf32(float value) {
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}
__device__ inline Halves Halve(float value) {
  const std::uint32_t high = Tf32(value);
  return {high, Tf32(value - __uint_as_float(high))};
}

/// A fragment of 16 rows by 8 of the depth, as PTX lays m16n8k8 out.
struct Fragment {
  std::uint32_t high[4], low[4];

  __device__ void Set(int i, float value) {
    const Halves halves = Halve(value);
    high[i] = halves.high;
    low[i] = halves.low;
  }
};
__device__ inline void MultiplyAdd(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                   std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void MultiplyAdd(float (&sums)[4], const Fragment& a, float b0, float b1) {
  const Halves first = Halve(b0), second = Halve(b1);
  MultiplyAdd(sums, a.low, first.high, second.high);
  MultiplyAdd(sums, a.high, first.low, second.low);
  MultiplyAdd(sums, a.high, first.high, second.high);
}

}  // namespace lieq::cuda
