#include "lieq/quantize/awq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

/// Adversarial rows below random ones: zeros, a constant, one weight alone, an outlier of 1e4.
Matrix<float> Weights(Index rows, Index cols, std::uint64_t seed) {
  Matrix<float> w = RandomMatrix(rows, cols, seed);
  for (Index c = 0; c < cols; ++c) {
    w(0, c) = 0;
    w(1, c) = 0.7F;
    w(2, c) = c == 5 ? 1.0F : 0.0F;
  }
  w(3, 2) = 1e4F;
  return w;
}

UnitStatistics Inputs(Index cols, std::uint64_t seed) {
  Matrix<float> x = CorrelatedInputs(80, cols, seed);
  for (Index r = 0; r < x.rows(); ++r) {
    x(r, 1) = 0;      // a dead channel
    x(r, 9) *= 1e4F;  // and a massive one
  }
  UnitStatistics input;
  input.gram = GramOf(x.view());
  return input;
}

QMatrix QuantizeAwq(View<const float, 2> w, const UnitStatistics& input, const Grid& grid,
                    const QuantOptions& options, Context& context, LinearReport& report) {
  CalibrationStatistics statistics;
  statistics.fit.gram = input.gram.Clone();
  return BeginAwq(std::move(statistics), options, context)->Quantize(w, grid, 1, report);
}

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(Awq, NoRowIsWorseThanRoundToNearest) {
  TestContext test;
  for (const std::uint64_t seed : {1, 2, 3}) {
    const Matrix<float> w = Weights(70, 64, seed);
    const UnitStatistics input = Inputs(64, 10 + seed);
    for (const Offset offset : kAllOffsets) {
      for (const int bits : {2, 3, 4, 5, 6, 8}) {
        const Grid grid{.bits = bits, .group_size = 32, .offset = offset};
        const QuantOptions options = WithDefaults({.method = "awq"});
        LinearReport report, plain;

        const QMatrix q = QuantizeAwq(w.view(), input, grid, options, test.context, report);

        const QMatrix rtn = QuantizeRtn(w.view(), {}, grid, Clip::kSearch, test.context, plain);
        const std::vector<double> mine =
            OutputErrors(w.view(), q, OutputStatisticsOf(input), test.context);
        const std::vector<double> nearest =
            OutputErrors(w.view(), rtn, OutputStatisticsOf(input), test.context);
        for (std::size_t r = 0; r < mine.size(); ++r) {
          EXPECT_LE(mine[r], nearest[r]) << Name(offset) << bits << " row " << r;
        }
        if (bits < 5) {  // finer grids leave less to gain
          EXPECT_LT(Sum(mine), 0.95 * Sum(nearest)) << Name(offset) << bits;
        }
        EXPECT_EQ(report.error, Sum(mine));
      }
    }
  }
}

TEST(Awq, FindsTheClipOfLeastOutputErrorOfOneGroup) {
  // Brute force over a finer row of ranges on the symmetric grid: never better by more than 2 %.
  TestContext test;
  for (const std::uint64_t seed : {4, 5, 6}) {
    const Matrix<float> w = RandomMatrix(12, 32, seed);
    Matrix<float> x = CorrelatedInputs(64, 32, seed + 50);
    UnitStatistics input;
    input.gram = GramOf(x.view());
    const Grid grid{.bits = 3, .group_size = 0};
    const QuantOptions options = WithDefaults({.method = "awq"});
    LinearReport report;
    const QMatrix q = QuantizeAwq(w.view(), input, grid, options, test.context, report);
    const std::vector<double> errors =
        OutputErrors(w.view(), q, OutputStatisticsOf(input), test.context);
    for (Index r = 0; r < w.rows(); ++r) {
      double extreme = 0;
      for (const float value : w.view().Row(r)) {
        extreme = std::max(extreme, std::fabs(static_cast<double>(value)));
      }
      double least = std::numeric_limits<double>::infinity();
      for (int share = 12; share <= 40; ++share) {  // the steps of the search, both signs
        for (const double sign : {1.0, -1.0}) {
          const float scale =
              RoundScale(static_cast<float>(sign * share / 40.0 * extreme / grid.middle()));
          double loss = 0;
          std::vector<double> e;
          for (const float value : w.view().Row(r)) {
            const double code =
                std::clamp(std::nearbyint(static_cast<double>(value) / scale) + 4, 0.0, 7.0);
            e.push_back(static_cast<double>(value) - scale * (code - 4));
          }
          for (Index i = 0; i < 32; ++i) {
            for (Index j = 0; j < 32; ++j) loss += e[Size(i)] * e[Size(j)] * input.gram(i, j);
          }
          least = std::min(least, loss);
        }
      }
      EXPECT_LE(errors[Size(r)], 1.02 * least) << r;
    }
  }
}

TEST(Awq, WithoutClipIsRoundToNearest) {
  TestContext test;
  const Matrix<float> w = Weights(20, 64, 8);
  const UnitStatistics input = Inputs(64, 9);
  const Grid grid{.bits = 2, .group_size = 32};
  const QuantOptions options = WithDefaults({.method = "awq", .clip = Clip::kNone});
  LinearReport report, plain;

  const QMatrix q = QuantizeAwq(w.view(), input, grid, options, test.context, report);

  const QMatrix rtn = QuantizeRtn(w.view(), {}, grid, Clip::kNone, test.context, plain);
  EXPECT_TRUE(std::ranges::equal(q.words(), rtn.words()));
}

}  // namespace
}  // namespace lieq
