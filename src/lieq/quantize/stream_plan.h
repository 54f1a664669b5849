// What of a quantization lies in a device's memory, where that is bounded.
#pragma once

#include <string>

#include "lieq/model/weights.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/streams.h"

namespace lieq {

struct StreamPlan {
  bool keeps_mixed = true;  // attention's outputs of all windows, else computed once more
  Index most_kept = kMostKeptFloats;
  // Residual streams in the host's memory, that the device reaches: of the float model, and of the
  // quantized one.
  bool reference_outside = false, quantized_outside = false;
  double bytes = 0;  // of the device's memory, about; 0 where it is not bounded

  /// "about 6.1 GB of the GPU's memory, attention computed twice, one stream in the host's"
  [[nodiscard]] std::string Text() const;
};

/// What is fastest within `bound` bytes; all of it there where that is 0. rows: tokens of all
/// windows of the device; batch: those of one batch; options: after WithDefaults; sums: of a unit
/// that are there at once (SumsAtOnce). Throws Error where nothing fits, which says what would.
[[nodiscard]] StreamPlan PlanStreams(const Weights& weights, const QuantOptions& options,
                                     Index rows, Index batch, Index bound, Index sums = 1);

}  // namespace lieq
