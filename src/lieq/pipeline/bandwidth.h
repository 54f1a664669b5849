// The speed of memory, as one program sees it.
#pragma once

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

/// Bytes a second that the pool's threads read of a block larger than any cache here (256 MiB),
/// doing nothing else with them: the best of some passes.
[[nodiscard]] double ReadBandwidth(ThreadPool& pool);
/// The same of a device whose memory is its own: bytes read and written by a copy of 256 MiB there.
/// 0 where its memory is bounded, which the copy would count to.
[[nodiscard]] double CopyBandwidth(Device& device);

}  // namespace lieq
