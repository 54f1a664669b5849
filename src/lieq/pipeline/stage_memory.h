// The most memory that any stage of a piece of work holds, counted from its shapes.
#pragma once

#include <cstdint>

#include "lieq/pipeline/estimate.h"

namespace lieq {

/// Bytes beyond what the process holds once model and texts are read.
[[nodiscard]] std::int64_t StageMemory(const Work& work, int threads);

/// What is resident now, bytes.
[[nodiscard]] std::int64_t ResidentBytes();

/// Positions of all windows that damage is measured at (DamageMeter).
[[nodiscard]] Index ScoredPositions(const ModelConfig& config, Index windows, Index length);

}  // namespace lieq
