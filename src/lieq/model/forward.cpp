#include "lieq/model/forward.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lieq/base/error.h"
#include "lieq/device/mixer_ops.h"
#include "lieq/model/passes.h"

namespace lieq {

void CheckFinite(std::span<const double> nll, Index window, Index first) {
  for (std::size_t i = 0; i < nll.size(); ++i) {
    if (std::isfinite(nll[i])) continue;
    throw Error({.what = "the model's output is not finite",
                 .where = "window " + std::to_string(window) + ", position " +
                          std::to_string(first + static_cast<Index>(i)),
                 .hint = "the weights hold or produce NaN or infinity"});
  }
}

std::vector<AttentionSpan> WindowSpans(Index windows, Index length, Index past, Index capacity) {
  const Index room = std::max(capacity, past + length);
  std::vector<AttentionSpan> spans;
  for (Index w = 0; w < windows; ++w) {
    spans.push_back({.begin = w * length,
                     .length = length,
                     .keys = w * room + past,
                     .past = past,
                     .past_keys = w * room});
  }
  return spans;
}

Forward::Forward(const Weights& weights, Device& device, Index max_length)
    : weights_(weights),
      device_(device),
      placed_(weights, device),
      runner_(weights.config, device, max_length) {}

void Forward::CheckTokens(std::span<const TokenId> tokens, Index window) const {
  const Index vocab = weights_.config.vocab;
  for (const TokenId id : tokens) {
    if (id >= 0 && id < vocab) continue;
    throw Error({.what = "token id outside the model's vocabulary",
                 .where = "window " + std::to_string(window),
                 .expected = "0 to " + std::to_string(vocab - 1),
                 .found = std::to_string(id),
                 .hint = "check that tokenizer.json belongs to this model"});
  }
}

Hidden Forward::Embed(View<const TokenId, 2> tokens) {
  for (Index w = 0; w < tokens.rows(); ++w) CheckTokens(tokens.Row(w), w);
  LIEQ_ASSERT(tokens.stride() == tokens.cols());
  Hidden hidden{device_.Alloc(tokens.size(), weights_.config.hidden), tokens.rows(), tokens.cols()};
  Embed({tokens.data(), Size(tokens.size())}, hidden.x.view());
  return hidden;
}

void Forward::Embed(std::span<const TokenId> tokens, DeviceView<float> x) {
  device_.EmbedRows(placed_.embedding(), tokens, x);
  if (weights_.config.embedding_multiplier != 1) {
    device_.Scale(x, static_cast<float>(weights_.config.embedding_multiplier));
  }
}

Index Forward::BatchWindows(Index length) const noexcept {
  return std::max<Index>(1, kBatchRows / length);
}

void Forward::Layer(Index layer, Hidden& hidden, const Observer& observer) {
  Run(layer, placed_.Layer(layer), hidden, observer);
}

void Forward::Layer(Index layer, const LayerWeights& weights, Hidden& hidden,
                    const Observer& observer) {
  Run(layer, Place(weights, device_), hidden, observer);
}

void Forward::Layer(Index layer, DeviceView<float> x, std::span<const AttentionSpan> spans,
                    LayerCache* cache) {
  Run(layer, {.layer = placed_.Layer(layer), .spans = spans, .cache = cache}, x, {});
}

void Forward::Run(Index layer, const PlacedLayer& placed, Hidden& hidden,
                  const Observer& observer) {
  const Index batch = BatchWindows(hidden.length);
  for (Index w = 0; w < hidden.windows; w += batch) {
    const Index windows = std::min(batch, hidden.windows - w);
    const std::vector<AttentionSpan> spans = WindowSpans(windows, hidden.length);
    Run(layer, {.layer = placed, .spans = spans},
        hidden.x.view().Rows(w * hidden.length, windows * hidden.length), observer);
  }
}

void Forward::Run(Index layer, const StepContext& context, DeviceView<float> x,
                  const Observer& observer) {
  LayerValues values = runner_.Values(layer);
  values[LayerValue::kStream] = x;
  for (const LayerStep& step : runner_.Steps(layer)) {
    if (observer && step.kind == StepKind::kProducts) {
      observer(step.unit, runner_.UnitInput(step, values));
    }
    runner_.Run(step, context, values);
  }
}

void Forward::Nll(const Hidden& hidden, View<const TokenId, 2> tokens, View<double, 2> nll,
                  Index first) {
  const ModelConfig& config = weights_.config;
  LIEQ_ASSERT(tokens.rows() == hidden.windows && tokens.cols() == hidden.length);
  const Index scored = hidden.length - 1 - first;
  LIEQ_ASSERT(first >= 0 && scored >= 1 && nll.cols() == scored);
  const Index chunk = std::clamp<Index>(kLogitElements / config.vocab, 1, scored);
  for (Index w = 0; w < hidden.windows; ++w) {
    for (Index begin = 0; begin < scored; begin += chunk) {
      const Index rows = std::min(chunk, scored - begin);
      const auto in = Normed(rows);
      const auto logits = Sized(device_, logits_, rows, config.vocab);
      device_.RmsNorm(hidden.x.view().Rows(w * hidden.length + first + begin, rows),
                      placed_.final_norm(), config.rms_eps, in);
      HeadLogits(in, logits);
      device_.LogSoftmaxNll(logits, tokens.Row(w).subspan(Size(first + begin + 1), Size(rows)),
                            nll.Row(w).subspan(Size(begin), Size(rows)));
    }
  }
  device_.Sync();
  for (Index w = 0; w < hidden.windows; ++w) CheckFinite(nll.Row(w), w, first);
}

void Forward::HeadLogits(DeviceView<const float> normed, DeviceView<float> logits) {
  device_.Matmul(normed, placed_.head(), {}, logits, false);
  const double cap = weights_.config.logit_cap;
  if (cap != 0) {
    RequireMixers(device_, weights_.config.architecture).SoftCap(logits, static_cast<float>(cap));
  }
}

void Forward::Logits(DeviceView<const float> x, DeviceView<float> logits) {
  const auto in = Normed(x.rows());
  device_.RmsNorm(x, placed_.final_norm(), weights_.config.rms_eps, in);
  HeadLogits(in, logits);
}

void Forward::LogProbabilities(DeviceView<const float> x, std::span<const TokenPick> picks,
                               std::span<double> log_probabilities) {
  const ModelConfig& config = weights_.config;
  LIEQ_ASSERT(picks.size() == log_probabilities.size());
  const Index most = std::max<Index>(1, kLogitElements / config.vocab);
  for (std::size_t begin = 0; begin < picks.size();) {
    std::vector<TokenPick> chunk;  // rows counted within it
    std::vector<Index> rows;
    for (std::size_t i = begin; i < picks.size(); ++i) {
      if (rows.empty() || rows.back() != picks[i].row) {
        if (static_cast<Index>(rows.size()) == most) break;
        LIEQ_ASSERT(rows.empty() || rows.back() < picks[i].row);
        rows.push_back(picks[i].row);
      }
      chunk.push_back({static_cast<Index>(rows.size()) - 1, picks[i].token});
    }
    const auto count = static_cast<Index>(rows.size());
    const auto in = Normed(count);
    const auto logits = Sized(device_, logits_, count, config.vocab);
    for (Index i = 0; i < count; ++i) {
      device_.RmsNorm(x.Rows(rows[Size(i)], 1), placed_.final_norm(), config.rms_eps,
                      in.Rows(i, 1));
    }
    HeadLogits(in, logits);
    device_.LogProbabilities(logits, chunk, log_probabilities.subspan(begin, chunk.size()));
    begin += chunk.size();
  }
  device_.Sync();
}

void Forward::LastLogits(const Hidden& hidden, View<float, 2> logits) {
  std::vector<Index> rows;
  for (Index w = 0; w < hidden.windows; ++w) rows.push_back((w + 1) * hidden.length - 1);
  LogitsOf(hidden.x.view(), rows, logits);
}

void Forward::LogitsOf(DeviceView<const float> x, std::span<const Index> rows,
                       View<float, 2> logits) {
  const ModelConfig& config = weights_.config;
  const auto all = static_cast<Index>(rows.size());
  LIEQ_ASSERT(logits.rows() == all);
  const Index batch = std::clamp<Index>(kLogitElements / config.vocab, 1, all);
  for (Index first = 0; first < all; first += batch) {
    const Index count = std::min(batch, all - first);
    const auto in = Normed(count);
    const auto out = Sized(device_, logits_, count, config.vocab);
    for (Index i = 0; i < count; ++i) {
      device_.RmsNorm(x.Rows(rows[Size(first + i)], 1), placed_.final_norm(), config.rms_eps,
                      in.Rows(i, 1));
    }
    HeadLogits(in, out);
    device_.Download(out, logits.Rows(first, count));
  }
}

}  // namespace lieq
