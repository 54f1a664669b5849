#include "lieq/quantize/local_group.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lieq/base/assert.h"

namespace lieq {

double LevelSums::Loss(const GroupFit& fit) const {
  const auto s = static_cast<double>(fit.scale), m = static_cast<double>(fit.minimum);
  return tt - 2 * (s * ct + m * t1) + s * s * cc + 2 * s * m * c1 + m * m * one;
}

double LevelSums::Scale(double zero) const {
  const double curvature = cc - 2 * zero * c1 + zero * zero * one;
  return curvature > 1e-9 * cc ? (ct - zero * t1) / curvature : 0;
}

GroupFit FitToCodes(const LevelSums& sums, const Grid& grid, const GroupFit& now) {
  GroupFit best = now;
  double loss = sums.Loss(now);
  const auto attempt = [&](const GroupFit& fit) {
    if (!std::isfinite(fit.scale) || !std::isfinite(fit.minimum)) return;
    const double found = sums.Loss(fit);
    if (!(found < loss)) return;
    loss = found;
    best = fit;
  };
  const auto at_zero = [&](double zero) {
    const double scale = sums.Scale(zero);
    if (scale == 0) return;
    attempt(GroupFit::AtZero(RoundScale(static_cast<float>(scale)), static_cast<float>(zero)));
  };
  switch (grid.offset) {
    case Offset::kSymmetric:
    case Offset::kHalf:
      at_zero(static_cast<double>(grid.shared_zero()));
      break;
    case Offset::kInteger: {
      const int top = grid.levels() - 1, zero = now.zero();
      const int reach = grid.bits <= 3 ? top : 1;
      for (int z = std::max(0, zero - reach); z <= std::min(top, zero + reach); ++z) at_zero(z);
      break;
    }
    case Offset::kFloat: {
      const double determinant = sums.cc * sums.one - sums.c1 * sums.c1;
      auto scale = static_cast<double>(now.scale);
      if (determinant > 1e-9 * sums.cc * sums.one) {
        scale = (sums.ct * sums.one - sums.t1 * sums.c1) / determinant;
      }
      if (scale == 0) break;
      const float stored = RoundScale(static_cast<float>(scale));
      const double minimum = (sums.t1 - static_cast<double>(stored) * sums.c1) / sums.one;
      attempt({stored, RoundMinimum(static_cast<float>(minimum))});
      break;
    }
  }
  return best;
}

LocalGroup::LocalGroup(const GptqFactor& factor, const CodeBlock& block, Index group,
                       View<const float, 2> gradient)
    : factor_(factor),
      codes_(block.group_columns(), block.padded()),
      levels_(block.group_columns(), block.padded()),
      target_(block.group_columns(), block.padded()),
      loss_(1, block.padded()) {
  const Index columns = width(), begin = group * columns;
  LIEQ_ASSERT(static_cast<Index>(factor.order.size()) == columns && gradient.rows() == columns);
  for (Matrix<float>& each : scratch_) each = Matrix<float>(columns, padded());
  const GridLines lines = block.Lines(group);
  for (Index k = 0; k < columns; ++k) {
    std::ranges::copy(block.codes.view().Row(begin + k), codes_.view().Row(k).begin());
    LevelsOf(codes_.view().Row(k).data(), lines, padded(), levels_.view().Row(k).data());
  }
  for (Index p = 0; p < columns; ++p) {
    std::ranges::copy(gradient.Row(factor.order[Size(p)]), target_.view().Row(p).begin());
  }
  const float* feedback = factor.feedback.data();
  SolveForward(feedback, columns, columns, target_.data(), padded());
  for (Index p = 0; p < columns; ++p) {
    const float inverse = 1 / factor.pivots[Size(p)];
    for (Index r = 0; r < padded(); ++r) {
      const float white = target_(p, r) * inverse;
      loss_(0, r) += white * white;
      target_(p, r) = white * inverse;
    }
  }
  SolveBackward(feedback, columns, columns, target_.data(), padded());
  for (Index p = 0; p < columns; ++p) {
    const float* level = levels_.view().Row(factor.order[Size(p)]).data();
    for (Index r = 0; r < padded(); ++r) target_(p, r) += level[r];
  }
}

Matrix<float> LocalGroup::ChangeTo(const Matrix<std::uint8_t>& codes,
                                   const GridLines& lines) const {
  Matrix<float> change(width(), padded());
  for (Index k = 0; k < width(); ++k) {
    float* to = change.view().Row(k).data();
    LevelsOf(codes.view().Row(k).data(), lines, padded(), to);
    for (Index r = 0; r < padded(); ++r) to[r] -= levels_(k, r);
  }
  return change;
}

void LocalGroup::Round(const GridLines& lines, Matrix<std::uint8_t>& codes, float* losses) {
  for (Matrix<float>& each : scratch_) std::copy_n(target_.data(), target_.size(), each.data());
  RoundWithFeedback(factor_.feedback.data(), width(), factor_.pivots.data(), factor_.order.data(),
                    lines, width(), padded(), scratch_[0].data(), scratch_[1].data(), codes.data(),
                    losses);
}

void LocalGroup::LossOf(const Matrix<std::uint8_t>& codes, const GridLines& lines, float* losses) {
  for (Index p = 0; p < width(); ++p) {
    float* miss = scratch_[0].view().Row(p).data();
    LevelsOf(codes.view().Row(factor_.order[Size(p)]).data(), lines, padded(), miss);
    const float* target = target_.view().Row(p).data();
    for (Index r = 0; r < padded(); ++r) miss[r] = target[r] - miss[r];
  }
  Whiten();
  std::fill_n(losses, padded(), 0.0f);
  for (Index p = 0; p < width(); ++p) {
    const float* white = scratch_[1].view().Row(p).data();
    for (Index r = 0; r < padded(); ++r) losses[r] += white[r] * white[r];
  }
}

void LocalGroup::Whiten() {
  MultiplyTransposed(factor_.feedback.data(), width(), width(), scratch_[0].data(), padded(),
                     scratch_[1].data());
  for (Index p = 0; p < width(); ++p) {
    for (float& value : scratch_[1].view().Row(p)) value *= factor_.pivots[Size(p)];
  }
}

std::vector<LevelSums> LocalGroup::SumsOf(const Matrix<std::uint8_t>& codes, Index rows) {
  if (white_.size() == 0) {
    std::copy_n(target_.data(), target_.size(), scratch_[0].data());
    Whiten();
    white_ = scratch_[1].Clone();
  }
  for (Index p = 0; p < width(); ++p) {
    const auto code = codes.view().Row(factor_.order[Size(p)]);
    std::ranges::copy(code, scratch_[0].view().Row(p).begin());
  }
  Whiten();
  std::vector<LevelSums> sums(Size(rows));
  for (Index p = 0; p < width(); ++p) {
    double one = 1;  // of column p of 1 F D^(1/2)
    for (Index j = p + 1; j < width(); ++j) one += static_cast<double>(factor_.feedback(j, p));
    one *= static_cast<double>(factor_.pivots[Size(p)]);
    for (Index r = 0; r < rows; ++r) {
      const auto c = static_cast<double>(scratch_[1](p, r)), t = static_cast<double>(white_(p, r));
      LevelSums& sum = sums[Size(r)];
      sum.cc += c * c;
      sum.c1 += c * one;
      sum.one += one * one;
      sum.ct += c * t;
      sum.t1 += one * t;
      sum.tt += t * t;
    }
  }
  return sums;
}

}  // namespace lieq
