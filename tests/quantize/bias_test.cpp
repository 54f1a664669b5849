#include "lieq/quantize/bias.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lieq/quantize/gptq.h"
#include "lieq/quantize/quantizers.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

constexpr Index kTokens = 300, kIn = 48, kOut = 70;

/// Inputs of one share of windows, with means that are not 0.
struct Share {
  Matrix<float> x, u, stream;  // x of the float model, u of the quantized one, r - r_u

  explicit Share(std::uint64_t seed)
      : x(CorrelatedInputs(kTokens, kIn, 2)), u(x.Clone()), stream(kTokens, kOut) {
    const Matrix<float> noise = RandomMatrix(kTokens, kIn, seed, 0.3);
    const Matrix<float> added = RandomMatrix(kTokens, kOut, seed + 1, 0.1);
    for (Index t = 0; t < kTokens; ++t) {
      for (Index c = 0; c < kIn; ++c) {
        x(t, c) += 0.5f * static_cast<float>(c % 5);
        u(t, c) = x(t, c) - noise(t, c) - 0.2f;
      }
      for (Index r = 0; r < kOut; ++r) stream(t, r) = added(t, r) + 0.3f;
    }
  }
  UnitStatistics Statistics() const {
    UnitStatistics statistics;
    TokenSums& sums = statistics.sums;
    sums.input = Matrix<double>(1, kIn);
    sums.drift = Matrix<double>(1, kIn);
    sums.residual = Matrix<double>(1, kOut);
    for (Index t = 0; t < kTokens; ++t) {
      for (Index c = 0; c < kIn; ++c) {
        sums.input(0, c) += static_cast<double>(u(t, c));
        sums.drift(0, c) += static_cast<double>(x(t, c)) - static_cast<double>(u(t, c));
      }
      for (Index r = 0; r < kOut; ++r) sums.residual(0, r) += static_cast<double>(stream(t, r));
    }
    sums.weight = kTokens;
    statistics.tokens = kTokens;
    return statistics;
  }
  /// Sum over tokens of |W x + b + r - (Q u + b' + r_u)|² of one row, token by token.
  double Error(View<const float, 2> w, View<const float, 2> q, double added, Index row) const {
    double total = 0;
    for (Index t = 0; t < kTokens; ++t) {
      double miss = static_cast<double>(stream(t, row)) - added;
      for (Index c = 0; c < kIn; ++c) {
        miss += static_cast<double>(w(row, c)) * static_cast<double>(x(t, c)) -
                static_cast<double>(q(row, c)) * static_cast<double>(u(t, c));
      }
      total += miss * miss;
    }
    return total;
  }
};

class CorrectedBiasTest : public testing::TestWithParam<std::uint64_t> {
 protected:
  QMatrix Rounded() {
    LinearReport report;
    return QuantizeRtn(w.view(), {}, {.bits = 2, .group_size = 16}, Clip::kSearch, test.context,
                       report);
  }
  std::vector<float> Corrected(const CalibrationStatistics& measured, double strength, DType type,
                               LinearReport& report) {
    return CorrectedBias({.w = w.view(), .q = q, .bias = bias, .type = type}, measured,
                         WithDefaults({.drift = strength, .residual = strength}), test.context,
                         report);
  }

  const std::uint64_t seed = GetParam();
  TestContext test;
  Matrix<float> w = RandomMatrix(kOut, kIn, seed, 0.1);
  QMatrix q = Rounded();
  std::vector<float> bias = std::vector<float>(kOut, 0.25f);
};

TEST_P(CorrectedBiasTest, TakesTheMeanOfTheErrorSoThatNoneIsLeftOnTheFittedTokens) {
  const Share share(seed);
  CalibrationStatistics measured;
  measured.fit = share.Statistics();
  Matrix<float> levels(kOut, kIn);
  q.Dequantize(0, levels.view());

  LinearReport report;
  const std::vector<float> after = Corrected(measured, 1, DType::kF32, report);

  EXPECT_EQ(report.bias_rows, 1.0);
  double change = 0;
  for (Index row = 0; row < kOut; ++row) {
    const double added = static_cast<double>(after[Size(row)]) - 0.25;
    const double least = share.Error(w.view(), levels.view(), added, row);
    for (const double step : {-1e-3, 1e-3}) {  // a minimum: both neighbours are above
      EXPECT_LT(least, share.Error(w.view(), levels.view(), added + step, row)) << row;
    }
    change += least - share.Error(w.view(), levels.view(), 0, row);
  }
  EXPECT_NEAR(report.bias_change, change, 1e-4 * std::fabs(change));
}

TEST_P(CorrectedBiasTest, NeverRaisesTheErrorOnTheTokensHeldOutWhateverTheType) {
  const Share fitted(seed), held_out(seed + 100);
  CalibrationStatistics measured;
  measured.fit = fitted.Statistics();
  measured.held_out = held_out.Statistics();
  // Another mean where it is judged, so that some rows are better left alone.
  for (Index r = 0; r < kOut; r += 2) measured.held_out.sums.residual(0, r) -= 0.8 * kTokens;
  Matrix<float> levels(kOut, kIn);
  q.Dequantize(0, levels.view());
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    LinearReport report;
    const std::vector<float> after = Corrected(measured, 0.5, type, report);
    Index changed = 0;
    for (Index row = 0; row < kOut; ++row) {
      const float value = after[Size(row)];
      EXPECT_EQ(value, Stored(value, type));
      if (value == 0.25f) continue;
      ++changed;
      const double added = static_cast<double>(value) - 0.25;
      // The shifted residual of even rows is an error sum that is lower by a constant a token.
      const double shift = row % 2 == 0 ? 0.8 : 0.0;
      EXPECT_LT(held_out.Error(w.view(), levels.view(), added + shift, row),
                held_out.Error(w.view(), levels.view(), shift, row))
          << row;
    }
    EXPECT_EQ(*report.bias_rows, static_cast<double>(changed) / kOut);
    EXPECT_GT(changed, 0);
    EXPECT_LT(changed, kOut);
    EXPECT_LT(report.bias_change, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CorrectedBiasTest, testing::Range<std::uint64_t>(1, 9));

}  // namespace
}  // namespace lieq
