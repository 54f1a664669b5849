#include "lieq/quantize/kquant_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/row_fit.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

constexpr int kKinds = 8;

/// Weights of one super-block, from harmless to hostile.
std::vector<float> Weights(int kind, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> w(Size(kSuperColumns));
  for (float& value : w) value = static_cast<float>(0.02 * rng.Normal());
  switch (kind) {
    case 1:  // zeros
      std::ranges::fill(w, 0.0f);
      break;
    case 2:  // one value, above 0
      std::ranges::fill(w, 0.25f);
      break;
    case 3:  // one value, below 0
      std::ranges::fill(w, -0.25f);
      break;
    case 4:  // all but one are 0
      std::ranges::fill(w, 0.0f);
      w[77] = -3.0f;
      break;
    case 5:  // an outlier of 1e4 times the others
      w[13] = 200.0f;
      break;
    case 6:  // below the smallest d
      for (float& value : w) value *= 1e-7f;
      break;
    case 7:  // groups that differ, none around 0
      for (std::size_t i = 0; i < w.size(); ++i) w[i] += 0.01f * static_cast<float>(i / 16);
      break;
    default:
      break;
  }
  return w;
}

std::vector<float> Importances(std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> h(Size(kSuperColumns));
  for (float& value : h) value = static_cast<float>(std::exp(2 * rng.Normal()));
  h[5] = 0;
  return h;
}

/// Weighted squared error of one group with every weight at its nearest level, from the definition.
double GroupError(std::span<const float> w, std::span<const float> h, const KQuant& kind,
                  const SuperBlock& super, std::size_t group) {
  const std::size_t width = Size(kind.grid.group_size);
  double error = 0;
  for (std::size_t i = group * width; i < (group + 1) * width; ++i) {
    double least = std::numeric_limits<double>::infinity();
    for (int code = 0; code < kind.grid.levels(); ++code) {
      const float scale = super.d * static_cast<float>(super.scales[group]);
      const float level = kind.has_minima()
                              ? scale * static_cast<float>(code) -
                                    super.dmin * static_cast<float>(super.minima[group])
                              : scale * static_cast<float>(code - kind.grid.middle());
      const double miss = static_cast<double>(w[i]) - static_cast<double>(level);
      least = std::min(least, miss * miss);
    }
    error += (h.empty() ? 1.0 : static_cast<double>(h[i])) * least;
  }
  return error;
}

double Error(std::span<const float> w, std::span<const float> h, const KQuant& kind,
             const SuperBlock& super) {
  double error = 0;
  for (std::size_t g = 0; g < Size(kind.groups()); ++g) error += GroupError(w, h, kind, super, g);
  return error;
}

TEST(FitSuper, IsStorableAndNeverWorseThanMinMaxGrids) {
  for (const KQuant& kind : KQuants()) {
    for (int weights = 0; weights < kKinds; ++weights) {
      for (const std::uint64_t seed : {1u, 2u, 3u}) {
        SCOPED_TRACE(testing::Message() << kind.name << ", weights " << weights << ", " << seed);
        const std::vector<float> w = Weights(weights, seed), h = Importances(seed);

        const SuperBlock fit = FitSuper(w, h, kind, Clip::kSearch);

        QMatrix holds(1, kSuperColumns, kind.grid);
        holds.SetSuper(0, 0, fit);  // asserts ranges
        EXPECT_EQ(ToFloat(ToF16(fit.d)), fit.d);
        EXPECT_GT(fit.d, 0);
        EXPECT_GE(fit.dmin, 0);
        for (std::size_t g = 0; g < Size(kind.groups()); ++g) EXPECT_NE(fit.scales[g], 0);
        const double found = Error(w, h, kind, fit);
        const double plain = Error(w, h, kind, FitSuper(w, h, kind, Clip::kNone));
        EXPECT_LE(found, plain * (1 + 1e-5) + 1e-30);
        if (weights == 0 || weights == 7) {
          EXPECT_LT(found, 0.9 * plain);
        }
      }
    }
  }
}

TEST(FitSuper, MeetsWeightsThatTheGridHolds) {
  const std::vector<float> zeros = Weights(1, 1), below = Weights(3, 1);
  for (const KQuant& kind : KQuants()) {
    EXPECT_EQ(Error(zeros, {}, kind, FitSuper(zeros, {}, kind, Clip::kSearch)), 0) << kind.name;
    const double relative =
        Error(below, {}, kind, FitSuper(below, {}, kind, Clip::kSearch)) / (256 * 0.0625);
    EXPECT_LT(relative, 1e-6) << kind.name;
  }
}

// Every d and dmin of a fine net, and for each every pair of factors of every group.
TEST(FitSuper, IsNearTheBestThereIs) {
  const KQuant& kind = *KQuantOfBits(2);
  for (const bool weighted : {false, true}) {
    const std::vector<float> w = Weights(0, 11);
    const std::vector<float> h = weighted ? Importances(12) : std::vector<float>();
    const SuperBlock fit = FitSuper(w, h, kind, Clip::kSearch);
    const double found = Error(w, h, kind, fit);

    double best = std::numeric_limits<double>::infinity();
    constexpr int kNet = 16;
    for (int i = 0; i < kNet; ++i) {
      for (int j = 0; j < kNet; ++j) {
        SuperBlock tried = fit;
        tried.d = ToFloat(ToF16(fit.d * (0.7f + 0.04f * static_cast<float>(i))));
        tried.dmin = ToFloat(ToF16(fit.dmin * (0.7f + 0.04f * static_cast<float>(j))));
        double error = 0;
        for (std::size_t g = 0; g < 16 && error < best; ++g) {
          double least = std::numeric_limits<double>::infinity();
          for (int s = 1; s <= 15; ++s) {
            for (int m = 0; m <= 15; ++m) {
              tried.scales[g] = static_cast<std::int8_t>(s);
              tried.minima[g] = static_cast<std::uint8_t>(m);
              least = std::min(least, GroupError(w, h, kind, tried, g));
            }
          }
          error += least;
        }
        best = std::min(best, error);
      }
    }
    RecordProperty(weighted ? "weighted" : "plain", std::to_string(found / best));
    EXPECT_LT(found, 1.06 * best) << found / best;
  }
}

TEST(QuantizeRtn, RoundsToTheNearestLevelOfKQuants) {
  TestContext test;
  const Matrix<float> w = RandomMatrix(35, 512, 4, 0.02);
  Rng rng(6);
  std::vector<float> importance(512);
  for (float& h : importance) h = static_cast<float>(std::exp(rng.Normal()));
  for (const KQuant& kind : KQuants()) {
    LinearReport plain_report, report;
    const QMatrix plain =
        QuantizeRtn(w.view(), {}, kind.grid, Clip::kSearch, test.context, plain_report);
    const QMatrix q =
        QuantizeRtn(w.view(), importance, kind.grid, Clip::kSearch, test.context, report);

    const auto weighted_error = [&](const QMatrix& of) {
      Matrix<float> levels(35, 512);
      of.Dequantize(0, levels.view());
      double error = 0;
      for (Index r = 0; r < 35; ++r) {
        for (Index c = 0; c < 512; ++c) {
          const double miss = static_cast<double>(w(r, c)) - static_cast<double>(levels(r, c));
          error += static_cast<double>(importance[Size(c)]) * miss * miss;
        }
      }
      return error;
    };
    double nearest = 0;
    for (Index r = 0; r < 35; ++r) {
      for (Index block = 0; block < 2; ++block) {
        const auto at = Size(block * kSuperColumns);
        nearest += Error(w.view().Row(r).subspan(at, Size(kSuperColumns)),
                         std::span<const float>(importance).subspan(at, Size(kSuperColumns)), kind,
                         q.Super(r, block));
      }
    }
    EXPECT_NEAR(report.error, nearest, 1e-6 * nearest) << kind.name;
    EXPECT_NEAR(report.error, weighted_error(q), 1e-6 * nearest) << kind.name;
    EXPECT_LT(report.error, weighted_error(plain)) << kind.name;
  }
}

}  // namespace
}  // namespace lieq
