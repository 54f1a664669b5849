#include "lieq/evaluate/scored_pass.h"

#include <algorithm>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/evaluate/piece_numbers.h"

namespace lieq {
namespace {

constexpr Index kBatchTokens = 16384;

}  // namespace

std::vector<WindowRange> BatchesOf(const ScoredText& text, Index hidden) {
  const Index most =
      std::max<Index>(1, std::min(kResidualFloats / hidden, kBatchTokens) / text.length);
  std::vector<WindowRange> batches;
  Index begin = 0;
  for (Index window = 1; window <= static_cast<Index>(text.windows.size()); ++window) {
    const bool last = window == static_cast<Index>(text.windows.size());
    const ScoredWindow& first = text.windows[Size(begin)];
    if (!last && window - begin < most && text.windows[Size(window)].length == first.length &&
        text.windows[Size(window)].first == first.first) {
      continue;
    }
    batches.push_back({begin, window});
    begin = window;
  }
  return batches;
}

std::vector<WindowRange> BatchesOf(const ScoredText& text, Index hidden,
                                   const std::vector<bool>& windows) {
  std::vector<WindowRange> batches = BatchesOf(text, hidden);
  std::erase_if(batches, [&](const WindowRange& batch) {
    return std::none_of(windows.begin() + batch.begin, windows.begin() + batch.end,
                        [](bool any) { return any; });
  });
  return batches;
}

void RunScored(const Weights& weights, const DeviceTeam& team, const ScoredText& text,
               const std::vector<WindowRange>& batches, std::string_view stage, Context& context,
               const std::function<std::string(const ScoredBatch&)>& see) {
  const Index layers = weights.config.layers;
  const auto count = static_cast<Index>(batches.size());
  Stage progress(context.progress, stage, "layer", count * layers);
  team.Share(count, context, [&](Index member, const std::function<Index()>& next, Context& its) {
    Forward forward(weights, team[member], text.length);
    std::string note;
    for (Index b = next(); b < count; b = next()) {
      const auto [begin, end] = batches[Size(b)];
      const ScoredWindow shape = text.windows[Size(begin)];
      Matrix<TokenId> tokens(end - begin, shape.length);
      for (Index w = begin; w < end; ++w) {
        std::copy_n(text.ids.begin() + text.windows[Size(w)].begin, shape.length,
                    tokens.view().Row(w - begin).begin());
        if (text.bos) tokens(w - begin, 0) = *text.bos;
      }
      Hidden hidden = forward.Embed(tokens.view());
      for (Index layer = 0; layer < layers; ++layer) {
        its.ThrowIfStopped();
        forward.Layer(layer, hidden);
        weights.ReleaseLayer(layer);
        if (layer + 1 < layers) progress.Done(note);
      }
      note = see({begin, shape, tokens.view(), hidden, member, forward});
      progress.Done(note);
    }
  });
}

ScoredPieces::ScoredPieces(const ScoredText& text, Index hidden, std::size_t columns,
                           Context& context)
    : context_(context), scores_(text.windows.size()) {
  LIEQ_ASSERT(!text.windows.empty());
  std::vector<WindowRange> all = BatchesOf(text, hidden);
  if (context.pieces == nullptr) {
    batches_ = std::move(all);
    return;
  }
  for (std::size_t b = 0; b < all.size(); ++b) {
    const WindowRange& batch = all[b];
    if (const std::string* known = context.pieces->Find(Key(batch))) {
      std::vector<std::size_t> lengths;
      for (Index w = batch.begin; w < batch.end; ++w) {
        const auto scored = static_cast<std::size_t>(text.windows[Size(w)].scored());
        lengths.insert(lengths.end(), columns, scored);
      }
      WindowScores rows = NumbersOfPiece(*known, lengths, Key(batch));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        scores_[Size(batch.begin) + i / columns].push_back(std::move(rows[i]));
      }
    } else if (context.pieces->IsMine(static_cast<Index>(b))) {
      batches_.push_back(batch);
    }
  }
}

std::vector<bool> ScoredPieces::windows() const {
  std::vector<bool> windows(scores_.size());
  for (const WindowRange& batch : batches_) {
    std::fill(windows.begin() + batch.begin, windows.begin() + batch.end, true);
  }
  return windows;
}

void ScoredPieces::Keep(const WindowRange& batch, std::vector<WindowScores> scores) {
  LIEQ_ASSERT(static_cast<Index>(scores.size()) == batch.end - batch.begin);
  if (context_.pieces != nullptr) {
    WindowScores rows;
    for (const WindowScores& window : scores) rows.insert(rows.end(), window.begin(), window.end());
    context_.pieces->Keep(Key(batch), PieceOfNumbers(rows));
  }
  std::ranges::move(scores, scores_.begin() + batch.begin);
}

std::string ScoredPieces::Key(const WindowRange& batch) const {
  return context_.scope + "windows " + std::to_string(batch.begin) + "-" +
         std::to_string(batch.end - 1);
}

}  // namespace lieq
