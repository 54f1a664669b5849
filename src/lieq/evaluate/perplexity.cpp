#include "lieq/evaluate/perplexity.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace lieq {

PerplexityResult MeasurePerplexity(const Weights& weights, Device& device,
                                   View<const TokenId, 2> tokens, Context& context) {
  LIEQ_ASSERT(tokens.rows() > 0 && tokens.cols() >= 2);
  const Index scored = tokens.cols() - 1;
  Forward forward(weights, device, tokens.cols());
  const Index batch = forward.BatchWindows(tokens.cols());
  PerplexityResult result{.windows = tokens.rows(), .context = tokens.cols()};
  Matrix<double> nll(batch, scored);
  double total = 0;
  context.progress.Begin("evaluating", "window", tokens.rows());
  for (Index begin = 0; begin < tokens.rows(); begin += batch) {
    const Index count = std::min(batch, tokens.rows() - begin);
    Hidden hidden = forward.Embed(tokens.Rows(begin, count));
    for (Index layer = 0; layer < weights.config.layers; ++layer) {
      context.ThrowIfStopped();
      forward.Layer(layer, hidden);
    }
    forward.Nll(hidden, tokens.Rows(begin, count), nll.view().Rows(0, count));
    for (Index w = 0; w < count; ++w) {
      double sum = 0;
      for (Index p = 0; p < scored; ++p) sum += nll(w, p);
      result.window_nll.push_back(sum / static_cast<double>(scored));
      total += sum;
    }
    result.tokens_scored = (begin + count) * scored;
    const double so_far = std::exp(total / static_cast<double>(result.tokens_scored));
    context.progress.Update(begin + count, "perplexity " + std::to_string(so_far));
  }
  context.progress.End();
  result.mean_nll = total / static_cast<double>(result.tokens_scored);
  result.perplexity = std::exp(result.mean_nll);
  if (result.windows > 1) {
    double squares = 0;
    for (const double value : result.window_nll) {
      squares += (value - result.mean_nll) * (value - result.mean_nll);
    }
    const auto n = static_cast<double>(result.windows);
    result.standard_error = std::sqrt(squares / (n * (n - 1)));
  }
  return result;
}

}  // namespace lieq
