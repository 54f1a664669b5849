#include "lieq/model/continuation.h"

#include <algorithm>
#include <utility>

#include "lieq/base/stopwatch.h"

namespace lieq {

Continuation Continue(Decoder& decoder, std::span<const TokenId> prompt, Index vocab,
                      const ContinuationEnd& end, Sampler& sampler, Context& context,
                      const std::function<void(TokenId)>& written) {
  LIEQ_ASSERT(!prompt.empty() && end.most >= 1);
  Continuation result;
  const Stopwatch reading;
  decoder.Rewind(0);
  View<const float, 2> logits =
      decoder.Append({prompt.data(), 1, static_cast<Index>(prompt.size())});
  result.prompt_seconds = reading.seconds();
  const Stopwatch writing;
  while (true) {
    context.ThrowIfStopped();
    const TokenId token = sampler.Next(logits.Row(0).first(Size(vocab)));
    if (std::ranges::binary_search(end.tokens, token)) {
      result.end = token;
      break;
    }
    result.ids.push_back(token);
    if (written) written(token);
    if (static_cast<Index>(result.ids.size()) == end.most) break;
    logits = decoder.Append({&token, 1, 1});
    ++result.steps;
  }
  result.seconds = writing.seconds();
  return result;
}

}  // namespace lieq
