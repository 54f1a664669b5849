// What a model's folder says about drawing tokens.
#pragma once

#include <optional>

#include "lieq/container/model_folder.h"
#include "lieq/model/sampling.h"

namespace lieq {

/// Of generation_config.json: temperature, top_k, top_p, min_p and repetition_penalty, where it has
/// them; greedy where do_sample is false. Nothing where the file says nothing about sampling.
/// Throws Error for values of another kind or out of range.
[[nodiscard]] std::optional<SamplingOptions> SamplingOf(const ModelFolder& model);

}  // namespace lieq
