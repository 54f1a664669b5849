// Sums of calibration that several GPUs made (add_sums.cu).
#pragma once

#include <cuda_runtime_api.h>

#include "lieq/base/types.h"

namespace lieq::cuda {

/// sums [count] += more.
void AddTo(const double* more, Index count, double* sums, cudaStream_t stream);
void AddTo(const float* more, Index count, float* sums, cudaStream_t stream);

}  // namespace lieq::cuda
