#include "lieq/evaluate/perplexity.h"

#include <cmath>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "lieq/evaluate/scored_pass.h"

namespace lieq {

PerplexityResult PerplexityOf(const WindowSums& nll, const ScoredText& text) {
  return {.perplexity = std::exp(nll.Mean()),
          .mean_nll = nll.Mean(),
          .standard_error = nll.WindowError(),
          .token_error = nll.TokenError(),
          .tokens_scored = static_cast<Index>(nll.count()),
          .windows = static_cast<Index>(text.windows.size()),
          .context = text.length,
          .window_nll = nll.WindowMeans()};
}

PerplexityResult MeasurePerplexity(const Weights& weights, const DeviceTeam& team,
                                   const ScoredText& text, Context& context) {
  ScoredPieces pieces(text, weights.config.hidden, 1, context);
  const auto counted = [&](Index w, std::span<const double> nll) {
    return text.Counted(text.windows[Size(w)], nll);
  };
  if (!pieces.batches().empty()) {
    WindowSums so_far;
    std::mutex mutex;
    RunScored(weights, team, text, pieces.batches(), "evaluating", context,
              [&](const ScoredBatch& batch) {
                Matrix<double> nll(batch.tokens.rows(), batch.shape.scored());
                batch.forward.Nll(batch.hidden, batch.tokens, nll.view(), batch.shape.first);
                std::vector<WindowScores> scores;
                const std::scoped_lock lock(mutex);
                for (Index w = 0; w < nll.rows(); ++w) {
                  const std::span<const double> row = nll.view().Row(w);
                  so_far.Add(counted(batch.begin + w, row));
                  scores.push_back({{row.begin(), row.end()}});
                }
                pieces.Keep({batch.begin, batch.begin + nll.rows()}, std::move(scores));
                return "perplexity " + std::to_string(std::exp(so_far.Mean()));
              });
  }
  if (!context.whole()) return {};
  WindowSums sums;
  for (std::size_t w = 0; w < pieces.scores().size(); ++w) {
    sums.Add(counted(static_cast<Index>(w), pieces.scores()[w].front()));
  }
  return PerplexityOf(sums, text);
}

PerplexityResult MeasurePerplexity(const Weights& weights, const DeviceTeam& team,
                                   View<const TokenId, 2> tokens, Context& context) {
  LIEQ_ASSERT(tokens.rows() > 0 && tokens.cols() >= 2);
  ScoredText text{.ids = {}, .bos = {}, .windows = {}, .length = tokens.cols()};
  for (Index w = 0; w < tokens.rows(); ++w) {
    const std::span<const TokenId> row = tokens.Row(w);
    text.ids.insert(text.ids.end(), row.begin(), row.end());
    text.windows.push_back({w * tokens.cols(), tokens.cols(), 0});
  }
  return MeasurePerplexity(weights, team, text, context);
}

}  // namespace lieq
