// /post_processor of tokenizer.json: the tokens that frame a text ("<|begin_of_text|>").
#pragma once

#include <vector>

#include "lieq/base/types.h"
#include "lieq/io/json.h"

namespace lieq {

struct Frame {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};

/// root   the whole document
/// vocab  number of tokens
/// Throws Error: a type that is not supported, a template without the text or with it twice, ids
/// that are out of range.
[[nodiscard]] Frame ReadFrame(const JsonObject& root, TokenId vocab);

}  // namespace lieq
