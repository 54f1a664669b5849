// What a model writes behind a prompt, token by token.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/model/decoder.h"
#include "lieq/model/sampling.h"

namespace lieq {

struct Continuation {
  std::vector<TokenId> ids;
  std::optional<TokenId> end;  // the end token that came; none: as many as were asked for
  double prompt_seconds = 0, seconds = 0;  // up to the first logits, and from then on
  Index steps = 0;                         // of the decoder behind the prompt
};

/// When a continuation is over.
struct ContinuationEnd {
  std::span<const TokenId> tokens;  // of the end, sorted; may be none
  Index most = 1;                   // tokens, >= 1
};

/// Forgets what `decoder`, of one sequence, has seen, and appends prompt, which is not empty, and
/// what the sampler draws. vocab: tokens that have a text; rows of logits beyond them are padding.
/// written: shown each token as it comes, the end token excepted. Throws Error as Decoder::Append
/// and Sampler::Next do, Stopped.
[[nodiscard]] Continuation Continue(Decoder& decoder, std::span<const TokenId> prompt, Index vocab,
                                    const ContinuationEnd& end, Sampler& sampler, Context& context,
                                    const std::function<void(TokenId)>& written = {});

}  // namespace lieq
