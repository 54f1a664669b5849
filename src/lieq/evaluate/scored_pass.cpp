#include "lieq/evaluate/scored_pass.h"

#include <algorithm>
#include <vector>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

/// Ends of batches: runs of windows of one shape.
std::vector<Index> BatchEnds(const ScoredText& text, Index hidden) {
  const Index most = std::max<Index>(1, kResidualFloats / (text.length * hidden));
  std::vector<Index> ends;
  Index begin = 0;
  for (Index window = 1; window <= static_cast<Index>(text.windows.size()); ++window) {
    const bool last = window == static_cast<Index>(text.windows.size());
    const ScoredWindow& first = text.windows[Size(begin)];
    if (!last && window - begin < most && text.windows[Size(window)].length == first.length &&
        text.windows[Size(window)].first == first.first) {
      continue;
    }
    ends.push_back(window);
    begin = window;
  }
  return ends;
}

}  // namespace

void RunScored(const Weights& weights, Forward& forward, const ScoredText& text,
               std::string_view stage, Context& context,
               const std::function<std::string(const ScoredBatch&)>& see) {
  LIEQ_ASSERT(!text.windows.empty());
  const std::vector<Index> ends = BatchEnds(text, weights.config.hidden);
  const Index layers = weights.config.layers;
  Stage progress(context.progress, stage, "layer", static_cast<Index>(ends.size()) * layers);
  Index begin = 0;
  std::string note;
  for (const Index end : ends) {
    const ScoredWindow shape = text.windows[Size(begin)];
    Matrix<TokenId> tokens(end - begin, shape.length);
    for (Index w = begin; w < end; ++w) {
      std::copy_n(text.ids.begin() + text.windows[Size(w)].begin, shape.length,
                  tokens.view().Row(w - begin).begin());
      if (text.bos) tokens(w - begin, 0) = *text.bos;
    }
    Hidden hidden = forward.Embed(tokens.view());
    for (Index layer = 0; layer < layers; ++layer) {
      context.ThrowIfStopped();
      forward.Layer(layer, hidden);
      weights.ReleaseLayer(layer);
      if (layer + 1 < layers) progress.Done(note);
    }
    note = see({begin, shape, tokens.view(), hidden});
    progress.Done(note);
    begin = end;
  }
}

}  // namespace lieq
