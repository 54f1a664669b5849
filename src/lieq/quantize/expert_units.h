// Rounds a unit of experts, one expert after another.
#pragma once

#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/model/layer_steps.h"
#include "lieq/model/weights.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {

/// The options for experts: nothing of the float model is followed, whose tokens may go elsewhere.
[[nodiscard]] QuantOptions ForExperts(QuantOptions options);

struct ExpertUnit {
  const ModelConfig& config;
  const LayerWeights& weights;  // of the layer
  Index layer = 0;
  const LayerStep& unit;
  const Quantizer& quantizer;
  const QuantOptions& options;  // ForExperts
  bool wide = false;            // as of QuantizeInRange
  std::vector<Index> thin;      // experts that are named in the reports
};

/// results[i] gets the unit's matrices, all experts in one, on grids[i], and what their reports add
/// up to. measured [experts]; empty statistics for a quantizer that needs none. Throws Error naming
/// layer and linear for weights or inputs that are not finite.
void RoundExperts(const ExpertUnit& work, std::vector<CalibrationStatistics> measured,
                  std::span<const Grid> grids, std::span<QuantizedLayer* const> results,
                  Context& context);

}  // namespace lieq
