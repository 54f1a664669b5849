#include "lieq/device/cpu/kernels.h"

#define LIEQ_KERNELS_NAMESPACE neon
#define LIEQ_NEON  // registers of four floats; the portable row has vectors that g++ splits
#include "lieq/device/cpu/kernels_body.inc"

namespace lieq {

// Every processor of this kind has it.
const KernelSet kNeonKernels = LIEQ_KERNEL_ROW("neon", [] { return true; });

}  // namespace lieq
