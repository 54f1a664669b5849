// The tokens that a model's configuration names for the beginning and the end of a text.
#pragma once

#include <optional>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/container/model_folder.h"

namespace lieq {

/// The eos_token_id of config.json and of generation_config.json, each a number, an array or
/// nothing, sorted. Chat models have several (<|im_end|>, <|endoftext|>). Throws Error for other
/// values and for ids outside the vocabulary.
[[nodiscard]] std::vector<TokenId> EndTokens(const ModelFolder& model);

/// The bos_token_id of config.json, else of generation_config.json, else an end token: texts
/// followed one another in training. Throws Error as EndTokens does.
[[nodiscard]] std::optional<TokenId> BeginToken(const ModelFolder& model);

}  // namespace lieq
