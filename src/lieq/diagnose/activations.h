// What a layer does to the residual stream, from its states before and after.
#pragma once

#include <optional>

#include "lieq/base/context.h"
#include "lieq/tensor/view.h"

namespace lieq {

struct ActivationMeasures {
  /// 1 - mean over tokens of cos(x, y): 0 where the layer only scales its input (Men et al.,
  /// "ShortGPT", arXiv:2403.03853). A token of zeros on one side has cosine 0, on both sides 1.
  double block_influence = 0;
  /// Largest |y|: massive activations are some hundred times the median and more (Sun et al.,
  /// "Massive activations in large language models", arXiv:2402.17762).
  double largest = 0;
  std::optional<double> ratio;  // largest over the median of all |y|; none where that is 0
};

/// before, after [tokens, hidden]: x and y, the residual stream before and after the layer; tokens
/// >= 1. Sums in double, by blocks of rows in order: the same bits for any number of threads.
/// Throws Error naming the layer where a value of `after` is not finite.
[[nodiscard]] ActivationMeasures MeasureActivations(View<const float, 2> before,
                                                    View<const float, 2> after, Index layer,
                                                    Context& context);

}  // namespace lieq
