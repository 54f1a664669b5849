// Refits of K-quant grids in the metric of the layer loss, factors of scales and minima included.
#pragma once

#include <functional>
#include <vector>

#include "lieq/quantize/code_block.h"
#include "lieq/quantize/gptq.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// What refinement holds of some rows of a matrix, changed in place.
struct SuperRefitState {
  View<const float, 2> h;                  // [n, n]
  const std::vector<GptqFactor>& factors;  // of h inside each group; empty ones: left alone
  CodeBlock& block;
  View<const float, 2> gradient;  // [kSuperColumns, padded rows]: of the block's columns
  float* gains;                   // [padded rows]: what is gained is added
  /// Q gains change [width, padded rows] in the columns from `begin` on.
  std::function<void(View<const float, 2> change, Index begin)> apply;
};

/// A change c of some columns of a row changes its loss by -2 G cᵀ + c H cᵀ, G the gradient there:
/// every step is judged by the levels that it really gives, and taken where the loss falls.
///
/// - factors: a group's scale and minimum factors move by a few steps, with the codes there are and
///   with those that error feedback inside the group makes of its local target q + G H⁻¹;
/// - d and dmin of a super-block by least squares given codes and factors, then as they are stored.
class SuperRefit {
 public:
  explicit SuperRefit(SuperRefitState state) : s_(std::move(state)) {}

  /// A super-block and its groups once. search: new codes too, not the factors alone.
  void Run(Index super_block, bool search);

 private:
  struct Step {
    int scale = 0, minimum = 0;
    bool mirror = false;  // the other sign of the scale, where it has one
  };

  [[nodiscard]] const KQuant& kind() const noexcept { return KQuantOf(s_.block.grid()); }
  [[nodiscard]] SuperBlock Stepped(SuperBlock super, std::size_t group, const Step& step) const;
  void MoveFactors(Index block, Index group_in_block, bool search);
  void RefitBlock(Index block);

  SuperRefitState s_;
};

}  // namespace lieq
