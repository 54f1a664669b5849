// The speed of memory, as one program sees it.
#pragma once

#include "lieq/base/thread_pool.h"

namespace lieq {

/// Bytes a second that the pool's threads read of a block larger than any cache here (256 MiB),
/// doing nothing else with them: the best of some passes.
[[nodiscard]] double ReadBandwidth(ThreadPool& pool);

}  // namespace lieq
