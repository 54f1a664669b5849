// The matrices at both ends of a model, rounded by what calibration tells about their roles.
//
// An error e in a token's row changes the token's logit by e h for every input h of the head: that
// costs e G eᵀ, G = mean of hᵀh, as in any linear. Where the row is looked up it moves the residual
// stream by e. Which directions cost more there would take a way back through the model to tell,
// and there is none without gradients: all are taken as equal, |e|², which is nearest rounding. A
// tied matrix has both roles, so what is to be told is how the two compare:
//
//   H = G + c I,   c = (KL_lookup / mean of |e|²) / (KL_head / mean of e G eᵀ)
//
// with KL the divergence from the model where the matrix, rounded to nearest, stands in one of its
// two places alone, and means over the tokens of the text (what is looked up often is predicted
// often). One H serves every row, also those of tokens that the text has nowhere.
#pragma once

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/model/weights.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {

/// What the float model tells about its ends.
struct EndStatistics {
  Matrix<double> gram;  // [hidden, hidden], lower triangle of the sum of hᵀh
  Index tokens = 0;
  double lookup = 0;  // c; 0 of a head that is not tied
};

/// Windows of so many that MeasureEnds runs, and how many of these at once.
[[nodiscard]] Index EndWindows(Index windows, Index length) noexcept;
[[nodiscard]] Index EndBatch(const ModelConfig& config, Index windows, Index length) noexcept;

/// Measures the float model on some of the windows, 2^15 tokens or one window at most, evenly
/// chosen: by one pass, or by two where the head is tied. windows [windows, length >= 1]. Throws
/// Error where inputs of the head are not finite.
[[nodiscard]] EndStatistics MeasureEnds(const Weights& weights, Device& device,
                                        View<const TokenId, 2> windows, Context& context);

/// Floats that QuantizeEnd widens at a time.
inline constexpr Index kEndBlockFloats = Index{1} << 23;

/// Rounds an end, some thousand rows at a time. matrix: finite. statistics: null: to nearest.
/// Errors and signals of the report are in the metric of H, and sums of squares where it is rounded
/// to nearest. Rows of zeros stay so. Same bytes for any number of threads.
[[nodiscard]] QMatrix QuantizeEnd(const AnyMatrix& matrix, const Grid& grid,
                                  const EndStatistics* statistics, const QuantOptions& options,
                                  Context& context, LinearReport& report);

}  // namespace lieq
