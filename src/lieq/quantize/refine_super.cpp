#include "lieq/quantize/refine_super.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lieq/linalg/linalg.h"
#include "lieq/quantize/kquant_fit.h"
#include "lieq/quantize/local_group.h"

namespace lieq {
namespace {

/// Steps of factors that are tried beside 0: factors of 6 bits lie closer than those of 4.
std::vector<int> StepSizes(const KQuant& kind) {
  return kind.scale_bits > 4 ? std::vector{1, 3} : std::vector{1};
}

}  // namespace

SuperBlock SuperRefit::Stepped(SuperBlock super, std::size_t group, const Step& step) const {
  const int scale = step.mirror ? -super.scales[group] : super.scales[group];
  super.scales[group] = static_cast<std::int8_t>(MovedScale(scale, step.scale, kind()));
  if (kind().has_minima()) {
    super.minima[group] =
        static_cast<std::uint8_t>(MovedMinimum(super.minima[group], step.minimum, kind()));
  }
  return super;
}

void SuperRefit::Run(Index super_block, bool search) {
  RefitBlock(super_block);
  for (Index g = 0; g < kind().groups(); ++g) MoveFactors(super_block, g, search);
  RefitBlock(super_block);
}

void SuperRefit::MoveFactors(Index block, Index group_in_block, bool search) {
  const Index width = kind().grid.group_size, rows = s_.block.rows(), padded = s_.block.padded();
  const Index group = block * kind().groups() + group_in_block, begin = group * width;
  if (s_.factors[Size(group)].order.empty()) return;
  LocalGroup local(s_.factors[Size(group)], s_.block, group,
                   s_.gradient.Rows(group_in_block * width, width));
  GroupLines tried(padded, static_cast<float>(kind().grid.levels() - 1));
  std::vector<SuperBlock> stepped(Size(rows)), best(Size(rows));
  std::vector<float> least(Size(rows));
  std::vector<bool> improved(Size(rows), false);
  Matrix<float> found(1, padded);
  Matrix<std::uint8_t> codes(width, padded), best_codes = local.codes().Clone();
  for (Index r = 0; r < rows; ++r) least[Size(r)] = local.loss()[r] * (1 - kLeastGain);
  const auto keep = [&](const Matrix<std::uint8_t>& from) {
    for (Index r = 0; r < rows; ++r) {
      if (!(found(0, r) < least[Size(r)])) continue;
      improved[Size(r)] = true;
      least[Size(r)] = found(0, r);
      best[Size(r)] = stepped[Size(r)];
      for (Index k = 0; k < width; ++k) best_codes(k, r) = from(k, r);
    }
  };
  const auto attempt = [&](const Step& step) {
    for (Index r = 0; r < rows; ++r) {
      stepped[Size(r)] = Stepped(s_.block.Super(r, block), Size(group_in_block), step);
      tried.Set(r, FitOf(stepped[Size(r)], Size(group_in_block), kind()));
    }
    if (search) {
      local.Round(tried.view(), codes, found.data());
      keep(codes);
    }
    if (step.mirror) return;
    local.LossOf(local.codes(), tried.view(), found.data());
    keep(local.codes());
  };
  attempt({});
  for (const int size : StepSizes(kind())) {
    for (const int scale : {0, -size, size}) {
      for (const int minimum : {0, -size, size}) {
        if ((minimum != 0 && !kind().has_minima()) || (scale == 0 && minimum == 0)) continue;
        attempt({.scale = scale, .minimum = minimum});
      }
    }
  }
  if (kind().least_scale() < 0) attempt({.mirror = true});
  if (std::ranges::find(improved, true) == improved.end()) return;

  for (Index r = 0; r < rows; ++r) {
    if (!improved[Size(r)]) continue;
    s_.gains[r] += local.loss()[r] - least[Size(r)];
    s_.block.SetSuper(r, block, best[Size(r)]);
  }
  for (Index k = 0; k < width; ++k) {
    std::ranges::copy(best_codes.view().Row(k), s_.block.codes.view().Row(begin + k).begin());
  }
  const Matrix<float> change = local.ChangeTo(best_codes, s_.block.Lines(group));
  s_.apply(change.view(), begin);
}

void SuperRefit::RefitBlock(Index block) {
  const Index rows = s_.block.rows(), padded = s_.block.padded(), width = kind().grid.group_size;
  const Index begin = block * kSuperColumns;
  const View<const float, 2> h = s_.h.Rows(begin, kSuperColumns).Cols(begin, kSuperColumns);
  const bool minima = kind().has_minima();
  const float zero = minima ? 0 : static_cast<float>(kind().grid.middle());

  // A weight is d a + dmin b.
  Matrix<float> a(kSuperColumns, padded), b(kSuperColumns, padded), ah(kSuperColumns, padded),
      bh(kSuperColumns, padded);
  for (Index r = 0; r < rows; ++r) {
    const SuperBlock& super = s_.block.Super(r, block);
    for (Index k = 0; k < kSuperColumns; ++k) {
      const auto g = Size(k / width);
      a(k, r) = static_cast<float>(super.scales[g]) *
                (static_cast<float>(s_.block.codes(begin + k, r)) - zero);
      b(k, r) = -static_cast<float>(super.minima[g]);
    }
  }
  Gemm(1.0f, h, Transpose::kNo, a.view(), Transpose::kNo, 0.0f, ah.view());
  if (minima) Gemm(1.0f, h, Transpose::kNo, b.view(), Transpose::kNo, 0.0f, bh.view());

  std::vector<SuperBlock> refitted(Size(rows));
  Matrix<float> change(kSuperColumns, padded), product(kSuperColumns, padded);
  for (Index r = 0; r < rows; ++r) {
    double aa = 0, ab = 0, bb = 0, ag = 0, bg = 0;
    for (Index k = 0; k < kSuperColumns; ++k) {
      const auto here = static_cast<double>(a(k, r)),
                 slope = static_cast<double>(s_.gradient(k, r));
      aa += here * static_cast<double>(ah(k, r));
      ag += here * slope;
      if (!minima) continue;
      const auto below = static_cast<double>(b(k, r));
      ab += below * static_cast<double>(ah(k, r));
      bb += below * static_cast<double>(bh(k, r));
      bg += below * slope;
    }
    SuperBlock super = s_.block.Super(r, block);
    const auto d = static_cast<double>(super.d), dmin = static_cast<double>(super.dmin);
    const double determinant = aa * bb - ab * ab;
    if (determinant > 1e-9 * aa * bb) {
      super.d = RoundSuperScale(d + (ag * bb - bg * ab) / determinant);
    } else if (aa > 0) {
      super.d = RoundSuperScale(d + ag / aa);
    }
    if (bb > 0) {
      super.dmin = RoundSuperMinimum(dmin + (bg - (static_cast<double>(super.d) - d) * ab) / bb);
    }
    refitted[Size(r)] = super;
    for (Index k = 0; k < kSuperColumns; ++k) {
      const int code = s_.block.codes(begin + k, r);
      const Index group = block * kind().groups() + k / width;
      change(k, r) = static_cast<float>(FitOf(super, Size(k / width), kind()).Level(code) -
                                        s_.block.Fit(r, group).Level(code));
    }
  }
  Gemm(1.0f, h, Transpose::kNo, change.view(), Transpose::kNo, 0.0f, product.view());
  bool any = false;
  for (Index r = 0; r < rows; ++r) {
    double linear = 0, square = 0;
    for (Index k = 0; k < kSuperColumns; ++k) {
      const auto d = static_cast<double>(change(k, r));
      linear += d * static_cast<double>(s_.gradient(k, r));
      square += d * static_cast<double>(product(k, r));
    }
    const double gain = 2 * linear - square;
    if (gain > static_cast<double>(kLeastGain) * (square + 2 * std::fabs(linear))) {
      any = true;
      s_.gains[r] += static_cast<float>(gain);
      s_.block.SetSuper(r, block, refitted[Size(r)]);
    } else {
      for (Index k = 0; k < kSuperColumns; ++k) change(k, r) = 0;
    }
  }
  if (any) s_.apply(std::as_const(change).view(), begin);
}

}  // namespace lieq
