// What a device is given, as kernels take it.
#pragma once

#include "lieq/device/cuda/kernels.h"
#include "lieq/device/device.h"
#include "lieq/device/device_access.h"

namespace lieq::cuda {

template <class T>
[[nodiscard]] Block<T> BlockOf(DeviceView<T> view) {
  return {DeviceAccess::Pointer(view), view.rows(), view.cols(), view.stride()};
}

}  // namespace lieq::cuda
