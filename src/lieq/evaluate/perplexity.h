// Perplexity of a model on windows of a text.
#pragma once

#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device_team.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/window_sums.h"
#include "lieq/model/forward.h"

namespace lieq {

/// exp of the mean negative log-likelihood over all scored positions.
struct PerplexityResult {
  double perplexity = 0;
  double mean_nll = 0;  // nats a token
  /// Of mean_nll, from the spread over windows, weighted by their scored positions; 0 for one
  /// window. Another text of the same kind would move the mean by this much.
  double standard_error = 0;
  double token_error = 0;  // the same from the spread over tokens, as llama.cpp prints it
  Index tokens_scored = 0;
  Index windows = 0;
  Index context = 0;
  std::vector<double> window_nll;  // [windows] mean NLL of each
};

/// Of the losses of all scored tokens.
[[nodiscard]] PerplexityResult PerplexityOf(const WindowSums& nll, const ScoredText& text);

/// The same for any number of threads and devices, which share batches. WorkPieces are batches of
/// windows; a result that is not whole is empty. Throws Error naming the window where the output is
/// not finite.
[[nodiscard]] PerplexityResult MeasurePerplexity(const Weights& weights, const DeviceTeam& team,
                                                 const ScoredText& text, Context& context);

/// By the convention plain: tokens [windows, length], length >= 2.
[[nodiscard]] PerplexityResult MeasurePerplexity(const Weights& weights, const DeviceTeam& team,
                                                 View<const TokenId, 2> tokens, Context& context);

}  // namespace lieq
