// Keys of GGUF files that only some architectures have: how they scale rope, windows, caps, mixers.
#pragma once

#include "lieq/io/gguf_file.h"
#include "lieq/model/architectures.h"
#include "lieq/model/config.h"

namespace lieq {

/// Adds those of the model. WhyNoGguf has nothing against it.
void AddOwnKeys(const ModelConfig& config, const Architecture& row, GgufKeyWriter& keys);

}  // namespace lieq
