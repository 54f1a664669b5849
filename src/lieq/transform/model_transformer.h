// Applies transforms to a model, a layer at a time.
#pragma once

#include <optional>

#include "lieq/model/forward.h"
#include "lieq/model/padding.h"
#include "lieq/transform/transforms.h"

namespace lieq {

struct TransformedLayer {
  FloatLayer layer;
  std::vector<LayerChoices> choices;  // by row of the list
};

/// Holds one layer and, where rows change or follow them, both ends and the calibration windows'
/// activations [windows * length, hidden].
class ModelTransformer {
 public:
  /// weights, device and context outlive this. calibration [windows, length]: may be empty where no
  /// row needs any. Throws Error for an embedding or a head that is not finite.
  ModelTransformer(const Weights& weights, Device& device, TransformList rows,
                   const TransformOptions& options, View<const TokenId, 2> calibration,
                   Context& context);

  /// The transformed ends; none where they stay as they are, tied or not.
  [[nodiscard]] const std::optional<FloatEnds>& ends() const noexcept { return ends_; }

  /// The next layer. grids: in the order of Site. Throws Error naming layer and linear for weights
  /// or inputs that are not finite.
  [[nodiscard]] TransformedLayer Next(std::span<const Grid, kSites> grids);

 private:
  void Measure(const FloatLayer& layer, std::array<UnitStatistics, kUnits>& inputs);

  const Weights& weights_;
  Device& device_;
  const TransformList rows_;
  const TransformOptions options_;
  Context& context_;
  std::optional<FloatEnds> ends_;
  Weights transformed_;  // the ends that the windows run through
  std::optional<Forward> forward_;
  Hidden hidden_;
  Padding padding_;  // of its rows
  Index next_ = 0;
};

}  // namespace lieq
