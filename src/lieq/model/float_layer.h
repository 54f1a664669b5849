// A layer, and the two ends of a model, as floats of their own: for stages that rewrite weights.
#pragma once

#include <array>
#include <vector>

#include "lieq/model/weights.h"

namespace lieq {

/// As LayerWeights, every matrix owned. [out, in]
struct FloatLayer : LayerVectors {
  std::array<Matrix<float>, kSites> weights;
  std::array<std::vector<float>, kSites> biases;  // [out] or empty

  [[nodiscard]] Matrix<float>& At(Site site) noexcept {
    return weights[static_cast<std::size_t>(site)];
  }
  [[nodiscard]] std::vector<float>& Bias(Site site) noexcept {
    return biases[static_cast<std::size_t>(site)];
  }
  /// Views into this layer: alive as long as it is, and unmoved.
  [[nodiscard]] LayerWeights Views() const;
};

/// What lies before the first layer and behind the last one. The head is a matrix of its own, also
/// where it was tied.
struct FloatEnds {
  Matrix<float> embedding, head;  // [vocab, hidden]
  std::vector<float> final_norm;  // [hidden]
};

/// Copies, exact for every form of matrix.
[[nodiscard]] FloatEnds WidenedEnds(const Weights& weights);

}  // namespace lieq
