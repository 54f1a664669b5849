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
  Prepared weight;  // [out, in]; null where there are experts
  PlacedVector bias;
  std::vector<Prepared> experts;  // each [out / experts, in]
};

/// A layer on a device. Copies share what was placed. Matrices of mapped files may be read where
/// they are (device.h), so that whoever owns the LayerWeights it was made of keeps the files
/// mapped.
struct PlacedLayer {
  std::array<PlacedLinear, kSites> linears;         // null where the layer has none
  std::array<PlacedVector, kLayerVectors> vectors;  // the same; rows of matrices side by side

  [[nodiscard]] PlacedLinear& At(Site site) noexcept {
    return linears[static_cast<std::size_t>(site)];
  }
  [[nodiscard]] const PlacedLinear& At(Site site) const noexcept {
    return linears[static_cast<std::size_t>(site)];
  }
  /// [1, n]
  [[nodiscard]] DeviceView<const float> At(LayerVector which) const {
    return vectors[static_cast<std::size_t>(which)]->view();
  }
};

[[nodiscard]] PlacedVector Place(std::span<const float> values, Device& device);
/// experts: parts that it is placed in; 0: whole.
[[nodiscard]] PlacedLinear Place(const Linear& linear, Device& device, Index experts = 0);
[[nodiscard]] PlacedLayer Place(const LayerWeights& layer, Device& device);

/// x Wᵀ + b of the linear, into y.
[[nodiscard]] Product ProductOf(const PlacedLinear& linear, DeviceView<float> y);

/// A model on a device: that of its layers which was asked for last, for passes that go through a
/// model once, or all of them. The embedding, the head and the norm before it stay when they were
/// asked for.
class PlacedWeights {
 public:
  /// Both outlive this; the weights do not change meanwhile.
  PlacedWeights(const Weights& weights, Device& device);

  /// Places all there is, a layer at a time, and takes its matrices from `weights` as it goes, so
  /// that no more than a layer is held twice. Config, norms and mapped files stay there.
  void PlaceAll(Weights& weights);

  /// Where not all are placed, until another is asked for.
  [[nodiscard]] const PlacedLayer& Layer(Index layer);
  [[nodiscard]] const PreparedMatrix& embedding();
  [[nodiscard]] const PreparedMatrix& head();
  [[nodiscard]] DeviceView<const float> final_norm();

 private:
  const Weights& weights_;
  Device& device_;
  std::vector<PlacedLayer> layers_;  // all, or one
  bool all_ = false;
  Index held_ = -1;  // which one
  Prepared embedding_, head_;
  PlacedVector final_norm_;
};

}  // namespace lieq
