// How much a model is hurt when some of its linears are replaced: divergence and loss against the
// whole model, on windows of a text.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device_team.h"
#include "lieq/model/forward.h"

namespace lieq {

struct Damage {
  double kl = 0;                        // mean KL(whole || damaged) over the scored positions, nats
  double nll_rise = 0;                  // mean NLL less that of the whole model, nats
  std::vector<double> window_kl;        // [windows]: the same of each
  std::vector<double> window_nll_rise;  // [windows]
};

/// Another layer in the place of one of a model's.
struct LayerVariant {
  Index layer = 0;
  // Called once, when it is measured, by any thread; empty: the model's.
  std::function<LayerWeights()> weights;
  // What becomes of the inputs of its linears, on the first of several devices.
  Observer inputs{};
};

/// Measures on a fixed text. Holds the whole model's logits of the scored positions: every
/// stride()-th position is scored, so many that they stay near `most_logits`. Several devices hold
/// them each, and share models and variants; each of these is one device's alone.
class DamageMeter {
 public:
  static constexpr Index kMostLogits = Index{1} << 27;  // floats: 512 MiB

  /// Runs the whole model once. tokens [windows, length], length >= 2; all outlive this.
  DamageMeter(const Weights& whole, const DeviceTeam& team, View<const TokenId, 2> tokens,
              Context& context, Index most_logits = kMostLogits);

  /// Runs another model of the same config.
  [[nodiscard]] Damage Model(const Weights& model);
  /// The same of `count` models. model: called once for each, by any thread. found: called with
  /// what it came to, by one thread at a time.
  void Models(Index count, const std::function<Weights(Index)>& model,
              const std::function<void(Index, const Damage&)>& found);

  /// `base` with one layer replaced, for each variant; variants in rising order of layer. A variant
  /// starts from the hidden state before its layer, which the run of `base` has just reached: see
  /// LayerPasses. The last entry is that of `base` itself.
  [[nodiscard]] std::vector<Damage> Variants(const Weights& base,
                                             std::span<const LayerVariant> variants);
  /// Passes through single layers that Variants makes, the base included.
  [[nodiscard]] static Index LayerPasses(Index layers, std::span<const LayerVariant> variants);

  [[nodiscard]] Index stride() const noexcept { return stride_; }
  [[nodiscard]] double whole_nll() const noexcept { return whole_nll_; }

 private:
  struct Logits {                     // on a device
    DeviceMatrix reference, changed;  // [windows * positions, vocab], [positions, vocab]
  };
  DeviceView<const float> Scored(const Hidden& hidden, Index window) const;
  Damage Score(Index member, Forward& forward, const Hidden& hidden, const std::string& run);
  Damage Model(Index member, const Weights& model, Context& its);

  const DeviceTeam team_;
  View<const TokenId, 2> tokens_;
  Context& context_;
  Index stride_ = 1, offset_ = 0, positions_ = 0;  // of each window: offset + i * stride
  std::vector<Logits> logits_;                     // [devices]
  std::vector<double> whole_window_nll_;
  double whole_nll_ = 0;
};

}  // namespace lieq
