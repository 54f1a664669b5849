#include "lieq/quantize/grid_fit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lieq/base/rng.h"

namespace lieq {
namespace {

/// Of a fit that is worse than `limit` no more than that it is.
double Error(const std::vector<float>& w, const std::vector<float>& h, const GroupFit& fit,
             const Grid& grid, double limit = INFINITY) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size() && sum <= limit; ++i) {
    const int code = NearestCode(static_cast<double>(w[i]), fit, grid.levels());
    const double error = static_cast<double>(w[i]) - fit.Level(code);
    sum += (h.empty() ? 1.0 : static_cast<double>(h[i])) * error * error;
  }
  return sum;
}

struct Param {
  int bits;
  Offset offset;
  bool weighted;
};
class Fit : public testing::TestWithParam<Param> {};

/// Zeros that the oracle tries: all there are, or 24 parts of a step where they are real.
std::vector<float> Zeros(const Grid& grid) {
  if (grid.offset == Offset::kSymmetric || grid.offset == Offset::kHalf) {
    return {grid.shared_zero()};
  }
  std::vector<float> zeros;
  const int parts = grid.offset == Offset::kFloat && grid.bits <= 4 ? 24 : 1;
  for (int i = 0; i <= (grid.levels() - 1) * parts; ++i) {
    zeros.push_back(static_cast<float>(i) / static_cast<float>(parts));
  }
  return zeros;
}

// The oracle tries those zeros at 400 scales of either sign.
TEST_P(Fit, SearchIsNearTheBestOfAnExhaustiveOne) {
  const auto [bits, offset, weighted] = GetParam();
  const Grid grid{.bits = bits, .group_size = 64, .offset = offset};
  double found = 0, best_possible = 0, min_max = 0;
  for (std::uint64_t seed = 0; seed < (bits == 8 ? 3u : 15u); ++seed) {
    Rng rng(seed);
    std::vector<float> w(64), h(weighted ? 64 : 0);
    for (float& value : w)
      value = static_cast<float>(0.02 * rng.Normal() + (seed % 3 == 0 ? 0.01 : 0));
    for (float& value : h) value = static_cast<float>(std::exp(2 * rng.Normal()));
    float extreme = 0;
    for (const float value : w) extreme = std::max(extreme, std::fabs(value));

    const GroupFit fit = FitGroup(w, h, grid, Clip::kSearch);

    double best = INFINITY;
    for (const float zero : Zeros(grid)) {
      for (int step = 1; step <= (bits == 8 ? 100 : 400); ++step) {
        for (const float sign : {1.0f, -1.0f}) {
          const float scale = sign * extreme * static_cast<float>(step) /
                              (bits == 8 ? 50.0f : 200.0f) / static_cast<float>(grid.middle());
          best = std::min(best, Error(w, h, GroupFit::AtZero(scale, zero), grid, best));
        }
      }
    }
    found += Error(w, h, fit, grid);
    best_possible += best;
    min_max += Error(w, h, FitGroup(w, h, grid, Clip::kNone), grid);
  }
  // The search steps by 0.025 and rounds the scale to 8 bits; over many groups that costs little.
  EXPECT_LE(found, best_possible * (bits == 8 ? 1.35 : 1.04));
  EXPECT_LE(found, min_max * (1 + 1e-6));
}
INSTANTIATE_TEST_SUITE_P(
    Grids, Fit,
    testing::Values(Param{2, Offset::kSymmetric, false}, Param{2, Offset::kInteger, false},
                    Param{2, Offset::kSymmetric, true}, Param{2, Offset::kInteger, true},
                    Param{3, Offset::kSymmetric, false}, Param{3, Offset::kInteger, true},
                    Param{4, Offset::kSymmetric, true}, Param{4, Offset::kInteger, false},
                    Param{8, Offset::kSymmetric, false}, Param{8, Offset::kInteger, true},
                    Param{2, Offset::kHalf, false}, Param{3, Offset::kHalf, true},
                    Param{4, Offset::kHalf, false}, Param{8, Offset::kHalf, true},
                    Param{2, Offset::kFloat, false}, Param{2, Offset::kFloat, true},
                    Param{3, Offset::kFloat, true}, Param{4, Offset::kFloat, false},
                    Param{8, Offset::kFloat, true}));

TEST(Fit, HoldsTheExtremeWeightWithoutASearch) {
  for (const Offset offset : kAllOffsets) {
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      const Grid grid{.bits = bits, .offset = offset};
      const std::vector<float> w{0.5f, -0.125f, 0.25f, 0.0f};

      const GroupFit fit = FitGroup(w, {}, grid, Clip::kNone);

      const int code = NearestCode(0.5, fit, grid.levels());
      // integer zero-points are rounded: half a step may be missing
      EXPECT_NEAR(
          fit.Level(code), 0.5,
          offset == Offset::kInteger ? 0.51 * std::fabs(static_cast<double>(fit.scale)) : 0.002)
          << Name(offset) << ", " << bits;
    }
  }
}

TEST(Fit, SurvivesDegenerateGroups) {
  for (const Offset offset : kAllOffsets) {
    for (const Clip clip : {Clip::kNone, Clip::kSearch}) {
      for (const int bits : {2, 3, 4, 5, 6, 8}) {
        const Grid grid{.bits = bits, .offset = offset};
        const std::vector<std::vector<float>> groups{std::vector<float>(32, 0.0f),
                                                     std::vector<float>(32, -3.0f),
                                                     std::vector<float>(17, 1e-30f),
                                                     std::vector<float>(5, 3e38f),
                                                     {0, 0, 0, 1e30f, 0},
                                                     {1e-45f},
                                                     {-1e-3f}};
        for (const auto& w : groups) {
          const GroupFit fit = FitGroup(w, {}, grid, clip);
          EXPECT_TRUE(std::isfinite(fit.scale) && fit.scale != 0);
          EXPECT_EQ(RoundScale(fit.scale), fit.scale);
          if (offset == Offset::kFloat) {
            EXPECT_EQ(RoundMinimum(fit.minimum), fit.minimum);
          } else if (offset == Offset::kInteger) {
            EXPECT_LT(fit.zero(), grid.levels());
            EXPECT_EQ(GroupFit::AtZero(fit.scale, fit.zero()).minimum, fit.minimum);
          } else {
            EXPECT_EQ(GroupFit::AtZero(fit.scale, grid.shared_zero()).minimum, fit.minimum);
          }
          for (const float value : w) {
            EXPECT_LT(NearestCode(static_cast<double>(value), fit, grid.levels()), grid.levels());
          }
        }
        const std::vector<float> none(3, 0.0f);  // no column matters
        EXPECT_TRUE(std::isfinite(FitGroup(std::vector<float>{1, 2, 3}, none, grid, clip).scale));
      }
    }
  }
}

TEST(Fit, LevelsAreThoseOfTheMatrix) {
  Rng rng(3);
  for (const Offset offset : kAllOffsets) {
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      const Grid grid{.bits = bits, .group_size = 0, .offset = offset};
      std::vector<float> w(97);
      for (float& value : w) value = static_cast<float>(0.3 + rng.Normal());
      const GroupFit fit = FitGroup(w, {}, grid, Clip::kSearch);
      QMatrix matrix(1, 97, grid);
      std::vector<std::uint8_t> codes;
      for (const float value : w) {
        codes.push_back(NearestCode(static_cast<double>(value), fit, grid.levels()));
      }

      StoreFit(fit, 0, 0, matrix);
      matrix.SetRow(0, codes);

      Matrix<float> wide(1, 97);
      matrix.Dequantize(0, wide.view());
      for (std::size_t i = 0; i < w.size(); ++i) {
        ASSERT_EQ(fit.Level(codes[i]), static_cast<double>(wide.data()[i])) << Name(offset);
        for (int code = 0; code < grid.levels(); ++code) {  // and the nearest of them
          ASSERT_LE(std::fabs(fit.Level(codes[i]) - static_cast<double>(w[i])),
                    std::fabs(fit.Level(code) - static_cast<double>(w[i])) * (1 + 1e-6));
        }
      }
    }
  }
}

TEST(Fit, HoldsEqualWeightsBetterWithAMinimumThanTheMinimumAlone) {
  for (const float value : {0.0f, 1.0f / 3, -0.0123f, 1e-6f, -700.3f}) {
    for (const std::size_t count : {1u, 7u}) {
      const std::vector<float> w(count, value);
      const Grid grid{.bits = 2, .offset = Offset::kFloat};

      const GroupFit fit = FitGroup(w, {}, grid, Clip::kSearch);

      const std::uint8_t code = NearestCode(static_cast<double>(value), fit, 4);
      // 16 significant bits, or half of the smallest scale
      EXPECT_NEAR(fit.Level(code), static_cast<double>(value),
                  std::max(0x1p-15, std::fabs(static_cast<double>(value)) * 0x1p-16));
    }
  }
}

}  // namespace
}  // namespace lieq
