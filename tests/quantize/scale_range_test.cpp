#include "lieq/quantize/scale_range.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/quantize/gptq.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

constexpr Index kRows = 12, kCols = 256;

/// Rows of other sizes, as in a model.
Matrix<float> Weights(int power) {
  Matrix<float> w(kRows, kCols);
  Rng rng(5);
  for (Index r = 0; r < kRows; ++r) {
    const double size = 0.05 * std::exp2(rng.Normal());
    for (Index c = 0; c < kCols; ++c) {
      w(r, c) = std::ldexp(static_cast<float>(size * rng.Normal()), power);
    }
  }
  return w;
}

struct Made {
  QMatrix q;
  LinearReport report;
  double relative = 0;
};

Made Quantize(const Grid& grid, int power, bool wide, Clip clip = Clip::kSearch) {
  TestContext test;
  Made made;
  const Matrix<float> w = Weights(power);
  made.q =
      QuantizeInRange(w.view(), grid, wide, made.report, [&](const LinearFloats& multiple, double) {
        return QuantizeRtn(multiple.host(), {}, grid, clip, test.context, made.report);
      });
  made.relative = made.report.error / made.report.signal;
  return made;
}

std::vector<Grid> Grids() {
  std::vector<Grid> grids;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      grids.push_back({.bits = bits, .group_size = 64, .offset = offset});
    }
  }
  return grids;
}

std::string Text(const Grid& grid, int power) {
  return std::to_string(grid.bits) + " bits, " + std::string(Describe(grid.offset)) + ", 2^" +
         std::to_string(power);
}

TEST(ScaleRange, OfBf16LosesTheSameForWeightsOfAnySize) {
  for (const Grid& grid : Grids()) {
    const double expected = Quantize(grid, 0, true).relative;
    for (const int power :
         {-60, -40, -24, -16, -14, -12, -10, -8, -6, -4, -2, 4, 8, 12, 16, 20, 40}) {
      const Made made = Quantize(grid, power, true);
      EXPECT_NEAR(made.relative, expected, 0.01 * expected) << Text(grid, power);
      EXPECT_EQ(made.report.coarse_scales, 0) << Text(grid, power);
      for (Index r = 0; r < kRows; ++r) {
        for (Index g = 0; g < made.q.groups(); ++g) {  // as they are stored
          ASSERT_EQ(ToFloat(ToBf16(made.q.scales()(r, g))), made.q.scales()(r, g));
        }
      }
    }
  }
}

TEST(ScaleRange, FarFromTheOrdinaryCodesAreTheSame) {
  for (const Grid& grid : Grids()) {
    const Made a = Quantize(grid, -30, true), b = Quantize(grid, -50, true);
    ASSERT_TRUE(std::ranges::equal(a.q.words(), b.q.words())) << Text(grid, -30);
    for (Index r = 0; r < kRows; ++r) {
      for (Index g = 0; g < a.q.groups(); ++g) {
        ASSERT_EQ(std::ldexp(a.q.scales()(r, g), -20), b.q.scales()(r, g));
      }
    }
    EXPECT_DOUBLE_EQ(a.relative, b.relative);
  }
}

TEST(ScaleRange, OfF16LosesTheSameOrSaysSo) {
  for (const Grid& grid : Grids()) {
    const double expected = Quantize(grid, 0, false).relative;
    bool said_below = false, said_above = false;
    for (int power = -30; power <= 30; power += 2) {
      const Made made = Quantize(grid, power, false);
      if (made.report.coarse_scales > 0) {
        EXPECT_TRUE(power < -4 || power > 8) << Text(grid, power);
        said_below = said_below || power < 0;
        said_above = said_above || power > 0;
      } else {
        EXPECT_NEAR(made.relative, expected, 0.03 * expected) << Text(grid, power);
      }
    }
    EXPECT_TRUE(said_below && said_above) << Text(grid, 0);
  }
}

TEST(ScaleRange, OfKQuantsLoseTheSameOrSaySo) {
  for (const KQuant& kind : KQuants()) {
    const double expected = Quantize(kind.grid, 0, true).relative;
    bool said = false;
    for (int power = -24; power <= 8; power += 2) {
      const Made made = Quantize(kind.grid, power, true);
      if (made.report.coarse_scales > 0) {
        said = true;
        EXPECT_LT(power, -2);
      } else {
        EXPECT_NEAR(made.relative, expected, 0.03 * expected) << kind.name << " 2^" << power;
      }
    }
    EXPECT_TRUE(said) << kind.name;
  }
}

TEST(ScaleRange, RowsOfNothingAreNoReasonToComplain) {
  Matrix<float> w = Weights(0);
  for (Index c = 0; c < kCols; ++c) {
    w(3, c) = 0;
    w(5, c) = 1e-30f;
  }
  TestContext test;
  for (const bool wide : {true, false}) {
    for (const Grid& grid : Grids()) {
      LinearReport report;
      const QMatrix q = QuantizeInRange(
          w.view(), grid, wide, report, [&](const LinearFloats& multiple, double by) {
            EXPECT_EQ(by, 1);
            return QuantizeRtn(multiple.host(), {}, grid, Clip::kSearch, test.context, report);
          });
      EXPECT_EQ(report.coarse_scales, 0);
      EXPECT_EQ(ToFloat(ToF16(q.scales()(5, 0))), q.scales()(5, 0));
    }
  }
}

}  // namespace
}  // namespace lieq
