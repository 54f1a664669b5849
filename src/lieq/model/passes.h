// What the passes forward and backward share: how large their buffers are, and how they are seen.
#pragma once

#include <span>

#include "lieq/device/device.h"

namespace lieq {

/// Floats of logits held at once: 128 MiB.
inline constexpr Index kLogitElements = Index{1} << 25;

/// [rows, n * cols] without gaps as [rows * n, cols].
[[nodiscard]] inline DeviceView<float> Reshaped(DeviceView<float> v, Index cols) {
  LIEQ_ASSERT(v.stride() == v.cols() && v.cols() % cols == 0);
  return {v.device_pointer(), v.rows() * (v.cols() / cols), cols, cols};
}

/// The buffer as [rows, cols], grown where it is too small; contents are undefined.
[[nodiscard]] inline DeviceView<float> Sized(Device& device, DeviceMatrix& buffer, Index rows,
                                             Index cols) {
  if (buffer.rows() * buffer.cols() < rows * cols) {
    buffer = {};  // the old block goes before the new one comes
    buffer = device.Alloc(rows, cols);
  }
  return buffer.Shaped(rows, cols);
}

/// Throws Error naming the window and the position of the first that is not finite; nll[0] is of
/// position `first`.
void CheckFinite(std::span<const double> nll, Index window, Index first);

}  // namespace lieq
