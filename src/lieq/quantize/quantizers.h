// The table of quantizers. To add one: a file with its function, and one row in quantizers.cpp.
#pragma once

#include <span>
#include <string_view>

#include "lieq/base/context.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// What calibration tells about the input of a unit.
struct InputStatistics {
  View<const double, 2> gram;  // [in, in], lower triangle of xᵀx over the calibration tokens
  GptqFactor factor;           // of gram; its order is empty where gram could not be factorised
};

struct Quantizer {
  std::string_view name;
  std::string_view description;  // one line for --help and the documentation
  bool needs_calibration;
  /// w [out, in], finite. statistics: null where the row needs no calibration. `report` is filled
  /// in.
  QMatrix (*quantize)(View<const float, 2> w, const InputStatistics* statistics, const Grid& grid,
                      const QuantOptions& options, Context& context, LinearReport& report);
};

[[nodiscard]] std::span<const Quantizer> Quantizers() noexcept;
/// Throws Error naming the rows there are.
[[nodiscard]] const Quantizer& FindQuantizer(std::string_view name);

}  // namespace lieq
