// Weights that lie on a device: placed once, and owned here.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "lieq/device/device.h"
#include "lieq/model/weights.h"

namespace lieq {

/// [1, n] on a device, shared by copies; null: there is none.
using PlacedVector = std::shared_ptr<const DeviceMatrix>;

struct PlacedLinear {
  Prepared weight;  // [out, in]
  PlacedVector bias;
};

/// A layer on a device. Copies share what was placed. Matrices may be read where the host has them
/// (device.h), so that whoever owns the LayerWeights it was made of keeps their memory alive.
struct PlacedLayer {
  std::array<PlacedLinear, kSites> linears;
  PlacedVector attention_norm, mlp_norm;  // [1, hidden]
  PlacedVector q_norm, k_norm;            // [1, head_dim], or null

  [[nodiscard]] PlacedLinear& At(Site site) noexcept {
    return linears[static_cast<std::size_t>(site)];
  }
  [[nodiscard]] const PlacedLinear& At(Site site) const noexcept {
    return linears[static_cast<std::size_t>(site)];
  }
};

[[nodiscard]] PlacedVector Place(std::span<const float> values, Device& device);
[[nodiscard]] PlacedLinear Place(const Linear& linear, Device& device);
[[nodiscard]] PlacedLayer Place(const LayerWeights& layer, Device& device);

/// x Wᵀ + b of the linear, into y.
[[nodiscard]] Product ProductOf(const PlacedLinear& linear, DeviceView<float> y);

/// Which layers stay on the device.
enum class Residency {
  kOneLayer,   // that which was asked for last: passes that go through a model once
  kAllLayers,  // all, from the beginning: tokens that go through it one after another
};

/// A model on a device. The embedding, the head and the norm before it are placed when they are
/// first asked for, and stay.
class PlacedWeights {
 public:
  /// Both outlive this; the weights do not change meanwhile.
  PlacedWeights(const Weights& weights, Device& device, Residency residency);

  /// With kOneLayer, until another is asked for.
  [[nodiscard]] const PlacedLayer& Layer(Index layer);
  [[nodiscard]] const PreparedMatrix& embedding();
  [[nodiscard]] const PreparedMatrix& head();
  [[nodiscard]] DeviceView<const float> final_norm();

 private:
  const Weights& weights_;
  Device& device_;
  const Residency residency_;
  std::vector<PlacedLayer> layers_;  // all, or one
  Index held_ = -1;                  // which one
  Prepared embedding_, head_;
  PlacedVector final_norm_;
};

}  // namespace lieq
