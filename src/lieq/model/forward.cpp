#include "lieq/model/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "lieq/base/error.h"
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

LayerSteps::LayerSteps(const ModelConfig& config, Device& device, Index max_length)
    : config_(config), device_(device), rope_(config.rope, config.head_dim, max_length, device) {}

void LayerSteps::RmsNorm(DeviceView<const float> x, const PlacedVector& weight,
                         DeviceView<float> y) {
  device_.RmsNorm(x, weight->view(), config_.rms_eps, y);
}

void LayerSteps::QkvInput(const PlacedLayer& layer, DeviceView<const float> x,
                          DeviceView<float> in) {
  RmsNorm(x, layer.attention_norm, in);
}

LayerSteps::Heads LayerSteps::Project(const PlacedLayer& layer, DeviceView<const float> in,
                                      std::span<const AttentionSpan> spans) {
  const Index rows = in.rows(), dim = config_.head_dim;
  const auto q = Sized(device_, q_, rows, config_.Out(Site::kQ));
  const auto k = Sized(device_, k_, rows, config_.Out(Site::kK));
  const auto v = Sized(device_, v_, rows, config_.Out(Site::kV));
  device_.Products(in,
                   std::array{ProductOf(layer.At(Site::kQ), q), ProductOf(layer.At(Site::kK), k),
                              ProductOf(layer.At(Site::kV), v)},
                   false);
  if (config_.qk_norm) {
    RmsNorm(q.Reshaped(dim), layer.q_norm, q.Reshaped(dim));
    RmsNorm(k.Reshaped(dim), layer.k_norm, k.Reshaped(dim));
  }
  device_.Rope(q, rope_.table(), spans, dim);
  device_.Rope(k, rope_.table(), spans, dim);
  return {q, k, v};
}

AttentionHeads LayerSteps::HeadShape() const {
  return {.heads = config_.heads, .kv_heads = config_.kv_heads, .head_dim = config_.head_dim};
}

void LayerSteps::AttentionOutput(const PlacedLayer& layer, DeviceView<const float> in,
                                 std::span<const AttentionSpan> spans, DeviceView<float> out) {
  const Heads heads = Project(layer, in, spans);
  device_.Attention(heads.q, heads.k, heads.v, HeadShape(), spans, out);
}

void LayerSteps::AttentionOutput(const PlacedLayer& layer, DeviceView<const float> in, Index length,
                                 DeviceView<float> out) {
  AttentionOutput(layer, in, WindowSpans(in.rows() / length, length), out);
}

void LayerSteps::AttentionOutput(const PlacedLayer& layer, DeviceView<const float> in, Index length,
                                 LayerCache& cache, Index past, DeviceView<float> out) {
  const Index windows = in.rows() / length, capacity = cache.keys.rows() / windows;
  LIEQ_ASSERT(past + length <= capacity);
  const std::vector<AttentionSpan> spans = WindowSpans(windows, length, past, capacity);
  const Heads heads = Project(layer, in, spans);
  for (const AttentionSpan& span : spans) {
    device_.Copy(heads.k.Rows(span.begin, length), cache.keys.view().Rows(span.keys, length));
    device_.Copy(heads.v.Rows(span.begin, length), cache.values.view().Rows(span.keys, length));
  }
  device_.Attention(heads.q, cache.keys.view(), cache.values.view(), HeadShape(), spans, out);
}

void LayerSteps::AddO(const PlacedLayer& layer, DeviceView<const float> attention,
                      DeviceView<float> x) {
  device_.Products(attention, std::array{ProductOf(layer.At(Site::kO), x)}, true);
}

void LayerSteps::MlpInput(const PlacedLayer& layer, DeviceView<const float> x,
                          DeviceView<float> in) {
  RmsNorm(x, layer.mlp_norm, in);
}

void LayerSteps::Gated(const PlacedLayer& layer, DeviceView<const float> in,
                       DeviceView<float> out) {
  const auto up = Sized(device_, up_, in.rows(), config_.intermediate);
  device_.Products(
      in, std::array{ProductOf(layer.At(Site::kGate), out), ProductOf(layer.At(Site::kUp), up)},
      false);
  device_.SwiGlu(out, up);
}

void LayerSteps::AddDown(const PlacedLayer& layer, DeviceView<const float> gated,
                         DeviceView<float> x) {
  device_.Products(gated, std::array{ProductOf(layer.At(Site::kDown), x)}, true);
}

Forward::Forward(const Weights& weights, Device& device, Index max_length, Residency residency)
    : weights_(weights),
      device_(device),
      placed_(weights, device, residency),
      steps_(weights.config, device, max_length) {}

Hidden Forward::Embed(View<const TokenId, 2> tokens) {
  const Index vocab = weights_.config.vocab;
  for (Index w = 0; w < tokens.rows(); ++w) {
    for (const TokenId id : tokens.Row(w)) {
      if (id >= 0 && id < vocab) continue;
      throw Error({.what = "token id outside the model's vocabulary",
                   .where = "window " + std::to_string(w),
                   .expected = "0 to " + std::to_string(vocab - 1),
                   .found = std::to_string(id),
                   .hint = "check that tokenizer.json belongs to this model"});
    }
  }
  LIEQ_ASSERT(tokens.stride() == tokens.cols());
  Hidden hidden{device_.Alloc(tokens.size(), weights_.config.hidden), tokens.rows(), tokens.cols()};
  device_.EmbedRows(placed_.embedding(), {tokens.data(), Size(tokens.size())}, hidden.x.view());
  return hidden;
}

Index Forward::BatchWindows(Index length) const noexcept {
  return std::max<Index>(1, kBatchRows / length);
}

void Forward::Layer(Index layer, Hidden& hidden, const Observer& observer) {
  Run(placed_.Layer(layer), hidden, observer);
}

void Forward::Layer(const LayerWeights& weights, Hidden& hidden, const Observer& observer) {
  Run(Place(weights, device_), hidden, observer);
}

void Forward::Layer(Index layer, DeviceView<float> x, std::span<const AttentionSpan> spans) {
  Run(placed_.Layer(layer), x, spans, {});
}

void Forward::Run(const PlacedLayer& layer, Hidden& hidden, const Observer& observer) {
  const Index batch = BatchWindows(hidden.length);
  for (Index w = 0; w < hidden.windows; w += batch) {
    const Index windows = std::min(batch, hidden.windows - w);
    Run(layer, hidden.x.view().Rows(w * hidden.length, windows * hidden.length),
        WindowSpans(windows, hidden.length), observer);
  }
}

void Forward::Run(const PlacedLayer& layer, DeviceView<float> x,
                  std::span<const AttentionSpan> spans, const Observer& observer) {
  const ModelConfig& config = weights_.config;
  const auto in = Sized(device_, in_, x.rows(), config.hidden);
  const auto attention = Sized(device_, attention_, x.rows(), config.In(Site::kO));
  const auto gated = Sized(device_, gated_, x.rows(), config.intermediate);

  steps_.QkvInput(layer, x, in);
  if (observer) observer(Unit::kQkv, in);
  steps_.AttentionOutput(layer, in, spans, attention);
  if (observer) observer(Unit::kO, attention);
  steps_.AddO(layer, attention, x);
  steps_.MlpInput(layer, x, in);
  if (observer) observer(Unit::kGateUp, in);
  steps_.Gated(layer, in, gated);
  if (observer) observer(Unit::kDown, gated);
  steps_.AddDown(layer, gated, x);
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
      const auto in = Sized(device_, in_, rows, config.hidden);
      const auto logits = Sized(device_, logits_, rows, config.vocab);
      device_.RmsNorm(hidden.x.view().Rows(w * hidden.length + first + begin, rows),
                      placed_.final_norm(), config.rms_eps, in);
      device_.Matmul(in, placed_.head(), {}, logits, false);
      device_.LogSoftmaxNll(logits, tokens.Row(w).subspan(Size(first + begin + 1), Size(rows)),
                            nll.Row(w).subspan(Size(begin), Size(rows)));
    }
  }
  device_.Sync();
  for (Index w = 0; w < hidden.windows; ++w) CheckFinite(nll.Row(w), w, first);
}

void Forward::Logits(DeviceView<const float> x, DeviceView<float> logits) {
  const auto in = Sized(device_, in_, x.rows(), weights_.config.hidden);
  device_.RmsNorm(x, placed_.final_norm(), weights_.config.rms_eps, in);
  device_.Matmul(in, placed_.head(), {}, logits, false);
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
    const auto in = Sized(device_, in_, count, config.hidden);
    const auto logits = Sized(device_, logits_, count, config.vocab);
    for (Index i = 0; i < count; ++i) {
      device_.RmsNorm(x.Rows(rows[Size(i)], 1), placed_.final_norm(), config.rms_eps,
                      in.Rows(i, 1));
    }
    device_.Matmul(in, placed_.head(), {}, logits, false);
    device_.LogProbabilities(logits, chunk, log_probabilities.subspan(begin, chunk.size()));
    begin += chunk.size();
  }
  device_.Sync();
}

void Forward::LastLogits(const Hidden& hidden, View<float, 2> logits) {
  const ModelConfig& config = weights_.config;
  const Index batch = std::clamp<Index>(kLogitElements / config.vocab, 1, hidden.windows);
  for (Index w = 0; w < hidden.windows; w += batch) {
    const Index rows = std::min(batch, hidden.windows - w);
    const auto in = Sized(device_, in_, rows, config.hidden);
    const auto out = Sized(device_, logits_, rows, config.vocab);
    for (Index i = 0; i < rows; ++i) {
      device_.RmsNorm(hidden.x.view().Rows((w + i + 1) * hidden.length - 1, 1),
                      placed_.final_norm(), config.rms_eps, in.Rows(i, 1));
    }
    device_.Matmul(in, placed_.head(), {}, out, false);
    device_.Download(out, logits.Rows(w, rows));
  }
}

}  // namespace lieq
