#include "lieq/device/cpu/kernels.h"

#define LIEQ_KERNELS_NAMESPACE scalar
#include "lieq/device/cpu/kernels_body.inc"

namespace lieq {

const KernelSet kScalarKernels = LIEQ_KERNEL_ROW("scalar", [] { return true; });

}  // namespace lieq
