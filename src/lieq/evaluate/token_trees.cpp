#include "lieq/evaluate/token_trees.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/evaluate/piece_numbers.h"
#include "lieq/evaluate/scored_pass.h"

namespace lieq {
namespace {

/// A sequence joins the tree before it where that saves at least this share of its tokens: a
/// trunk of a word or two is not worth the smaller products of attention.
constexpr Index kShareOfGain = 8;

/// What runs of a sequence: all but its last token.
std::span<const TokenId> Input(const ScoredSequence& sequence) {
  return std::span(sequence.ids).first(sequence.ids.size() - 1);
}

Index CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

/// Neighbouring sequences that will share a trunk.
class Tree {
 public:
  explicit Tree(Index begin) : begin_(begin) {}

  /// Takes the next sequence, where that pays and rows stay within `most`.
  bool Join(std::span<const TokenId> input, Index most) {
    const auto length = static_cast<Index>(input.size());
    if (distinct_.empty()) {
      trunk_ = rows_ = length;
    } else if (Runs(input) != distinct_.end()) {
      return true;
    } else {
      const Index trunk = std::min(trunk_, CommonPrefix(distinct_.front(), input));
      // Each branch grows by what the trunk loses.
      const auto branches = static_cast<Index>(distinct_.size());
      const Index more = (branches - 1) * (trunk_ - trunk) + length - trunk;
      if ((length - more) * kShareOfGain < length || rows_ + more > most) return false;
      rows_ += more;
      trunk_ = trunk;
    }
    distinct_.push_back(input);
    return true;
  }

  [[nodiscard]] Index rows() const noexcept { return rows_; }

  /// Adds the sequences begin .. end - 1, which joined, to a batch.
  void AddTo(TokenTrees& batch, std::span<const ScoredSequence> sequences, Index end) const {
    const auto root = static_cast<Index>(batch.ids.size());
    Append(batch, distinct_.front().first(Size(trunk_)), {.begin = root, .keys = root});
    std::vector<Index> branches;  // rows where those of the distinct inputs begin
    for (const std::span<const TokenId> input : distinct_) {
      const auto row = static_cast<Index>(batch.ids.size());
      branches.push_back(row);
      Append(batch, input.subspan(Size(trunk_)),
             {.begin = row, .keys = row, .past = trunk_, .past_keys = root});
    }
    struct Scored {
      TokenPick pick;
      Index sequence;
    };
    std::vector<Scored> scored;
    for (Index s = begin_; s < end; ++s) {
      const ScoredSequence& sequence = sequences[Size(s)];
      const Index branch = branches[Size(Runs(Input(sequence)) - distinct_.begin())];
      for (Index t = sequence.first; t < static_cast<Index>(sequence.ids.size()); ++t) {
        const Index row = t - 1 < trunk_ ? root + t - 1 : branch + t - 1 - trunk_;
        scored.push_back({{row, sequence.ids[Size(t)]}, s});
      }
    }
    std::ranges::stable_sort(scored, {}, [](const Scored& s) { return s.pick.row; });
    for (const Scored& s : scored) {
      batch.picks.push_back(s.pick);
      batch.sequences.push_back(s.sequence);
    }
  }

 private:
  /// The input that `input` runs along with; the end where none begins with it.
  [[nodiscard]] std::vector<std::span<const TokenId>>::const_iterator Runs(
      std::span<const TokenId> input) const {
    return std::ranges::find_if(distinct_, [&](std::span<const TokenId> other) {
      return CommonPrefix(other, input) == static_cast<Index>(input.size());
    });
  }

  static void Append(TokenTrees& batch, std::span<const TokenId> ids, AttentionSpan span) {
    if (ids.empty()) return;
    span.length = static_cast<Index>(ids.size());
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
    batch.spans.push_back(span);
  }

  Index begin_;      // of its sequences
  Index trunk_ = 0;  // tokens that all inputs begin with
  Index rows_ = 0;
  std::vector<std::span<const TokenId>> distinct_;  // inputs that no earlier one begins with
};

}  // namespace

std::vector<TokenTrees> PackTrees(std::span<const ScoredSequence> sequences, Index most_rows) {
  std::vector<TokenTrees> batches;
  const auto count = static_cast<Index>(sequences.size());
  for (Index begin = 0; begin < count;) {
    Tree tree(begin);
    Index end = begin;
    while (end < count && tree.Join(Input(sequences[Size(end)]), most_rows)) ++end;
    const auto filled = batches.empty() ? Index{0} : static_cast<Index>(batches.back().ids.size());
    if (filled == 0 || filled + tree.rows() > most_rows) batches.emplace_back();
    tree.AddTo(batches.back(), sequences, end);
    begin = end;
  }
  return batches;
}

namespace {

/// What batches come to, [batches][picks], as pieces (base/work_pieces.h).
class BatchPieces {
 public:
  BatchPieces(const std::vector<TokenTrees>& batches, Context& context)
      : context_(context), values_(batches.size()) {
    for (std::size_t b = 0; b < batches.size(); ++b) {
      const std::string* known = context.pieces ? context.pieces->Find(Key(b)) : nullptr;
      if (known != nullptr) {
        const std::size_t picks = batches[b].picks.size();
        values_[b] = std::move(NumbersOfPiece(*known, {&picks, 1}, Key(b)).front());
      } else if (context.pieces == nullptr || context.pieces->IsMine(static_cast<Index>(b))) {
        mine_.push_back(b);
      }
    }
  }

  /// Batches to be computed here, rising.
  [[nodiscard]] const std::vector<std::size_t>& mine() const noexcept { return mine_; }
  void Keep(std::size_t batch, std::vector<double> values) {
    if (context_.pieces != nullptr) {
      context_.pieces->Keep(Key(batch), PieceOfNumbers({&values, 1}));
    }
    values_[batch] = std::move(values);
  }
  [[nodiscard]] const std::vector<std::vector<double>>& values() const noexcept { return values_; }

 private:
  [[nodiscard]] std::string Key(std::size_t batch) const {
    return context_.scope + "batch " + std::to_string(batch);
  }

  Context& context_;
  std::vector<std::size_t> mine_;
  std::vector<std::vector<double>> values_;
};

/// Adds the log-probabilities of a batch's picks to the sequences that they are of.
void Sum(const TokenTrees& batch, std::span<const double> values, SequenceScores& scores) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw Error({.what = "the model's output is not finite",
                   .where = "sequence " + std::to_string(batch.sequences[i]),
                   .hint = "the weights hold or produce NaN or infinity"});
    }
    scores.log_likelihoods[Size(batch.sequences[i])] += values[i];
    if (i == 0 || batch.picks[i].row != batch.picks[i - 1].row) ++scores.head_rows;
  }
  scores.rows += static_cast<Index>(batch.ids.size());
}

/// Batches that go through a layer together: as many as fit in 128 MiB of residual stream.
using Lot = std::vector<std::size_t>;
std::vector<Lot> LotsOf(const std::vector<std::size_t>& mine,
                        const std::vector<TokenTrees>& batches, Index hidden) {
  std::vector<Lot> lots;
  Index floats = 0;
  for (const std::size_t b : mine) {
    const Index more = static_cast<Index>(batches[b].ids.size()) * hidden;
    if (lots.empty() || floats + more > kResidualFloats) {
      lots.emplace_back();
      floats = 0;
    }
    lots.back().push_back(b);
    floats += more;
  }
  return lots;
}

}  // namespace

SequenceScores ScoreSequences(const Weights& weights, const DeviceTeam& team,
                              std::span<const ScoredSequence> sequences, std::string_view stage,
                              Context& context) {
  const Index hidden = weights.config.hidden, layers = weights.config.layers;
  SequenceScores scores;
  Index longest = 1;
  for (const ScoredSequence& sequence : sequences) {
    LIEQ_ASSERT(sequence.first >= 1 && sequence.first < static_cast<Index>(sequence.ids.size()));
    longest = std::max(longest, static_cast<Index>(sequence.ids.size()));
    scores.tokens += static_cast<Index>(sequence.ids.size()) - 1;
  }
  scores.log_likelihoods.resize(sequences.size());
  const std::vector<TokenTrees> batches = PackTrees(sequences, kBatchRows);
  BatchPieces pieces(batches, context);
  const std::vector<std::size_t>& mine = pieces.mine();
  if (!mine.empty()) {
    Stage progress(context.progress, stage, "batch", static_cast<Index>(mine.size()));
    const std::vector<Lot> lots = LotsOf(mine, batches, hidden);
    const auto count = static_cast<Index>(lots.size());
    std::mutex mutex;
    team.Share(count, context, [&](Index member, const std::function<Index()>& next, Context& its) {
      Forward forward(weights, team[member], longest);
      for (Index l = next(); l < count; l = next()) {
        const Lot& lot = lots[Size(l)];
        std::vector<Hidden> hiddens;
        for (const std::size_t b : lot) {
          const std::vector<TokenId>& ids = batches[b].ids;
          hiddens.push_back(forward.Embed({ids.data(), 1, static_cast<Index>(ids.size())}));
        }
        for (Index layer = 0; layer < layers; ++layer) {
          for (std::size_t b = 0; b < lot.size(); ++b) {
            its.ThrowIfStopped();
            forward.Layer(layer, hiddens[b].x.view(), batches[lot[b]].spans);
          }
          weights.ReleaseLayer(layer);
        }
        for (std::size_t b = 0; b < lot.size(); ++b) {
          const TokenTrees& batch = batches[lot[b]];
          std::vector<double> values(batch.picks.size());
          forward.LogProbabilities(hiddens[b].x.view(), batch.picks, values);
          const std::scoped_lock lock(mutex);
          pieces.Keep(lot[b], std::move(values));
          progress.Done();
        }
      }
    });
  }
  if (!context.whole()) return scores;
  for (std::size_t b = 0; b < batches.size(); ++b) Sum(batches[b], pieces.values()[b], scores);
  return scores;
}

}  // namespace lieq
