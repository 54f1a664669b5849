// How much each input channel of each unit matters: the mean square of what comes in.
#pragma once

#include <array>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/model/weights.h"

namespace lieq {

class Device;

/// An importance matrix in the words of llama.cpp, where quantizers take it for the diagonal of the
/// Hessian of a linear's output.
struct Importance {
  Index tokens = 0;
  /// [layer][unit][in]: sums over the tokens of x².
  std::vector<std::array<std::vector<double>, kUnits>> squares;
};

/// Runs the model on windows [windows, length] of tokens. Throws Error naming the layer, the unit
/// and the channel whose sum is not finite.
[[nodiscard]] Importance MeasureImportance(const Weights& weights, Device& device,
                                           View<const TokenId, 2> windows, Context& context);

}  // namespace lieq
