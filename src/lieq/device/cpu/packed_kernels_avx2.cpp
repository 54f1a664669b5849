#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "lieq/device/cpu/packed_kernels.h"

#define LIEQ_PACKED_NAMESPACE packed_avx2
#define LIEQ_INLINE static inline __attribute__((always_inline))

// clang-format off: the lanes, then what is built on them
#include "lieq/device/cpu/packed_lanes_avx2.inc"
#include "lieq/device/cpu/packed_kernels_body.inc"
// clang-format on

namespace lieq {

const PackedKernels kAvx2PackedKernels = LIEQ_PACKED_ROW("avx2", [] {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
});

}  // namespace lieq
