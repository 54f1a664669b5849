// Codes of every candidate grid of every unit, for choosing among them.
//
// Unlike LayerQuantizer, units are quantized on the inputs of the float model, whatever was chosen
// for the others: one pass over the calibration text and one factorisation for each unit serve all
// candidates, and any choice of one candidate for each unit is a model.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/model/forward.h"
#include "lieq/model/padding.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {

/// Whether the grid's groups divide the rows of the unit's linears.
[[nodiscard]] bool Fits(const Grid& grid, const ModelConfig& config, Unit unit) noexcept;

/// The options that candidates are made with: inputs are those of the float model, so that nothing
/// drifts.
[[nodiscard]] QuantOptions FloatInputs(QuantOptions options);

class CandidateQuantizer {
 public:
  /// weights, device and context outlive this. calibration [windows, length]: may have 0 windows
  /// for a quantizer that needs none. Holds [windows * length, hidden] floats of activations.
  CandidateQuantizer(const Weights& weights, Device& device, const QuantOptions& options,
                     View<const TokenId, 2> calibration, Context& context);

  /// Quantizes the next layer on each grid; matrices are null, and reports empty, for linears that
  /// a grid does not fit. Errors of all candidates of a linear are traces with one and the same
  /// matrix (the Gram matrix plus the options' damping), so they compare. Throws Error naming layer
  /// and linear for weights or inputs that are not finite.
  [[nodiscard]] std::vector<QuantizedLayer> Quantize(std::span<const Grid> candidates);
  /// Passes the next layer.
  void Skip();

  [[nodiscard]] Index next_layer() const noexcept { return next_; }

 private:
  const Weights& weights_;
  Device& device_;
  const QuantOptions options_;
  const Quantizer& quantizer_;
  Context& context_;
  Forward forward_;
  Hidden hidden_;
  Padding padding_;  // of its rows
  Index next_ = 0;
};

}  // namespace lieq
