// How the kernel of matmat.cuh is launched, in each file that makes it.
#pragma once

#include <algorithm>

#include "lieq/device/cuda/matmat.cuh"

namespace lieq::cuda {

template <int kBits>
bool HasMatMatOf() {
  cudaFuncAttributes attributes{};
  const bool has =
      cudaFuncGetAttributes(&attributes, MatMatKernel<kBits, false, 64>) == cudaSuccess;
  if (!has) (void)cudaGetLastError();  // no machine code for this GPU: no error of what comes next
  return has;
}

template <int kBits, bool kOffsets, int kTokens>
bool LaunchMatMatOf(MatMatArguments a, int blocks, cudaStream_t stream) {
  constexpr int kMostShared = 226 << 10, kAligned = 1024, kXBytes = kTokens * 256;
  const int ring = kTileUnits * kCodeStages<kBits> * a.unit_bytes;
  a.x_stages = std::min((kMostShared - kAligned - ring) / kXBytes, kMostXStages);
  const int shared = kAligned + a.x_stages * kXBytes + ring;
  const auto kernel = MatMatKernel<kBits, kOffsets, kTokens>;
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  PreferShared(kernel);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks), 1, 1);
  config.blockDim = dim3(kMatMatThreads, 1, 1);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared);
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeCooperative;  // all blocks at once or none
  attributes[0].val.cooperative = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = 2;
  ;
  return offsets ? launch.template operator()<true>() : launch.template operator()<false>();
}

}  // namespace lieq::cuda
