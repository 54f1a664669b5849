// The table of quantizers. To add one: a file with its function, and one row in quantizers.cpp.
#pragma once

#include <span>
#include <string_view>

#include "lieq/base/context.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/unit_statistics.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// What calibration tells about the input of a unit, and the factorisation that its linears share.
struct InputStatistics {
  const UnitStatistics* fit = nullptr;
  const UnitStatistics* held_out = nullptr;  // null where nothing is held out
  GptqFactor factor;  // of fit->gram; its order is empty where that could not be factorised
  Matrix<double> h;   // fit->gram plus the factor's damping, both triangles; where rounds > 0
  double residual_scale = 1;  // of weights that are a multiple of the model's: this one
};

/// Factorises, with whatever damping that takes. options: after WithDefaults.
[[nodiscard]] InputStatistics Prepare(const UnitStatistics& fit, const UnitStatistics* held_out,
                                      const Grid& grid, const QuantOptions& options);

struct Quantizer {
  std::string_view name;
  std::string_view description;  // one line for --help and the documentation
  bool needs_calibration;
  std::string_view transform;  // of the model that comes before (transform/); empty: none
  // Where the options say nothing:
  Strength drift, residual;
  int rounds;
  /// w [out, in], finite. statistics: null where the row needs no calibration. options: after
  /// WithDefaults. `report` is filled in.
  QMatrix (*quantize)(View<const float, 2> w, const InputStatistics* statistics, const Grid& grid,
                      const QuantOptions& options, Context& context, LinearReport& report);
};

[[nodiscard]] std::span<const Quantizer> Quantizers() noexcept;
/// Throws Error naming the rows there are.
[[nodiscard]] const Quantizer& FindQuantizer(std::string_view name);
/// The options with the method's own values where they say nothing.
[[nodiscard]] QuantOptions WithDefaults(QuantOptions options);

}  // namespace lieq
