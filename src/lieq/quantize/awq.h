// Rounding to nearest on grids clipped by the output error they cause (AWQ, arXiv:2306.00978).
#pragma once

#include "lieq/quantize/quantizers.h"

namespace lieq {

/// The solver of the row awq. AWQ's scales are a transform of the model that comes before
/// (transform/); here is its other half, the clip search: each group's grid is that of least
/// e_g H_gg e_gᵀ among both of FitGroup, with equal and with H_jj as importance, and the min-max
/// grid at 1 down to 0.3 of its range in steps of 0.025. A row keeps what round to nearest
/// (QuantizeRtn) gives where e H eᵀ of the whole row is smaller so: no row is worse. Clip::kNone:
/// round to nearest.
[[nodiscard]] std::unique_ptr<UnitSolver> BeginAwq(CalibrationStatistics statistics,
                                                   const QuantOptions& options, Context& context);

}  // namespace lieq
