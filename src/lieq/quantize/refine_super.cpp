#include "lieq/quantize/refine_super.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

/// A gain smaller than this share of what the loss adds up may be rounding.
constexpr double kLeastGain = 1e-9;

/// Steps of factors that are tried beside 0: factors of 6 bits lie closer than those of 4.
std::vector<int> StepSizes(const KQuant& kind) {
  return kind.scale_bits > 4 ? std::vector{1, 3} : std::vector{1};
}

}  // namespace

SuperBlock SuperRefit::Stepped(SuperBlock super, std::size_t group, const Step& step) const {
  const int scale = step.mirror ? -super.scales[group] : super.scales[group];
  super.scales[group] = static_cast<std::int8_t>(MovedScale(scale, step.scale, s_.kind));
  if (s_.kind.has_minima()) {
    super.minima[group] =
        static_cast<std::uint8_t>(MovedMinimum(super.minima[group], step.minimum, s_.kind));
  }
  return super;
}

void SuperRefit::Run(bool search) {
  for (Index block = 0; block < supers(); ++block) {
    RefitBlock(block);
    for (Index g = 0; g < groups(); ++g) MoveFactors(block, g, search);
    RefitBlock(block);
  }
}

void SuperRefit::MoveFactors(Index block, Index group_in_block, bool search) {
  const Index rows = s_.rows, width = s_.kind.grid.group_size;
  const Index group = block * groups() + group_in_block, begin = group * width;
  const View<const double, 2> h = s_.h.Rows(begin, width).Cols(begin, width);
  const int levels = s_.kind.grid.levels();
  search = search && !s_.factors[Size(group)].order.empty();

  // Columns by rows, so that rows are the fast index: levels there are and the gradient.
  Matrix<double> q(width, rows), gradient(width, rows), target(rows, width);
  for (Index r = 0; r < rows; ++r) {
    for (Index k = 0; k < width; ++k) {
      q(k, r) = Fit(r, group).Level(s_.codes(begin + k, r));
      gradient(k, r) = target(r, k) = s_.gradient(r, begin + k);
    }
  }
  if (search) {
    DivideByGram(target.view(), s_.factors[Size(group)]);
    for (Index r = 0; r < rows; ++r) {
      for (Index k = 0; k < width; ++k) target(r, k) += q(k, r);
    }
  }

  std::vector<GroupFit> fits(Size(rows));
  std::vector<SuperBlock> stepped(Size(rows)), best(Size(rows));
  std::vector<double> best_loss(Size(rows), 0.0), linear(Size(rows)), square(Size(rows)),
      sum(Size(rows));
  Matrix<std::uint8_t> codes(width, rows), best_codes(width, rows);
  Matrix<double> change(width, rows), best_change(width, rows);
  bool any = false;
  const auto judge = [&] {
    std::ranges::fill(linear, 0.0);
    std::ranges::fill(square, 0.0);
    for (Index i = 0; i < width; ++i) {
      for (Index r = 0; r < rows; ++r) {
        change(i, r) = fits[Size(r)].Level(codes(i, r)) - q(i, r);
        linear[Size(r)] += gradient(i, r) * change(i, r);
        sum[Size(r)] = 0.5 * h(i, i) * change(i, r);
      }
      for (Index j = 0; j < i; ++j) {
        const double coupling = h(i, j);
        const double* other = change.view().Row(j).data();
        for (Index r = 0; r < rows; ++r) sum[Size(r)] += coupling * other[r];
      }
      for (Index r = 0; r < rows; ++r) square[Size(r)] += 2 * sum[Size(r)] * change(i, r);
    }
    for (Index r = 0; r < rows; ++r) {
      const double loss = square[Size(r)] - 2 * linear[Size(r)];
      const double size = square[Size(r)] + 2 * std::fabs(linear[Size(r)]);
      if (!(loss < best_loss[Size(r)] - kLeastGain * size)) continue;
      best_loss[Size(r)] = loss;
      best[Size(r)] = stepped[Size(r)];
      any = true;
      for (Index k = 0; k < width; ++k) {
        best_codes(k, r) = codes(k, r);
        best_change(k, r) = change(k, r);
      }
    }
  };
  const auto attempt = [&](const Step& step) {
    for (Index r = 0; r < rows; ++r) {
      stepped[Size(r)] = Stepped(Super(r, block), Size(group_in_block), step);
      fits[Size(r)] = FitOf(stepped[Size(r)], Size(group_in_block), s_.kind);
    }
    if (search) {
      RoundWithFeedback(target.view(), s_.factors[Size(group)], fits, levels, codes);
      judge();
    }
    if (step.mirror) return;
    for (Index k = 0; k < width; ++k) {
      for (Index r = 0; r < rows; ++r) codes(k, r) = s_.codes(begin + k, r);
    }
    judge();
  };
  attempt({});
  for (const int size : StepSizes(s_.kind)) {
    for (const int scale : {0, -size, size}) {
      for (const int minimum : {0, -size, size}) {
        if ((minimum != 0 && !s_.kind.has_minima()) || (scale == 0 && minimum == 0)) continue;
        attempt({.scale = scale, .minimum = minimum});
      }
    }
  }
  if (s_.kind.least_scale() < 0) attempt({.mirror = true});
  if (!any) return;

  Matrix<double> by_row(rows, width);
  for (Index r = 0; r < rows; ++r) {
    if (!(best_loss[Size(r)] < 0)) continue;
    Super(r, block) = best[Size(r)];
    Fit(r, group) = FitOf(best[Size(r)], Size(group_in_block), s_.kind);
    for (Index k = 0; k < width; ++k) {
      s_.codes(begin + k, r) = best_codes(k, r);
      by_row(r, k) = best_change(k, r);
    }
  }
  s_.apply(by_row.view(), begin);
}

void SuperRefit::RefitBlock(Index block) {
  const Index rows = s_.rows, width = s_.kind.grid.group_size, begin = block * kSuperColumns;
  const View<const double, 2> h = s_.h.Rows(begin, kSuperColumns).Cols(begin, kSuperColumns);
  const bool minima = s_.kind.has_minima();
  const double zero = minima ? 0 : s_.kind.grid.middle();

  // A weight is d a + dmin b.
  Matrix<double> a(rows, kSuperColumns), b(rows, kSuperColumns), ah(rows, kSuperColumns),
      bh(rows, kSuperColumns);
  for (Index r = 0; r < rows; ++r) {
    for (Index k = 0; k < kSuperColumns; ++k) {
      const auto g = Size(k / width);
      a(r, k) = Super(r, block).scales[g] * (s_.codes(begin + k, r) - zero);
      b(r, k) = -static_cast<double>(Super(r, block).minima[g]);
    }
  }
  Gemm(1.0, a.view(), Transpose::kNo, h, Transpose::kNo, 0.0, ah.view());
  if (minima) Gemm(1.0, b.view(), Transpose::kNo, h, Transpose::kNo, 0.0, bh.view());

  std::vector<SuperBlock> refitted(Size(rows));
  Matrix<double> change(rows, kSuperColumns), product(rows, kSuperColumns);
  for (Index r = 0; r < rows; ++r) {
    double aa = 0, ab = 0, bb = 0, ag = 0, bg = 0;
    for (Index k = 0; k < kSuperColumns; ++k) {
      aa += a(r, k) * ah(r, k);
      ag += a(r, k) * s_.gradient(r, begin + k);
      if (!minima) continue;
      ab += b(r, k) * ah(r, k);
      bb += b(r, k) * bh(r, k);
      bg += b(r, k) * s_.gradient(r, begin + k);
    }
    SuperBlock super = Super(r, block);
    const auto d = static_cast<double>(super.d), dmin = static_cast<double>(super.dmin);
    const double determinant = aa * bb - ab * ab;
    if (determinant > 1e-12 * aa * bb) {
      super.d = RoundSuperScale(d + (ag * bb - bg * ab) / determinant);
    } else if (aa > 0) {
      super.d = RoundSuperScale(d + ag / aa);
    }
    if (bb > 0) {
      super.dmin = RoundSuperMinimum(dmin + (bg - (static_cast<double>(super.d) - d) * ab) / bb);
    }
    refitted[Size(r)] = super;
    for (Index k = 0; k < kSuperColumns; ++k) {
      const Index group = k / width;
      const int code = s_.codes(begin + k, r);
      change(r, k) = FitOf(super, Size(group), s_.kind).Level(code) -
                     Fit(r, block * groups() + group).Level(code);
    }
  }
  Gemm(1.0, change.view(), Transpose::kNo, h, Transpose::kNo, 0.0, product.view());
  bool any = false;
  for (Index r = 0; r < rows; ++r) {
    double linear = 0, square = 0;
    for (Index k = 0; k < kSuperColumns; ++k) {
      linear += change(r, k) * s_.gradient(r, begin + k);
      square += change(r, k) * product(r, k);
    }
    if (square - 2 * linear < -kLeastGain * (square + 2 * std::fabs(linear))) {
      any = true;
      Super(r, block) = refitted[Size(r)];
      for (Index g = 0; g < groups(); ++g) {
        Fit(r, block * groups() + g) = FitOf(refitted[Size(r)], Size(g), s_.kind);
      }
    } else {
      for (Index k = 0; k < kSuperColumns; ++k) change(r, k) = 0;
    }
  }
  if (any) s_.apply(change.view(), begin);
}

}  // namespace lieq
