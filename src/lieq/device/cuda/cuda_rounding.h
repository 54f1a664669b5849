// GPTQ of whole matrices on a GPU.
#pragma once

#include "lieq/device/cuda/cuda_products.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

/// Both outlive the call. What it writes to the host is there when it returns.
void RoundByGptq(const GptqWork& work, const GptqResult& result, CudaProducts& products,
                 Queue& queue);

}  // namespace lieq::cuda
