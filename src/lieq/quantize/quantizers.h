// The table of quantizers. To add one: a file with its solver, and one row in quantizers.cpp.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/quantize/linear_floats.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/unit_statistics.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Rounds the linears of one unit: what they share, a factorisation for one, it makes once. One on
/// another device keeps that there.
class UnitSolver {
 public:
  virtual ~UnitSolver() = default;
  /// What a device rounds better than the processor, it does there from now on: where it is part of
  /// what this solver does. It outlives the solver.
  virtual void RoundOn(Device& device) { (void)device; }
  /// w [out, in], finite. multiple: what power of two w is of the model's weights; sums of the
  /// residual stream are for those. `report` is filled in.
  [[nodiscard]] virtual QMatrix Quantize(const LinearFloats& w, const Grid& grid, double multiple,
                                         LinearReport& report) = 0;
};

struct Quantizer {
  std::string_view name;
  std::string_view description;  // one line for --help and the documentation
  bool needs_calibration;
  std::string_view transform;  // of the model that comes before (transform/); empty: none
  // Where the options say nothing:
  Strength drift, residual;
  int rounds;
  /// Takes the statistics over; those of a row that needs no calibration are empty. options: after
  /// WithDefaults; they and context outlive the solver.
  std::unique_ptr<UnitSolver> (*begin)(CalibrationStatistics statistics,
                                       const QuantOptions& options, Context& context);
  bool calibrates_ends =
      false;  // embedding and head too (ends.h); else these are rounded to nearest
};

[[nodiscard]] std::span<const Quantizer> Quantizers() noexcept;
/// Throws Error naming the rows there are.
[[nodiscard]] const Quantizer& FindQuantizer(std::string_view name);
/// The options with the method's own values where they say nothing.
[[nodiscard]] QuantOptions WithDefaults(QuantOptions options);

}  // namespace lieq
