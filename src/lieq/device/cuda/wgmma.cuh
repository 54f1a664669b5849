// Products of four warps at once (wgmma), of compute capability 9.0 alone: files that include this
// are compiled for sm_90a.
//
// D += A B in float, A [64, 16] of f16 in registers, B [columns, 16] of f16 in shared memory. Of A
// and D each warp has 16 rows, which lie in its lanes as those of mma.m16n8k16 do: lane (g, t) has
// of A the pairs (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), and of D for each n of eight
// columns sums[4 n + i] at (g + i / 2 * 8, 8 n + 2 t + i % 2). PTX ISA, asynchronous warpgroup
// instructions.
#pragma once

#include "lieq/device/cuda/hopper.cuh"

namespace lieq::cuda {

#if __CUDA_ARCH__ >= 900
/// Registers and shared memory that were written before may be read by products from here on.
__device__ __forceinline__ void FenceProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// The products begun since the last one are a set.
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// All sets are done but the last kLeft.
template <int kLeft>
__device__ __forceinline__ void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

/// B of 64 columns of x, of which each product takes 16: rows of 128 bytes without gaps from
/// `address` on, a multiple of 1024, where piece c of 16 bytes of row n is at c ^ n % 8.
__device__ __forceinline__ std::uint64_t DescribeRows(std::uint32_t address) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kEightRows = std::uint64_t{1024 >> 4} << 32;
  constexpr std::uint64_t kUnused = std::uint64_t{1} << 16;
  return kSwizzle128 | kEightRows | kUnused | (address & 0x3FFFFu) >> 4;
}
inline constexpr std::uint64_t kNextSixteen = 32 >> 4;  // what is added to it for the next columns

// NOLINTBEGIN: names of 32 and 64 registers.
#define LIEQ_EIGHT_SUMS(i)                                                                   \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
/// sums += a B for 64 rows of B, then for 128.
__device__ __forceinline__ void MultiplyAsync(float (&sums)[32], const std::uint32_t (&a)[4],
                                              std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,"
      "%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
      : LIEQ_EIGHT_SUMS(0), LIEQ_EIGHT_SUMS(8), LIEQ_EIGHT_SUMS(16), LIEQ_EIGHT_SUMS(24)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void MultiplyAsync(float (&sums)[64], const std::uint32_t (&a)[4],
                                              std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,"
      "%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,"
      "%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,"
      "%63}, "
      "{%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
      : LIEQ_EIGHT_SUMS(0), LIEQ_EIGHT_SUMS(8), LIEQ_EIGHT_SUMS(16), LIEQ_EIGHT_SUMS(24),
        LIEQ_EIGHT_SUMS(32), LIEQ_EIGHT_SUMS(40), LIEQ_EIGHT_SUMS(48), LIEQ_EIGHT_SUMS(56)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef LIEQ_EIGHT_SUMS
// NOLINTEND
#endif

}  // namespace lieq::cuda
