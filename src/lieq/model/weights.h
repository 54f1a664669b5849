// The weights of a model, float or quantized alike.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_vectors.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {

/// y = x Wᵀ + b
struct Linear {
  AnyMatrix weight;         // [out, in]
  std::vector<float> bias;  // [out] or empty
};

/// A linear that the layer has not is without rows.
struct LayerWeights : LayerVectors {
  std::array<Linear, kSites> linears;

  [[nodiscard]] Linear& At(Site site) noexcept { return linears[static_cast<std::size_t>(site)]; }
  [[nodiscard]] const Linear& At(Site site) const noexcept {
    return linears[static_cast<std::size_t>(site)];
  }
};

/// As many as its router has rows; 0: it has none.
[[nodiscard]] Index ExpertsOf(const LayerWeights& layer) noexcept;

/// Shapes agree with `config`; all layers are present. Copies share the mapped files and QMatrices.
struct Weights {
  ModelConfig config;
  AnyMatrix embedding;  // [vocab, hidden]
  AnyMatrix head;       // [vocab, hidden]; the embedding where tied
  std::vector<float> final_norm;
  std::vector<LayerWeights> layers;
  std::vector<std::shared_ptr<const FileMap>> maps;  // keep the views alive
  std::vector<std::shared_ptr<const void>> owners;   // as above: copies of unaligned tensors

  /// Gives the pages of a layer's mapped linears back to the system (they can be read again).
  void ReleaseLayer(Index layer) const noexcept;
  void Release(const AnyMatrix& matrix) const noexcept;
};

}  // namespace lieq
