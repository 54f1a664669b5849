#include "lieq/diagnose/damage.h"

#include <algorithm>
#include <cmath>
#include <mutex>
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

DamageMeter::DamageMeter(const Weights& whole, const DeviceTeam& team,
                         View<const TokenId, 2> tokens, Context& context, Index most_logits)
    : team_(team), tokens_(tokens), context_(context), logits_(Size(team.size())) {
  LIEQ_ASSERT(tokens.rows() > 0 && tokens.cols() >= 2);
  const Index scored = tokens.cols() - 1, vocab = whole.config.vocab;
  stride_ = std::clamp<Index>(CeilDiv(tokens.rows() * scored * vocab, most_logits), 1, scored);
  offset_ = stride_ / 2;
  positions_ = (scored - 1 - offset_) / stride_ + 1;
  whole_window_nll_.assign(Size(tokens.rows()), 0.0);
  Damage itself;
  team_.Run(context, [&](Index member, Context& its) {
    auto& [reference, changed] = logits_[Size(member)];
    reference = team_[member].Alloc(tokens.rows() * positions_, vocab);
    changed = team_[member].Alloc(positions_, vocab);
    Forward forward(whole, team_[member], tokens.cols());
    Hidden hidden = forward.Embed(tokens);
    for (Index layer = 0; layer < whole.config.layers; ++layer) {
      its.ThrowIfStopped();
      forward.Layer(layer, hidden);
      whole.ReleaseLayer(layer);
    }
    for (Index w = 0; w < tokens.rows(); ++w) {
      forward.Logits(Scored(hidden, w), reference.view().Rows(w * positions_, positions_));
    }
    if (member == 0) itself = Score(0, forward, hidden, "the whole model");
  });
  whole_window_nll_ = itself.window_nll_rise;
  whole_nll_ = itself.nll_rise;
}

DeviceView<const float> DamageMeter::Scored(const Hidden& hidden, Index window) const {
  return hidden.x.view().EveryRow(window * hidden.length + offset_, stride_, positions_);
}

Damage DamageMeter::Score(Index member, Forward& forward, const Hidden& hidden,
                          const std::string& run) {
  Device& device = team_[member];
  const auto& [reference, changed] = logits_[Size(member)];
  Damage damage;
  std::vector<double> kl(Size(positions_)), nll(Size(positions_));
  std::vector<TokenId> targets(Size(positions_));
  for (Index w = 0; w < tokens_.rows(); ++w) {
    for (Index i = 0; i < positions_; ++i) {
      targets[Size(i)] = tokens_(w, offset_ + i * stride_ + 1);
    }
    forward.Logits(Scored(hidden, w), changed.view());
    device.SoftmaxKl(reference.view().Rows(w * positions_, positions_), changed.view(), kl);
    device.LogSoftmaxNll(changed.view(), targets, nll);
    device.Sync();
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
  return Model(0, model, context_);
}

Damage DamageMeter::Model(Index member, const Weights& model, Context& its) {
  Forward forward(model, team_[member], tokens_.cols());
  Hidden hidden = forward.Embed(tokens_);
  for (Index layer = 0; layer < model.config.layers; ++layer) {
    its.ThrowIfStopped();
    forward.Layer(layer, hidden);
  }
  return Score(member, forward, hidden, "a mix");
}

void DamageMeter::Models(Index count, const std::function<Weights(Index)>& model,
                         const std::function<void(Index, const Damage&)>& found) {
  std::mutex mutex;
  team_.Share(count, context_, [&](Index member, const std::function<Index()>& next, Context& its) {
    for (Index i = next(); i < count; i = next()) {
      const Damage damage = Model(member, model(i), its);
      const std::scoped_lock lock(mutex);
      found(i, damage);
    }
  });
}

Index DamageMeter::LayerPasses(Index layers, std::span<const LayerVariant> variants) {
  Index passes = layers;
  for (const LayerVariant& variant : variants) passes += layers - variant.layer;
  return passes;
}

std::vector<Damage> DamageMeter::Variants(const Weights& base,
                                          std::span<const LayerVariant> variants) {
  const Index layers = base.config.layers;
  const bool sees = std::ranges::any_of(
      variants, [](const LayerVariant& variant) { return static_cast<bool>(variant.inputs); });
  const DeviceTeam team = sees ? team_.Alone() : team_;  // observers are of the first device
  std::vector<Damage> damages(variants.size() + 1);
  Stage progress(context_.progress, "measuring damage", "variant",
                 static_cast<Index>(variants.size()));
  // Each takes every so-manieth, so that each has about as many of every depth.
  team.Run(context_, [&](Index member, Context& its) {
    Device& device = team[member];
    Forward forward(base, device, tokens_.cols());
    Hidden hidden = forward.Embed(tokens_);
    Hidden changed{device.Alloc(hidden.x.rows(), hidden.x.cols()), hidden.windows, hidden.length};
    auto next = Size(member);
    for (Index layer = 0; layer < layers; ++layer) {
      for (; next < variants.size() && variants[next].layer == layer; next += Size(team.size())) {
        device.Copy(hidden.x.view(), changed.x.view());
        const LayerVariant& variant = variants[next];
        if (variant.weights) {
          forward.Layer(layer, variant.weights(), changed, variant.inputs);
        } else {
          forward.Layer(layer, changed, variant.inputs);
        }
        for (Index later = layer + 1; later < layers; ++later) {
          its.ThrowIfStopped();
          forward.Layer(later, changed);
        }
        damages[next] =
            Score(member, forward, changed, "a variant of layer " + std::to_string(layer));
        progress.Done();
      }
      if (member > 0 && next >= variants.size()) return;  // the base is the first one's
      forward.Layer(layer, hidden);
    }
    LIEQ_ASSERT(next >= variants.size());
    if (member == 0) damages.back() = Score(0, forward, hidden, "the base");
  });
  return damages;
}

}  // namespace lieq
