#include "lieq/device/cpu/kernels.h"

#define LIEQ_KERNELS_NAMESPACE avx512
#include "lieq/device/cpu/kernels_body.inc"

namespace lieq {

const KernelSet kAvx512Kernels = LIEQ_KERNEL_ROW("avx512", [] {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
});

}  // namespace lieq
