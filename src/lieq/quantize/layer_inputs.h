// What every driver of a quantizer does first: widen a linear, and refuse what is not finite.
#pragma once

#include <string>

#include "lieq/base/context.h"
#include "lieq/device/sums.h"
#include "lieq/model/config.h"
#include "lieq/quantize/linear_floats.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {

/// "layer 3, down"
[[nodiscard]] std::string LinearPlace(Index layer, std::string_view linear);

/// The weights of a linear as floats [out, in]. Throws Error naming the first one that is not
/// finite.
[[nodiscard]] Matrix<float> WidenedWeights(const AnyMatrix& weight, Index layer, Site site,
                                           Context& context);

/// The same for a solver: where the device rounds, those that it holds as `placed` [out, in], which
/// outlives what is returned; else, and where one is not finite, widened into `host`, which does
/// too. placed may be null.
[[nodiscard]] LinearFloats FloatsOf(const AnyMatrix& weight, const PreparedMatrix* placed,
                                    Device& device, Index layer, Site site, Matrix<float>& host,
                                    Context& context);

/// gram: lower triangle of xᵀx [in, in]. Throws Error naming the first channel whose sum of squares
/// is not finite.
void RequireFiniteGram(const Sums<double>& gram, Index layer, Unit unit);

}  // namespace lieq
