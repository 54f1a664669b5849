#include "lieq/model/backward.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/model/forward.h"
#include "lieq/model/passes.h"

namespace lieq {
Backward::Backward(const Weights& weights, Device& device, Index max_length)
    : weights_(weights),
      device_(device),
      gradients_(RequireGradients(device)),
      placed_(weights, device, Residency::kOneLayer),
      rope_(weights.config.rope, weights.config.head_dim, max_length, device) {}

void Backward::Head(const Hidden& hidden, View<const TokenId, 2> tokens, DeviceView<float> gradient,
                    Index first_window) {
  const ModelConfig& config = weights_.config;
  LIEQ_ASSERT(tokens.rows() == hidden.windows && tokens.cols() == hidden.length);
  LIEQ_ASSERT(hidden.length >= 2 && gradient.rows() == hidden.x.rows());
  const Index scored = hidden.length - 1;
  const Index chunk = std::clamp<Index>(kLogitElements / config.vocab, 1, scored);
  const PreparedMatrix& head = placed_.head();
  const Matrix<float> nothing(1, config.hidden);
  std::vector<double> nll(Size(chunk));
  for (Index w = 0; w < hidden.windows; ++w) {
    for (Index begin = 0; begin < scored; begin += chunk) {
      const Index rows = std::min(chunk, scored - begin), first = w * hidden.length + begin;
      const auto x = hidden.x.view().Rows(first, rows);
      const auto in = Sized(device_, in_, rows, config.hidden);
      const auto logits = Sized(device_, logits_, rows, config.vocab);
      const std::span<double> losses(nll.data(), Size(rows));
      device_.RmsNorm(x, placed_.final_norm(), config.rms_eps, in);
      device_.Matmul(in, head, {}, logits, false);
      gradients_.NllGradient(logits, tokens.Row(w).subspan(Size(begin + 1), Size(rows)), losses);
      device_.Sync();
      CheckFinite(losses, first_window + w, begin);
      gradients_.MatmulGradient(logits, head, in, false);
      gradients_.RmsNormGradient(x, placed_.final_norm(), config.rms_eps, in,
                                 gradient.Rows(first, rows), false);
    }
    device_.Upload(nothing.view(), gradient.Rows((w + 1) * hidden.length - 1, 1));
  }
}

void Backward::Layer(const LayerWeights& weights, DeviceView<const float> x, Index length,
                     DeviceView<float> gradient, const GradientObserver& observer) {
  const PlacedLayer layer = Place(weights, device_);
  LIEQ_ASSERT(x.rows() == gradient.rows() && x.rows() % length == 0);
  const Index batch = std::max<Index>(1, kGradientRows / length) * length;
  for (Index first = 0; first < x.rows(); first += batch) {
    const Index rows = std::min(batch, x.rows() - first);
    Recompute(layer, x.Rows(first, rows), length);
    Mlp(layer, first, gradient.Rows(first, rows), observer);
    Attention(layer, x.Rows(first, rows), length, first, gradient.Rows(first, rows), observer);
  }
}

/// The layer forward from its input x, all that is needed on the way back kept: q, k (turned), v,
/// the residual stream in the middle, gate and up.
void Backward::Recompute(const PlacedLayer& layer, DeviceView<const float> x, Index length) {
  const ModelConfig& config = weights_.config;
  const Index rows = x.rows(), dim = config.head_dim;
  const auto in = Sized(device_, in_, rows, config.hidden);
  const auto q = Sized(device_, q_, rows, config.Out(Site::kQ));
  const auto k = Sized(device_, k_, rows, config.Out(Site::kK));
  const auto v = Sized(device_, v_, rows, config.Out(Site::kV));
  device_.RmsNorm(x, layer.attention_norm->view(), config.rms_eps, in);
  const auto multiply = [&](DeviceView<float> to_q, DeviceView<float> to_k) {
    device_.Products(
        in,
        std::array{ProductOf(layer.At(Site::kQ), to_q), ProductOf(layer.At(Site::kK), to_k),
                   ProductOf(layer.At(Site::kV), v)},
        false);
  };
  if (config.qk_norm) {
    const auto q_raw = Sized(device_, q_raw_, rows, q.cols());
    const auto k_raw = Sized(device_, k_raw_, rows, k.cols());
    multiply(q_raw, k_raw);
    device_.RmsNorm(q_raw.Reshaped(dim), layer.q_norm->view(), config.rms_eps, q.Reshaped(dim));
    device_.RmsNorm(k_raw.Reshaped(dim), layer.k_norm->view(), config.rms_eps, k.Reshaped(dim));
  } else {
    multiply(q, k);
  }
  const std::vector<AttentionSpan> spans = WindowSpans(rows / length, length);
  device_.Rope(q, rope_.table(), spans, dim);
  device_.Rope(k, rope_.table(), spans, dim);
  const auto attention = Sized(device_, attention_, rows, config.In(Site::kO));
  device_.Attention(q, k, v, {.heads = config.heads, .kv_heads = config.kv_heads, .head_dim = dim},
                    spans, attention);
  const auto middle = Sized(device_, middle_, rows, config.hidden);
  device_.Copy(x, middle);
  device_.Products(attention, std::array{ProductOf(layer.At(Site::kO), middle)}, true);
  device_.RmsNorm(middle, layer.mlp_norm->view(), config.rms_eps, in);
  const auto gate = Sized(device_, gate_, rows, config.intermediate);
  const auto up = Sized(device_, up_, rows, config.intermediate);
  device_.Products(
      in, std::array{ProductOf(layer.At(Site::kGate), gate), ProductOf(layer.At(Site::kUp), up)},
      false);
}

/// gradient: with respect to the layer's output, then to the residual stream in the middle.
void Backward::Mlp(const PlacedLayer& layer, Index first, DeviceView<float> gradient,
                   const GradientObserver& observer) {
  const ModelConfig& config = weights_.config;
  const Index rows = gradient.rows();
  const auto gate = gate_.Shaped(rows, config.intermediate);
  const auto up = up_.Shaped(rows, config.intermediate);
  const auto dgated = Sized(device_, dgated_, rows, config.intermediate);
  if (observer) observer(Site::kDown, first, gradient);
  gradients_.MatmulGradient(gradient, *layer.At(Site::kDown).weight, dgated, false);
  gradients_.SwiGluGradient(gate, up, dgated);
  if (observer) {
    observer(Site::kGate, first, gate);
    observer(Site::kUp, first, up);
  }
  const auto din = in_.Shaped(rows, config.hidden);
  gradients_.MatmulGradient(gate, *layer.At(Site::kGate).weight, din, false);
  gradients_.MatmulGradient(up, *layer.At(Site::kUp).weight, din, true);
  gradients_.RmsNormGradient(middle_.Shaped(rows, config.hidden), layer.mlp_norm->view(),
                             config.rms_eps, din, gradient, true);
}

/// gradient: with respect to the residual stream in the middle, then to the layer's input x.
void Backward::Attention(const PlacedLayer& layer, DeviceView<const float> x, Index length,
                         Index first, DeviceView<float> gradient,
                         const GradientObserver& observer) {
  const ModelConfig& config = weights_.config;
  const Index rows = gradient.rows(), dim = config.head_dim;
  const Index queries = config.Out(Site::kQ), keys = config.Out(Site::kK);
  const auto dattention = attention_.Shaped(rows, queries);
  const auto dq = Sized(device_, dq_, rows, queries);
  const auto dk = Sized(device_, dk_, rows, keys), dv = Sized(device_, dv_, rows, keys);
  if (observer) observer(Site::kO, first, gradient);
  gradients_.MatmulGradient(gradient, *layer.At(Site::kO).weight, dattention, false);
  gradients_.AttentionGradient(q_.Shaped(rows, queries), k_.Shaped(rows, keys),
                               v_.Shaped(rows, keys), dattention,
                               {.windows = rows / length,
                                .length = length,
                                .heads = config.heads,
                                .kv_heads = config.kv_heads,
                                .head_dim = dim},
                               dq, dk, dv);
  const std::vector<AttentionSpan> spans = WindowSpans(rows / length, length);
  device_.Rope(dq, rope_.back(), spans, dim);
  device_.Rope(dk, rope_.back(), spans, dim);
  if (config.qk_norm) {
    const auto norm_back = [&](const DeviceMatrix& raw, const PlacedVector& weight,
                               DeviceView<float> d) {
      const auto heads = d.Reshaped(dim);
      gradients_.RmsNormGradient(raw.Shaped(heads.rows(), dim), weight->view(), config.rms_eps,
                                 heads, heads, false);
    };
    norm_back(q_raw_, layer.q_norm, dq);
    norm_back(k_raw_, layer.k_norm, dk);
  }
  if (observer) {
    observer(Site::kQ, first, dq);
    observer(Site::kK, first, dk);
    observer(Site::kV, first, dv);
  }
  const auto din = in_.Shaped(rows, config.hidden);
  gradients_.MatmulGradient(dq, *layer.At(Site::kQ).weight, din, false);
  gradients_.MatmulGradient(dk, *layer.At(Site::kK).weight, din, true);
  gradients_.MatmulGradient(dv, *layer.At(Site::kV).weight, din, true);
  gradients_.RmsNormGradient(x, layer.attention_norm->view(), config.rms_eps, din, gradient, true);
}

OutputSensitivity MeasureOutputSensitivity(const Weights& weights, Device& device,
                                           View<const TokenId, 2> tokens, Context& context,
                                           Index most_kept) {
  const ModelConfig& config = weights.config;
  const Index length = tokens.cols(), layers = config.layers;
  LIEQ_ASSERT(tokens.rows() > 0 && length >= 2);
  const Index batch =
      std::clamp<Index>(most_kept / (layers * length * config.hidden), 1, tokens.rows());
  OutputSensitivity result;
  result.weights.resize(Size(layers));
  for (auto& layer : result.weights) {
    for (auto& unit : layer) unit.resize(Size(tokens.size()));
  }
  Forward forward(weights, device, length);
  Backward backward(weights, device, length);
  CalibrationOps& sums_of_rows = RequireCalibration(device);
  const DeviceMatrix kept = device.Alloc(layers * batch * length, config.hidden);
  const DeviceMatrix gradients = device.Alloc(batch * length, config.hidden);
  std::array<std::vector<double>, kUnits> sums;

  Index done = 0;
  context.progress.Begin("measuring gradients", "layer pass",
                         2 * layers * CeilDiv(tokens.rows(), batch));
  for (Index w = 0; w < tokens.rows(); w += batch) {
    const View<const TokenId, 2> part = tokens.Rows(w, std::min(batch, tokens.rows() - w));
    const Index rows = part.rows() * length;
    const auto input = [&](Index layer) { return kept.view().Rows(layer * rows, rows); };
    const auto gradient = gradients.view().Rows(0, rows);
    {
      Hidden hidden = forward.Embed(part);
      for (Index layer = 0; layer < layers; ++layer) {
        context.ThrowIfStopped();
        device.Copy(hidden.x.view(), input(layer));
        forward.Layer(layer, hidden);
        weights.ReleaseLayer(layer);
        context.progress.Update(++done);
      }
      backward.Head(hidden, part, gradient, w);
    }
    for (Index layer = layers - 1; layer >= 0; --layer) {
      context.ThrowIfStopped();
      for (auto& unit : sums) unit.assign(Size(rows), 0.0);
      backward.Layer(weights.layers[Size(layer)], input(layer), length, gradient,
                     [&](Site site, Index first, DeviceView<const float> dy) {
                       auto& unit = sums[static_cast<std::size_t>(UnitOf(site))];
                       sums_of_rows.RowSquares(
                           dy, std::span(unit).subspan(Size(first), Size(dy.rows())));
                     });
      device.Sync();
      weights.ReleaseLayer(layer);
      for (const Unit unit : kAllUnits) {
        const auto u = static_cast<std::size_t>(unit);
        Index outs = 0;
        for (const Site site : SitesOf(unit)) outs += config.Out(site);
        for (Index t = 0; t < rows; ++t) {
          const auto weight = static_cast<float>(sums[u][Size(t)] / static_cast<double>(outs));
          if (!std::isfinite(weight)) {
            throw Error({.what = "the gradient of the loss is not finite",
                         .where = "layer " + std::to_string(layer) + ", " +
                                  std::string(Name(unit)) + ", window " +
                                  std::to_string(w + t / length),
                         .hint = "the weights hold or produce NaN or infinity"});
          }
          result.weights[Size(layer)][u][Size(w * length + t)] = weight;
        }
      }
      context.progress.Update(++done);
    }
  }
  context.progress.End();
  return result;
}

}  // namespace lieq
