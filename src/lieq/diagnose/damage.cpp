#include "lieq/diagnose/damage.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

double Mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

DamageMeter::DamageMeter(const Weights& whole, Device& device, View<const TokenId, 2> tokens,
                         Context& context, Index most_logits)
    : whole_(whole), device_(device), tokens_(tokens), context_(context) {
  LIEQ_ASSERT(tokens.rows() > 0 && tokens.cols() >= 2);
  const Index scored = tokens.cols() - 1, vocab = whole.config.vocab;
  stride_ = std::clamp<Index>(CeilDiv(tokens.rows() * scored * vocab, most_logits), 1, scored);
  offset_ = stride_ / 2;
  positions_ = (scored - 1 - offset_) / stride_ + 1;
  reference_ = device.Alloc(tokens.rows() * positions_, vocab);
  logits_ = device.Alloc(positions_, vocab);

  Forward forward(whole, device, tokens.cols());
  Hidden hidden = forward.Embed(tokens);
  for (Index layer = 0; layer < whole.config.layers; ++layer) {
    context.ThrowIfStopped();
    forward.Layer(layer, hidden);
    whole.ReleaseLayer(layer);
  }
  for (Index w = 0; w < tokens.rows(); ++w) {
    forward.Logits(Scored(hidden, w), reference_.view().Rows(w * positions_, positions_));
  }
  whole_window_nll_.assign(Size(tokens.rows()), 0.0);
  const Damage itself = Score(forward, hidden, "the whole model");
  whole_window_nll_ = itself.window_nll_rise;
  whole_nll_ = itself.nll_rise;
}

DeviceView<const float> DamageMeter::Scored(const Hidden& hidden, Index window) const {
  return hidden.x.view().EveryRow(window * hidden.length + offset_, stride_, positions_);
}

Damage DamageMeter::Score(Forward& forward, const Hidden& hidden, const std::string& run) {
  Damage damage;
  std::vector<double> kl(Size(positions_)), nll(Size(positions_));
  std::vector<TokenId> targets(Size(positions_));
  for (Index w = 0; w < tokens_.rows(); ++w) {
    for (Index i = 0; i < positions_; ++i) {
      targets[Size(i)] = tokens_(w, offset_ + i * stride_ + 1);
    }
    forward.Logits(Scored(hidden, w), logits_.view());
    device_.SoftmaxKl(reference_.view().Rows(w * positions_, positions_), logits_.view(), kl);
    device_.LogSoftmaxNll(logits_.view(), targets, nll);
    device_.Sync();
    damage.window_kl.push_back(Mean(kl));
    damage.window_nll_rise.push_back(Mean(nll) - whole_window_nll_[Size(w)]);
    if (std::isfinite(damage.window_kl.back()) && std::isfinite(damage.window_nll_rise.back()))
      continue;
    throw Error({.what = "the output of a changed model is not finite",
                 .where = run + ", window " + std::to_string(w),
                 .hint = "the weights hold or produce NaN or infinity"});
  }
  damage.kl = std::max(0.0, Mean(damage.window_kl));
  damage.nll_rise = Mean(damage.window_nll_rise);
  return damage;
}

Damage DamageMeter::Model(const Weights& model) {
  Forward forward(model, device_, tokens_.cols());
  Hidden hidden = forward.Embed(tokens_);
  for (Index layer = 0; layer < model.config.layers; ++layer) {
    context_.ThrowIfStopped();
    forward.Layer(layer, hidden);
  }
  return Score(forward, hidden, "a mix");
}

Index DamageMeter::LayerPasses(Index layers, std::span<const LayerVariant> variants) {
  Index passes = layers;
  for (const LayerVariant& variant : variants) passes += layers - variant.layer;
  return passes;
}

std::vector<Damage> DamageMeter::Variants(const Weights& base,
                                          std::span<const LayerVariant> variants) {
  const Index layers = base.config.layers;
  Forward forward(base, device_, tokens_.cols());
  Hidden hidden = forward.Embed(tokens_);
  Hidden changed{device_.Alloc(hidden.x.rows(), hidden.x.cols()), hidden.windows, hidden.length};
  std::vector<Damage> damages;
  context_.progress.Begin("measuring damage", "variant", static_cast<Index>(variants.size()));
  std::size_t next = 0;
  for (Index layer = 0; layer < layers; ++layer) {
    for (; next < variants.size() && variants[next].layer == layer; ++next) {
      device_.Copy(hidden.x.view(), changed.x.view());
      const LayerVariant& variant = variants[next];
      if (variant.weights) {
        forward.Layer(layer, variant.weights(), changed, variant.inputs);
      } else {
        forward.Layer(layer, changed, variant.inputs);
      }
      for (Index later = layer + 1; later < layers; ++later) {
        context_.ThrowIfStopped();
        forward.Layer(later, changed);
      }
      damages.push_back(Score(forward, changed, "a variant of layer " + std::to_string(layer)));
      context_.progress.Update(static_cast<Index>(damages.size()));
    }
    forward.Layer(layer, hidden);
  }
  LIEQ_ASSERT(next == variants.size());
  damages.push_back(Score(forward, hidden, "the base"));
  context_.progress.End();
  return damages;
}

}  // namespace lieq
