// Perplexity of a model on windows of a text.
#pragma once

#include <vector>

#include "lieq/base/context.h"
#include "lieq/model/forward.h"

namespace lieq {

/// Convention "plain" (docs/evaluation.md): windows without overlap from the start of the text, no
/// special tokens, all length - 1 positions of each window scored, perplexity = exp(mean NLL).
struct PerplexityResult {
  double perplexity = 0;
  double mean_nll = 0;        // nats a token
  double standard_error = 0;  // of mean_nll, from the spread over windows; 0 for one window
  Index tokens_scored = 0;
  Index windows = 0;
  Index context = 0;
  std::vector<double> window_nll;  // [windows] mean NLL of each
};

/// tokens [windows, length], length >= 2. Deterministic for any number of threads.
/// Throws Error naming the window where the output is not finite.
[[nodiscard]] PerplexityResult MeasurePerplexity(const Weights& weights, Device& device,
                                                 View<const TokenId, 2> tokens, Context& context);

}  // namespace lieq
