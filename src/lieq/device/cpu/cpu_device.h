// The CPU behind the compute seam: BLAS for products, kernel rows for the rest, one thread pool.
#pragma once

#include <memory>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

/// pool outlives the device. Results are the same bytes for any number of threads.
/// Throws Error for a kernel row or an arithmetic that does not exist or cannot run here.
[[nodiscard]] std::unique_ptr<Device> MakeCpuDevice(ThreadPool& pool,
                                                    const DeviceOptions& options = {});

}  // namespace lieq
