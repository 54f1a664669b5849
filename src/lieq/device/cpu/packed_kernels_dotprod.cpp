#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>

#include "lieq/device/cpu/packed_kernels.h"

#define LIEQ_PACKED_NAMESPACE packed_dotprod
#define LIEQ_INLINE static inline __attribute__((always_inline))

// clang-format off: the lanes, then what is built on them
#include "lieq/device/cpu/packed_lanes_neon.inc"
#include "lieq/device/cpu/packed_kernels_body.inc"
// clang-format on

namespace lieq {

const PackedKernels kDotProdPackedKernels =
    LIEQ_PACKED_ROW("dotprod", [] { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; });

}  // namespace lieq
