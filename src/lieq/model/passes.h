// What the passes forward and backward share: how large their buffers are, and how they are seen.
#pragma once

#include <span>
#include <vector>

#include "lieq/device/device.h"

namespace lieq {

/// Floats of logits held at once: 128 MiB.
inline constexpr Index kLogitElements = Index{1} << 25;

/// The buffer as [rows, cols], grown where it is too small; contents are undefined.
[[nodiscard]] inline DeviceView<float> Sized(Device& device, DeviceMatrix& buffer, Index rows,
                                             Index cols) {
  if (buffer.rows() * buffer.cols() < rows * cols) {
    buffer = {};  // the old block goes before the new one comes
    buffer = device.Alloc(rows, cols);
  }
  return buffer.Shaped(rows, cols);
}

/// Windows of one length side by side, each behind `past` tokens and with room for `capacity` in k
/// and v: a span each. They fill the rows in order.
[[nodiscard]] std::vector<AttentionSpan> WindowSpans(Index windows, Index length, Index past = 0,
                                                     Index capacity = 0);

/// Throws Error naming the window and the position of the first that is not finite; nll[0] is of
/// position `first`.
void CheckFinite(std::span<const double> nll, Index window, Index first);

}  // namespace lieq
