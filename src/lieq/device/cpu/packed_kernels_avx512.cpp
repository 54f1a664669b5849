#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "lieq/device/cpu/packed_kernels.h"

#define LIEQ_PACKED_NAMESPACE packed_avx512
#define LIEQ_INLINE static inline __attribute__((always_inline))

// clang-format off: the lanes, then what is built on them
#include "lieq/device/cpu/packed_lanes_avx512.inc"
#include "lieq/device/cpu/packed_kernels_body.inc"
// clang-format on

namespace lieq {

const PackedKernels kAvx512PackedKernels = LIEQ_PACKED_ROW("avx512", [] {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
});

}  // namespace lieq
