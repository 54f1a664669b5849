// Models that GGUF files are not written of.
#pragma once

#include <optional>

#include "lieq/base/error.h"
#include "lieq/model/config.h"

namespace lieq {

/// What llama.cpp has no place for in this architecture, or what is not written yet; nothing where
/// a model of that configuration may become a GGUF file.
[[nodiscard]] std::optional<Problem> WhyNoGguf(const ModelConfig& config);

}  // namespace lieq
