// A group of columns as a small problem of its own: what the rest of the rows leaves to it.
#pragma once

#include <array>
#include <vector>

#include "lieq/quantize/code_block.h"
#include "lieq/quantize/gptq.h"

namespace lieq {

/// Scales and offsets of one group, by row, beside those that a CodeBlock holds.
class GroupLines {
 public:
  GroupLines(Index padded, float top) : top_(top), values_(3, padded) {
    for (float& value : values_.view().Row(0)) value = 1;
    for (float& value : values_.view().Row(1)) value = 1;
  }
  void Set(Index row, const GroupFit& fit) {
    values_(0, row) = fit.scale;
    values_(1, row) = 1 / fit.scale;
    values_(2, row) = fit.minimum;
  }
  [[nodiscard]] GroupFit Fit(Index row) const { return {values_(0, row), values_(2, row)}; }
  [[nodiscard]] GridLines view() const {
    const auto row = [&](Index i) { return values_.view().Row(i).data(); };
    return {.scale = row(0), .inverse = row(1), .minimum = row(2), .top = top_};
  }

 private:
  float top_;
  Matrix<float> values_;  // scale, 1 / scale, minimum
};

/// A gain smaller than this share of the loss may be what float rounded (docs/numerics.md).
inline constexpr float kLeastGain = 1e-5f;

/// What the loss of a group is made of where its codes c are given: with the local target t, loss =
/// tHt - 2 (s cHt + m 1Ht) + s² cHc + 2 s m cH1 + m² 1H1 for levels s c + m.
struct LevelSums {
  double cc = 0, c1 = 0, one = 0, ct = 0, t1 = 0, tt = 0;

  [[nodiscard]] double Loss(const GroupFit& fit) const;
  /// The best scale where the minimum is -zero times it; 0 where there is none.
  [[nodiscard]] double Scale(double zero) const;
};

/// The best storable fit of a grid to given codes by these sums; `now` where none is better.
[[nodiscard]] GroupFit FitToCodes(const LevelSums& sums, const Grid& grid, const GroupFit& now);

/// With the gradient G = (W* - Q) H of the group's columns, its levels q and H inside the group,
/// the local target is t = q + G H⁻¹, and (t - levels) H (t - levels)ᵀ is the loss of any levels
/// less what the group cannot change. Losses are sums of squares in float: (t - levels) F D^(1/2),
/// of the group's factor.
///
/// All matrices [width, padded rows]; codes by the group's own columns.
class LocalGroup {
 public:
  /// factor: of H inside the group, not empty. gradient: rows of the group's columns.
  LocalGroup(const GptqFactor& factor, const CodeBlock& block, Index group,
             View<const float, 2> gradient);

  [[nodiscard]] Index width() const noexcept { return target_.rows(); }
  [[nodiscard]] Index padded() const noexcept { return target_.cols(); }
  /// Of the levels there are. [padded]
  [[nodiscard]] const float* loss() const noexcept { return loss_.data(); }
  [[nodiscard]] const Matrix<std::uint8_t>& codes() const noexcept { return codes_; }
  /// What other codes on other lines mean, less the levels there are. By column.
  [[nodiscard]] Matrix<float> ChangeTo(const Matrix<std::uint8_t>& codes,
                                       const GridLines& lines) const;

  /// Codes that error feedback inside the group makes of the local target on another grid.
  void Round(const GridLines& lines, Matrix<std::uint8_t>& codes, float* losses);
  /// What given codes mean on a grid.
  void LossOf(const Matrix<std::uint8_t>& codes, const GridLines& lines, float* losses);
  /// Sums of a row for each of `rows` rows.
  [[nodiscard]] std::vector<LevelSums> SumsOf(const Matrix<std::uint8_t>& codes, Index rows);

 private:
  /// scratch_[1] = D^(1/2) Fᵀ scratch_[0].
  void Whiten();

  const GptqFactor& factor_;
  Matrix<std::uint8_t> codes_;
  Matrix<float> levels_;  // by column
  Matrix<float> target_;  // by position
  Matrix<float> white_;   // D^(1/2) Fᵀ target, made when SumsOf is first called
  Matrix<float> loss_;    // [1, padded]
  std::array<Matrix<float>, 2> scratch_;
};

}  // namespace lieq
