// What a model's folder says about drawing tokens.
#pragma once

#include <optional>
#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/model/sampling.h"

namespace lieq {

struct GenerationConfig {
  Record json;
  std::string where;  // names it in messages
};

/// The model's generation_config.json, of its folder or in its file; none where it has none. Throws
/// Error for one that is not JSON.
[[nodiscard]] std::optional<GenerationConfig> GenerationConfigOf(const ModelFolder& model);

/// Of generation_config.json: temperature, top_k, top_p, min_p and repetition_penalty, where it has
/// them; greedy where do_sample is false. Nothing where the file says nothing about sampling.
/// Throws Error for values of another kind or out of range.
[[nodiscard]] std::optional<SamplingOptions> SamplingOf(const ModelFolder& model);

}  // namespace lieq
