#include "lieq/quantize/grid_fit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lieq/base/rng.h"

namespace lieq {
namespace {

double Error(const std::vector<float>& w, const std::vector<float>& h, const GroupFit& fit,
             const Grid& grid) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const int code = NearestCode(static_cast<double>(w[i]), fit, grid.levels());
    const double error =
        static_cast<double>(w[i]) - static_cast<double>(fit.scale) * (code - fit.zero);
    sum += (h.empty() ? 1.0 : static_cast<double>(h[i])) * error * error;
  }
  return sum;
}

struct Param {
  int bits;
  bool symmetric, weighted;
};
class Fit : public testing::TestWithParam<Param> {};

// The oracle tries every zero-point at 400 scales of either sign.
TEST_P(Fit, SearchIsNearTheBestOfAnExhaustiveOne) {
  const auto [bits, symmetric, weighted] = GetParam();
  const Grid grid{.bits = bits, .group_size = 64, .symmetric = symmetric};
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
    for (int zero = symmetric ? grid.middle() : 0;
         zero <= (symmetric ? grid.middle() : grid.levels() - 1); ++zero) {
      for (int step = 1; step <= (bits == 8 ? 100 : 400); ++step) {
        for (const float sign : {1.0f, -1.0f}) {
          const float scale = sign * extreme * static_cast<float>(step) /
                              (bits == 8 ? 50.0f : 200.0f) / static_cast<float>(grid.middle());
          best = std::min(best, Error(w, h, {scale, static_cast<std::uint8_t>(zero)}, grid));
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
INSTANTIATE_TEST_SUITE_P(Grids, Fit,
                         testing::Values(Param{2, true, false}, Param{2, false, false},
                                         Param{2, true, true}, Param{2, false, true},
                                         Param{3, true, false}, Param{3, false, true},
                                         Param{4, true, true}, Param{4, false, false},
                                         Param{8, true, false}, Param{8, false, true}));

TEST(Fit, HoldsTheExtremeWeightWithoutASearch) {
  for (const bool symmetric : {true, false}) {
    for (const int bits : {2, 3, 4, 8}) {
      const Grid grid{.bits = bits, .symmetric = symmetric};
      const std::vector<float> w{0.5f, -0.125f, 0.25f, 0.0f};

      const GroupFit fit = FitGroup(w, {}, grid, Clip::kNone);

      const int code = NearestCode(0.5, fit, grid.levels());
      // asymmetric zero-points are rounded: half a step may be missing
      EXPECT_NEAR(fit.scale * static_cast<float>(code - fit.zero), 0.5,
                  symmetric ? 0.002 : 0.51 * std::fabs(static_cast<double>(fit.scale)));
    }
  }
}

TEST(Fit, SurvivesDegenerateGroups) {
  for (const bool symmetric : {true, false}) {
    for (const Clip clip : {Clip::kNone, Clip::kSearch}) {
      for (const int bits : {2, 3, 4, 8}) {
        const Grid grid{.bits = bits, .symmetric = symmetric};
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
          EXPECT_LT(fit.zero, grid.levels());
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

}  // namespace
}  // namespace lieq
