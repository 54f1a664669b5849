#include "lieq/quantize/scale_range.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "lieq/quantize/grid_fit.h"

namespace lieq {
namespace {

constexpr float kMostWeight = 0x1.0p15f;  // minima may be as large as weights
constexpr float kMostScale = 65280.0f;    // by RoundScale
constexpr double kSeenShare = 0.01;

// f16's step is 2^-24 at its lower end. The more levels, the finer a scale must be: what its
// rounding moves the outermost level by is to be a small part of a step.
float LeastFineScale(const Grid& grid) noexcept {
  return std::min(0x1.0p-17f, std::ldexp(static_cast<float>(grid.levels()), -24));
}

/// Of the scale that the largest weight of a matrix wants: where it is above this, groups that are
/// too small for f16 are so small that nothing is seen of what they lose.
float LeastTopScale(const Grid& grid) noexcept {
  return std::min(0x1.0p-14f, std::ldexp(static_cast<float>(grid.levels()), -20));
}

/// Scales and minima; exact where float holds the products.
void MultiplyByPower(QMatrix& q, int power) noexcept {
  const auto multiply = [&](View<float, 2> numbers) {
    for (Index r = 0; r < numbers.rows(); ++r) {
      for (float& number : numbers.Row(r)) number = std::ldexp(number, power);
    }
  };
  multiply(q.scales());
  multiply(q.minima());
}

float LargestSize(View<const float, 2> w) noexcept {
  float most = 0;
  for (Index r = 0; r < w.rows(); ++r) {
    for (const float value : w.Row(r)) most = std::max(most, std::fabs(value));
  }
  return most;
}

/// The power of two that brings the largest weight to 0.5 ... 1.
int PowerToOne(float most) noexcept {
  return -1 - std::ilogb(most);
}

/// PowerFor of weights whose largest is known.
int PowerOf(float most, const Grid& grid) noexcept {
  if (grid.k_quant || !(most > 0)) return 0;
  const bool fine = most >= LeastTopScale(grid) * static_cast<float>(grid.middle());
  return fine && most <= kMostWeight ? 0 : PowerToOne(most);
}

/// Whether f16 has few bits or none for the numbers of a group.
bool IsCoarse(const QMatrix& q, Index row, Index group) noexcept {
  const float fine = LeastFineScale(q.grid());
  if (q.grid().k_quant) {
    const SuperBlock& super = q.Super(row, group * q.group_columns() / kSuperColumns);
    return super.d < fine || super.d > kMostScale || super.dmin > kMostScale;
  }
  const float scale = std::fabs(q.scales()(row, group));
  const bool offset = q.grid().offset == Offset::kFloat;
  return scale < fine || scale >= kMostScale ||
         (offset && std::fabs(q.minima()(row, group)) >= kMostScale);
}

}  // namespace

bool HasWideScales(const Weights& weights, const QuantOptions& options) noexcept {
  // Scales take the type of the model's floats (ScaleType), which is that of the embedding.
  return HasWideScales(weights.embedding, options);
}

bool HasWideScales(const AnyMatrix& matrix, const QuantOptions& options) noexcept {
  return !options.half_scales && (std::holds_alternative<View<const Bf16, 2>>(matrix) ||
                                  std::holds_alternative<View<const float, 2>>(matrix));
}

int PowerFor(View<const float, 2> w, const Grid& grid) noexcept {
  return PowerOf(LargestSize(w), grid);
}

double CoarseShare(View<const float, 2> w, const QMatrix& q) {
  double coarse = 0, all = 0;
  for (Index r = 0; r < q.rows(); ++r) {
    for (Index g = 0; g < q.groups(); ++g) {
      double squares = 0;
      for (const float value :
           w.Row(r).subspan(Size(g * q.group_columns()), Size(q.group_columns()))) {
        squares += static_cast<double>(value) * static_cast<double>(value);
      }
      all += squares;
      if (IsCoarse(q, r, g)) coarse += squares;
    }
  }
  return coarse > kSeenShare * all ? coarse / all : 0;
}

QMatrix QuantizeInRange(
    const LinearFloats& weights, const Grid& grid, bool wide, LinearReport& report,
    const std::function<QMatrix(const LinearFloats& w, double multiple)>& quantize) {
  const auto largest = [&] {
    return weights.largest() ? *weights.largest() : LargestSize(weights.host());
  };
  int power = wide ? PowerOf(largest(), grid) : 0;
  if (power == 0) {
    QMatrix q = quantize(weights, 1);
    bool any = false;
    for (Index r = 0; r < q.rows() && !any; ++r) {
      for (Index g = 0; g < q.groups() && !any; ++g) any = IsCoarse(q, r, g);
    }
    if (any) report.coarse_scales = CoarseShare(weights.host(), q);
    if (report.coarse_scales == 0 || !wide || grid.k_quant) return q;
    // One weight was large enough, and the others are not: bf16 has room for them.
    report = {};
    power = PowerToOne(largest());
  }
  const View<const float, 2> w = weights.host();
  Matrix<float> multiple(w.rows(), w.cols());
  for (Index r = 0; r < w.rows(); ++r) {
    std::ranges::transform(w.Row(r), multiple.view().Row(r).begin(),
                           [&](float value) { return std::ldexp(value, power); });
  }
  QMatrix q = quantize(multiple.view(), std::ldexp(1.0, power));
  MultiplyByPower(q, -power);
  for (double* squared : {&report.error, &report.signal, &report.start_error,
                          &report.held_out_start, &report.held_out}) {
    *squared = std::ldexp(*squared, -2 * power);
  }
  return q;
}

}  // namespace lieq
