#include "lieq/evaluate/divergence.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/statistics.h"
#include "lieq/evaluate/scored_pass.h"
#include "lieq/evaluate/window_sums.h"
#include "lieq/model/passes.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

std::string TensorName(Index window) {
  return "window." + std::to_string(window);
}

bool Holds(const fs::path& file, const std::string& hash) {
  if (!fs::exists(file)) return false;
  try {
    const TensorFile found = TensorFile::Open(file);
    const auto entry = found.metadata().find("hash");
    return entry != found.metadata().end() && entry->second == hash;
  } catch (const Error&) {  // cut: it is a cache, and made again
    return false;
  }
}

/// What is known of each scored token of a window: WindowScores, by column.
enum Column : std::size_t { kKl, kNll, kReferenceNll, kSame, kOverlap, kFlips, kColumns };

/// Sums over tokens, as windows are seen.
struct Tally {
  WindowSums nll, reference_nll, difference, kl, same, overlap;
  std::vector<double> all_kl;
  Index flips = 0, first_tokens = 0;
  double first_kl = 0;  // sum
};

/// What both models say of the scored tokens of a window.
struct WindowValues {
  WindowValues(std::size_t tokens, Index likeliest)
      : kl(tokens),
        nll(tokens),
        reference_nll(tokens),
        top(static_cast<Index>(tokens), likeliest),
        reference_top(static_cast<Index>(tokens), likeliest) {}

  std::vector<double> kl, nll, reference_nll;
  Matrix<TokenId> top, reference_top;  // [tokens, likeliest]
};

/// Share of the tokens of one list that are in the other, of the same length.
double Overlap(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto both = std::ranges::count_if(
      a, [&](TokenId token) { return std::ranges::find(b, token) != b.end(); });
  return static_cast<double>(both) / static_cast<double>(a.size());
}

/// next: the tokens that are predicted.
WindowScores ScoresOf(const WindowValues& values, std::span<const TokenId> next) {
  const std::size_t tokens = next.size();
  WindowScores scores(kColumns, std::vector<double>(tokens));
  for (std::size_t i = 0; i < tokens; ++i) {
    const auto row = static_cast<Index>(i);
    const auto top = values.top.view().Row(row);
    const auto reference_top = values.reference_top.view().Row(row);
    scores[kKl][i] = std::max(values.kl[i], 0.0);  // below by rounding alone
    scores[kNll][i] = values.nll[i];
    scores[kReferenceNll][i] = values.reference_nll[i];
    scores[kSame][i] = top[0] == reference_top[0] ? 1 : 0;
    scores[kOverlap][i] = Overlap(reference_top, top);
    scores[kFlips][i] = (top[0] == next[i]) != (reference_top[0] == next[i]) ? 1 : 0;
  }
  return scores;
}

void Count(const WindowScores& scores, const ScoredText& text, const ScoredWindow& window,
           Tally& tally) {
  std::vector<double> difference(scores[kNll].size());
  for (std::size_t i = 0; i < difference.size(); ++i) {
    difference[i] = scores[kNll][i] - scores[kReferenceNll][i];
    if (!text.BeginsAnswer(window.ScoredToken(static_cast<Index>(i)))) continue;
    tally.first_kl += scores[kKl][i];
    ++tally.first_tokens;
  }
  const auto counted = [&](const std::vector<double>& all) {
    return text.Counted(window, std::span(all));
  };
  const std::vector<double> kl = counted(scores[kKl]);
  tally.kl.Add(kl);
  tally.all_kl.insert(tally.all_kl.end(), kl.begin(), kl.end());
  tally.nll.Add(counted(scores[kNll]));
  tally.reference_nll.Add(counted(scores[kReferenceNll]));
  tally.difference.Add(counted(difference));
  tally.same.Add(counted(scores[kSame]));
  tally.overlap.Add(counted(scores[kOverlap]));
  tally.flips += std::ranges::count(counted(scores[kFlips]), 1.0);
}

/// Compares logits of both models, some rows at a time.
class Comparer {
 public:
  Comparer(Forward& model, Forward& reference, Device& device, Index vocab, Index hidden)
      : model_(model), reference_(reference), device_(device), vocab_(vocab), hidden_(hidden) {}

  /// x [scored, hidden]: of the model; states: of the reference; next: the tokens to be predicted.
  WindowScores Window(DeviceView<const float> x, View<const float, 2> states,
                      std::span<const TokenId> next) {
    const auto scored = static_cast<Index>(next.size());
    const Index chunk = std::clamp<Index>(kLogitElements / vocab_, 1, scored);
    WindowValues values(next.size(), std::min(kTopTokens, vocab_));
    for (Index begin = 0; begin < scored; begin += chunk) {
      const Index rows = std::min(chunk, scored - begin);
      const auto part = [&](auto& all) { return std::span(all).subspan(Size(begin), Size(rows)); };
      const auto ours = Sized(device_, logits_, rows, vocab_);
      const auto theirs = Sized(device_, reference_logits_, rows, vocab_);
      const auto in = Sized(device_, states_, rows, hidden_);
      device_.Upload(states.Rows(begin, rows), in);
      model_.Logits(x.Rows(begin, rows), ours);
      reference_.Logits(in, theirs);
      device_.SoftmaxKl(theirs, ours, part(values.kl));
      device_.TopColumns(ours, values.top.view().Rows(begin, rows));
      device_.TopColumns(theirs, values.reference_top.view().Rows(begin, rows));
      const auto targets = next.subspan(Size(begin), Size(rows));
      device_.LogSoftmaxNll(ours, targets, part(values.nll));
      device_.LogSoftmaxNll(theirs, targets, part(values.reference_nll));
    }
    device_.Sync();
    return ScoresOf(values, next);
  }

 private:
  Forward &model_, &reference_;
  Device& device_;
  Index vocab_, hidden_;  // of the reference
  DeviceMatrix logits_, reference_logits_, states_;
};

DivergenceResult ResultOf(const Tally& tally, const ScoredText& text) {
  const double ratio = std::exp(tally.difference.Mean());
  const auto quantile = [&](double share) { return Quantile(tally.all_kl, share).value(); };
  DivergenceResult result{.model = PerplexityOf(tally.nll, text),
                          .reference = PerplexityOf(tally.reference_nll, text),
                          .mean_kl = tally.kl.Mean(),
                          .kl_error = tally.kl.WindowError(),
                          .median_kl = quantile(0.5),
                          .kl_90 = quantile(0.9),
                          .kl_99 = quantile(0.99),
                          .kl_999 = quantile(0.999),
                          .largest_kl = std::ranges::max(tally.all_kl),
                          .same_top = tally.same.Mean(),
                          .same_top_error = tally.same.WindowError(),
                          .top_overlap = tally.overlap.Mean(),
                          .top_overlap_error = tally.overlap.WindowError(),
                          .flips = static_cast<double>(tally.flips) / tally.same.count(),
                          .first_kl = {},
                          .first_tokens = tally.first_tokens,
                          .ratio = ratio,
                          .ratio_error = ratio * tally.difference.WindowError()};
  if (tally.first_tokens > 0) {
    result.first_kl = tally.first_kl / static_cast<double>(tally.first_tokens);
  }
  return result;
}

}  // namespace

ReferenceStates ReferenceStates::Make(const Weights& reference, const DeviceTeam& team,
                                      const ScoredText& text, const std::vector<bool>& windows,
                                      const std::string& hash, const fs::path& file,
                                      Context& context) {
  LIEQ_ASSERT(windows.size() == text.windows.size());
  if (Holds(file, hash)) return ReferenceStates(TensorFile::Open(file));
  const Index hidden = reference.config.hidden;
  std::vector<TensorSpec> specs;
  for (std::size_t w = 0; w < text.windows.size(); ++w) {
    if (!windows[w]) continue;
    specs.push_back(
        {TensorName(static_cast<Index>(w)), DType::kF32, {text.windows[w].scored(), hidden}});
  }
  if (!file.parent_path().empty()) fs::create_directories(file.parent_path());
  TensorWriter writer(file, std::move(specs), {{"hash", hash}});
  // Windows are written in order, those of a device that is ahead once it is their turn.
  std::mutex mutex;
  std::map<Index, Matrix<float>> ready;
  Index next = 0;
  const auto write = [&] {
    for (; next < static_cast<Index>(windows.size()); ++next) {
      if (!windows[Size(next)]) continue;
      const auto rows = ready.find(next);
      if (rows == ready.end()) return;
      writer.Write(TensorName(next),
                   std::as_bytes(std::span(rows->second.data(), Size(rows->second.size()))));
      ready.erase(rows);
    }
  };
  RunScored(reference, team, text, BatchesOf(text, hidden, windows), "running the reference",
            context, [&](const ScoredBatch& batch) {
              const ScoredWindow& shape = batch.shape;
              for (Index w = 0; w < batch.tokens.rows(); ++w) {
                if (!windows[Size(batch.begin + w)]) continue;
                Matrix<float> rows(shape.scored(), hidden);
                team[batch.member].Download(
                    batch.hidden.x.view().Rows(w * shape.length + shape.first, shape.scored()),
                    rows.view());
                const std::scoped_lock lock(mutex);
                ready.emplace(batch.begin + w, std::move(rows));
                write();
              }
              return std::string();
            });
  writer.Commit();
  return ReferenceStates(TensorFile::Open(file));
}

View<const float, 2> ReferenceStates::Window(Index window) const {
  const TensorRef& tensor = file_.At(TensorName(window));
  return {reinterpret_cast<const float*>(tensor.bytes.data()), tensor.shape[0], tensor.shape[1]};
}

DivergencePieces::DivergencePieces(const Weights& weights, const ScoredText& text, Context& context)
    : ScoredPieces(text, weights.config.hidden, kColumns, context) {}

DivergenceResult MeasureDivergence(const Weights& weights, const Weights& reference,
                                   const ReferenceStates* states, DivergencePieces& pieces,
                                   const DeviceTeam& team, const ScoredText& text,
                                   Context& context) {
  if (weights.config.vocab != reference.config.vocab) {
    throw Error({.what = "the reference has another vocabulary",
                 .where = "--reference",
                 .expected = std::to_string(weights.config.vocab) + " tokens",
                 .found = std::to_string(reference.config.vocab)});
  }
  if (!pieces.batches().empty()) {
    LIEQ_ASSERT(states != nullptr);
    struct Beside {  // what a device has beside the model
      Beside(Device& device, Forward& model, const Weights& reference, const ScoredText& text)
          : head(reference, device, text.length),
            comparer(model, head, device, reference.config.vocab, reference.config.hidden) {}
      Forward head;
      Comparer comparer;
    };
    std::vector<std::unique_ptr<Beside>> beside(Size(team.size()));
    WindowSums so_far;
    std::mutex mutex;
    RunScored(
        weights, team, text, pieces.batches(), "evaluating", context,
        [&](const ScoredBatch& batch) {
          const ScoredWindow& shape = batch.shape;
          std::unique_ptr<Beside>& its = beside[Size(batch.member)];
          if (!its)
            its = std::make_unique<Beside>(team[batch.member], batch.forward, reference, text);
          std::vector<WindowScores> scores;
          for (Index w = 0; w < batch.tokens.rows(); ++w) {
            context.ThrowIfStopped();
            const Index row = w * shape.length + shape.first;
            scores.push_back(its->comparer.Window(
                batch.hidden.x.view().Rows(row, shape.scored()), states->Window(batch.begin + w),
                batch.tokens.Row(w).subspan(Size(shape.first + 1))));
          }
          const std::scoped_lock lock(mutex);
          for (Index w = 0; w < batch.tokens.rows(); ++w) {
            so_far.Add(text.Counted(text.windows[Size(batch.begin + w)],
                                    std::span<const double>(scores[Size(w)][kKl])));
          }
          const Index end = batch.begin + batch.tokens.rows();
          pieces.Keep({batch.begin, end}, std::move(scores));
          return "divergence " + std::to_string(so_far.Mean());
        });
  }
  if (!context.whole()) return {};
  Tally tally;
  for (std::size_t w = 0; w < text.windows.size(); ++w) {
    Count(pieces.scores()[w], text, text.windows[w], tally);
  }
  for (const double nll : {tally.nll.Mean(), tally.reference_nll.Mean(), tally.kl.Mean()}) {
    if (std::isfinite(nll)) continue;
    throw Error({.what = "output is not finite",
                 .where = std::isfinite(tally.reference_nll.Mean()) ? "the model" : "the reference",
                 .expected = "finite logits"});
  }
  return ResultOf(tally, text);
}

DivergenceResult MeasureDivergence(const Weights& weights, const Weights& reference,
                                   const ReferenceStates& states, const DeviceTeam& team,
                                   const ScoredText& text, Context& context) {
  DivergencePieces pieces(weights, text, context);
  return MeasureDivergence(weights, reference, &states, pieces, team, text, context);
}

}  // namespace lieq
