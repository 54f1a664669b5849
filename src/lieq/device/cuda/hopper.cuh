// Instructions of compute capability 9.0 that CUDA C++ has no names for.
#pragma once

#include <cstdint>

#include "lieq/device/cuda/device_code.cuh"

namespace lieq::cuda {

__device__ __forceinline__ std::uint32_t SharedAddress(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// What a kernel calls before it reads or writes what those before it on the stream may still be
/// at. Kernels that were launched as ones to overlap (Launch below) call it always.
__device__ __forceinline__ void WaitForKernelsBefore() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// From here on the next kernel may start, up to its WaitForKernelsBefore.
__device__ __forceinline__ void LetNextKernelStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#if __CUDA_ARCH__ >= 900
/// Of which each phase ends with `arrivals` of them.
__device__ __forceinline__ void InitBarrier(std::uint32_t barrier, std::uint32_t arrivals = 1) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void Arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void FenceBarrierInits() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Copies to shared memory, of multiples of 16 bytes; the barrier is told how many will come.
__device__ __forceinline__ void ExpectBytes(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void CopyBulk(std::uint32_t to, const void* from, std::uint32_t bytes,
                                         std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void WaitBarrier(std::uint32_t barrier, std::uint32_t phase) {
  std::uint32_t passed = 0;
  while (passed == 0) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(passed)
        : "r"(barrier), "r"(phase)
        : "memory");
  }
}

__device__ __forceinline__ uint4 LoadShared16(std::uint32_t at) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at)
               : "memory");
  return v;
}
__device__ __forceinline__ uint2 LoadShared8(std::uint32_t at) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at) : "memory");
  return v;
}
__device__ __forceinline__ std::uint32_t LoadShared4(std::uint32_t at) {
  std::uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at) : "memory");
  return v;
}

__device__ __forceinline__ unsigned RankInCluster() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void SyncCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}
/// Until the others are here too; what they wrote may be under way still.
__device__ __forceinline__ void MeetCluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::
                   : "memory");
}
/// The two halves of SyncCluster.
__device__ __forceinline__ void ArriveAtCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void WaitForCluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// Into the shared memory of another block of the cluster, at an address of this one's; the
/// barrier at that block's `barrier` counts the four bytes when they are there.
__device__ __forceinline__ void StoreToBlock(std::uint32_t address, unsigned rank, float value,
                                             std::uint32_t barrier) {
  asm volatile(
      "{\n.reg .b32 to, counts;\nmapa.shared::cluster.u32 to, %0, %3;\n"
      "mapa.shared::cluster.u32 counts, %1, %3;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [to], %2, [counts];\n}" ::"r"(
          address),
      "r"(barrier), "r"(__float_as_uint(value)), "r"(rank)
      : "memory");
}
/// A float in the shared memory of a block of the cluster, at the same address as here.
__device__ __forceinline__ float LoadOfBlock(std::uint32_t address, unsigned rank) {
  std::uint32_t there;
  float v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there) : "memory");
  return v;
}
/// Four floats in the shared memory of a block of the cluster, at the same address as here.
__device__ __forceinline__ float4 LoadFourOfBlock(std::uint32_t address, unsigned rank) {
  std::uint32_t there;
  float4 v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(there)
               : "memory");
  return v;
}
#endif

/// Kernels that overlap need one division of memory between L1 and shared memory: a multiprocessor
/// changes it only when it is empty.
template <class... Parameters>
void PreferShared(void (*kernel)(Parameters...)) {
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared);
}

/// Queues a kernel that overlaps the end of the one before it, where the GPU can do that; in
/// clusters of `cluster` blocks.
template <class... Parameters, class... Arguments>
void Launch(void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared, int cluster,
            cudaStream_t stream, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads), 1, 1);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 2 : 1;
  (void)cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

}  // namespace lieq::cuda
