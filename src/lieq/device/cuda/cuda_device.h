// An NVIDIA GPU behind the compute seam.
#pragma once

#include <memory>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

/// Whether this program was built with it, and this machine has a GPU and a driver for it.
[[nodiscard]] bool HasCudaDevice() noexcept;

/// pool outlives the device. Two runs give the same bytes on one GPU with one cuBLASLt.
/// Throws Error that says what is missing: the build's part, a driver, a GPU, that number of it.
[[nodiscard]] std::unique_ptr<Device> MakeCudaDevice(ThreadPool& pool,
                                                     const DeviceOptions& options = {});

}  // namespace lieq
