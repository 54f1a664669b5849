#include "lieq/quantize/offset_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lieq/base/rng.h"

namespace lieq {
namespace {

struct Group {
  std::vector<float> w, h;
};

/// Of a fit that is worse than `limit` no more than that it is.
double Error(const Group& group, const RealFit& fit, int levels, double limit = INFINITY) {
  double sum = 0;
  for (std::size_t i = 0; i < group.w.size() && sum <= limit; ++i) {
    const auto w = static_cast<double>(group.w[i]);
    const double code =
        fit.scale > 0 ? std::clamp(std::nearbyint((w - fit.minimum) / fit.scale), 0.0, levels - 1.0)
                      : 0.0;
    const double error = w - fit.scale * code - fit.minimum;
    sum += (group.h.empty() ? 1.0 : static_cast<double>(group.h[i])) * error * error;
  }
  return sum;
}

/// The least error of 200 scales up to 1.1 times the min-max step, and 200 minima at each.
double BruteForce(const Group& group, int levels) {
  const auto [least, most] = std::ranges::minmax(group.w);
  const auto low = static_cast<double>(least), width = static_cast<double>(most) - low;
  double best = INFINITY;
  for (int i = 1; i <= 200; ++i) {
    const double scale = 1.1 * i / 200 * width / (levels - 1);
    const double slack = width - scale * (levels - 1);  // below 0 where the levels span more
    for (int j = 0; j < 200; ++j) {
      const double minimum =
          low + std::min(slack, 0.0) - scale + (std::fabs(slack) + 2 * scale) * j / 199;
      best = std::min(best, Error(group, {scale, minimum}, levels, best));
    }
  }
  return best;
}

Group Random(std::uint64_t seed, std::size_t count, bool weighted) {
  Rng rng(seed);
  Group group{.w = std::vector<float>(count), .h = std::vector<float>(weighted ? count : 0)};
  for (float& w : group.w) {
    w = static_cast<float>(0.02 * rng.Normal() + (seed % 3 == 0 ? 0.01 : 0));
  }
  for (float& h : group.h) h = static_cast<float>(std::exp(2 * rng.Normal()));
  return group;
}

struct Param {
  int levels;
  std::size_t count;
  bool weighted;
};
class OffsetSearch : public testing::TestWithParam<Param> {};

TEST_P(OffsetSearch, IsNeverWorseThanBruteForce) {
  const auto [levels, count, weighted] = GetParam();
  double found = 0, brute = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Group group = Random(seed, count, weighted);

    const RealFit fit = SearchOffset(group.w, group.h, levels);

    const double error = Error(group, fit, levels), best = BruteForce(group, levels);
    // At 4 bits the minima of the error are too narrow for a few scales to meet each of them.
    EXPECT_LE(error, best * (levels < 16 ? 1 + 1e-6 : 1.05)) << seed;
    found += error;
    brute += best;
  }
  EXPECT_LT(found, brute * (levels < 16 ? 1 : 1.001));
}
INSTANTIATE_TEST_SUITE_P(Groups, OffsetSearch,
                         testing::Values(Param{4, 64, false}, Param{4, 64, true},
                                         Param{4, 128, true}, Param{4, 16, true},
                                         Param{4, 5, false}, Param{8, 64, false},
                                         Param{8, 32, true}, Param{16, 64, false},
                                         Param{16, 64, true}));

TEST(OffsetSearch, IsExactWhereTheWeightsLieOnAGrid) {
  Rng rng(5);
  for (const int levels : {4, 8, 16}) {
    Group group;
    for (int i = 0; i < 64; ++i) {
      const int code = i == 0 ? 0 : i == 1 ? levels - 1 : static_cast<int>(rng.Below(levels));
      group.w.push_back(0.25f * static_cast<float>(code) - 0.625f);  // ties everywhere
    }

    const RealFit fit = SearchOffset(group.w, {}, levels);

    EXPECT_NEAR(fit.scale, 0.25, 1e-12);
    EXPECT_NEAR(fit.minimum, -0.625, 1e-12);
  }
}

TEST(OffsetSearch, MeetsTheMeanOfWeightsThatAreEqual) {
  for (const std::size_t count : {1u, 2u, 33u}) {
    const RealFit fit = SearchOffset(std::vector<float>(count, -3.5f), {}, 4);
    EXPECT_EQ(fit.scale, 0);
    EXPECT_EQ(fit.minimum, -3.5);
  }
}

TEST(OffsetSearch, MeetsTwoValuesExactly) {
  const Group group{.w = {1, 1, 1, 2, 1, 2}, .h = {}};
  EXPECT_NEAR(Error(group, SearchOffset(group.w, {}, 4), 4), 0, 1e-24);
}

TEST(OffsetSearch, GivesAnOutlierALevelOfItsOwnUnlessItCountsForNothing) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    for (const float importance : {1.0f, 1e-12f, 0.0f}) {
      Group group = Random(seed, 64, true);
      group.w[5] *= 1e4f;
      group.h[5] = importance;

      const RealFit fit = SearchOffset(group.w, group.h, 4);

      EXPECT_LE(Error(group, fit, 4), BruteForce(group, 4) * (1 + 1e-6)) << seed;
    }
  }
}

TEST(OffsetSearch, TakesAllAsEqualWhereNoneCounts) {
  const Group group = Random(1, 64, false);

  const RealFit fit = SearchOffset(group.w, std::vector<float>(64, 0.0f), 4);

  EXPECT_EQ(fit.scale, SearchOffset(group.w, {}, 4).scale);
}

}  // namespace
}  // namespace lieq
