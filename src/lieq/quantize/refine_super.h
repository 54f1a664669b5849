// Refits of K-quant grids in the metric of the layer loss, factors of scales and minima included.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lieq/quantize/gptq.h"
#include "lieq/quantize/kquant_fit.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// What refinement holds of some rows of a matrix, changed in place.
struct SuperRefitState {
  const KQuant& kind;
  View<const double, 2> h;                 // [n, n]
  const std::vector<GptqFactor>& factors;  // of h inside each group; empty ones: no new codes
  Index rows = 0;
  Matrix<std::uint8_t>& codes;      // [n, rows]
  std::vector<GroupFit>& fits;      // [rows, groups], those of `supers`
  std::vector<SuperBlock>& supers;  // [rows, super-blocks]
  View<const double, 2> gradient;   // [rows, n]: (target - Q) h, kept by `apply`
  /// Q gains change [rows, width] in the columns from `begin` on.
  std::function<void(View<const double, 2> change, Index begin)> apply;
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

  /// All groups and super-blocks once. search: new codes too, not the factors alone.
  void Run(bool search);

 private:
  struct Step {
    int scale = 0, minimum = 0;
    bool mirror = false;  // the other sign of the scale, where it has one
  };

  [[nodiscard]] Index groups() const noexcept { return s_.kind.groups(); }
  [[nodiscard]] Index supers() const noexcept { return s_.h.rows() / kSuperColumns; }
  SuperBlock& Super(Index row, Index block) { return s_.supers[Size(row * supers() + block)]; }
  GroupFit& Fit(Index row, Index group) { return s_.fits[Size(row * supers() * groups() + group)]; }
  [[nodiscard]] SuperBlock Stepped(SuperBlock super, std::size_t group, const Step& step) const;
  void MoveFactors(Index block, Index group_in_block, bool search);
  void RefitBlock(Index block);

  SuperRefitState s_;
};

}  // namespace lieq
