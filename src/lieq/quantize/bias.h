// Biases that take over the constant part of a linear's output error.
#pragma once

#include <span>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/quantize/options.h"
#include "lieq/quantize/unit_statistics.h"
#include "lieq/tensor/dtype.h"
#include "lieq/tensor/qmatrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

struct BiasedLinear {
  View<const float, 2> w;       // [out, in]
  const QMatrix& q;             // its final codes
  std::span<const float> bias;  // [out]
  DType type;                   // that biases are stored in
};

/// The bias of each row plus the mean over the fitted tokens of W x - Q u, of which
/// W (x - u) counts by options.drift and r - r_u, where it was followed, by options.residual, as in
/// the target of the codes (target.h). Rounded as it will be stored; and kept as it was in every
/// row whose error |W x + b + r - (Q u + b' + r_u)|² on the held-out tokens (the fitted ones where
/// there are none) does not fall: b' - b = d changes it by n d² - 2 d m, m the sum of the output
/// errors.
///
/// measured.fit.sums and, where windows are held out, measured.held_out.sums are filled. [out]
[[nodiscard]] std::vector<float> CorrectedBias(const BiasedLinear& linear,
                                               const CalibrationStatistics& measured,
                                               const QuantOptions& options, Context& context,
                                               LinearReport& report);

}  // namespace lieq
