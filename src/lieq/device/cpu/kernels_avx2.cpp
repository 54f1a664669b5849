#include "lieq/device/cpu/kernels.h"

#define LIEQ_KERNELS_NAMESPACE avx2
#include "lieq/device/cpu/kernels_body.inc"

namespace lieq {

const KernelSet kAvx2Kernels = LIEQ_KERNEL_ROW(
    "avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); });

}  // namespace lieq
