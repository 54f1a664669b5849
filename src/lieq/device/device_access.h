// What lies behind a DeviceView: for the code of devices alone.
#pragma once

#include "lieq/device/device.h"

namespace lieq {

class DeviceAccess {
 public:
  template <class T>
  [[nodiscard]] static T* Pointer(DeviceView<T> view) noexcept {
    return view.pointer_;
  }
  /// The memory as a host's, for devices that share it with the host.
  template <class T>
  [[nodiscard]] static View<T, 2> Shared(DeviceView<T> view) {
    return {view.pointer_, view.rows(), view.cols(), view.stride()};
  }
};

}  // namespace lieq
