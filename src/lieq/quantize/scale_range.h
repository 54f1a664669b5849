// Weights so small or so large that scales of f16 do not reach them.
//
// The same model may have gate and up 2^-12 times as large and a norm 2^12 times: what it loses by
// rounding must be the same. Scales by RoundScale have all their bits from 2^-17 to 65280; weights
// beyond are multiplied by a power of two, rounded, and their scales divided by it again, which is
// exact where scales are stored as bf16.
#pragma once

#include <functional>

#include "lieq/model/weights.h"
#include "lieq/quantize/linear_floats.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Whether the scales of a model's matrices may be any numbers of bf16: that is what they are
/// stored as, and no container of f16 is meant.
[[nodiscard]] bool HasWideScales(const Weights& weights, const QuantOptions& options) noexcept;
/// The same of one of its matrices of floats.
[[nodiscard]] bool HasWideScales(const AnyMatrix& matrix, const QuantOptions& options) noexcept;

/// The power of two to multiply `w` by; 0 where its scales have their bits as they are, and of
/// K-quant grids, whose scales are f16's wherever they are stored.
[[nodiscard]] int PowerFor(View<const float, 2> w, const Grid& grid) noexcept;

/// Share of the squared weights in groups whose scales f16 holds with too few bits, or that
/// are clamped to what it has. Below a hundredth it is 0: what is lost there is not seen in the
/// matrix.
[[nodiscard]] double CoarseShare(View<const float, 2> w, const QMatrix& q);

/// Rounds `w` by `quantize`, which is handed the weights and what they are multiplied by, and fills
/// in what `report` says of scales. wide: HasWideScales.
[[nodiscard]] QMatrix QuantizeInRange(
    const LinearFloats& w, const Grid& grid, bool wide, LinearReport& report,
    const std::function<QMatrix(const LinearFloats& w, double multiple)>& quantize);

}  // namespace lieq
