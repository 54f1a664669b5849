#include "lieq/quantize/target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "lieq/linalg/linalg.h"
#include "lieq/quantize/calibrated.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

/// aᵀ b, summed in double
Matrix<float> Cross(View<const float, 2> a, View<const float, 2> b) {
  Matrix<float> sums(a.cols(), b.cols());
  for (Index i = 0; i < a.cols(); ++i) {
    for (Index j = 0; j < b.cols(); ++j) {
      double sum = 0;
      for (Index t = 0; t < a.rows(); ++t) {
        sum += static_cast<double>(a(t, i)) * static_cast<double>(b(t, j));
      }
      sums(i, j) = static_cast<float>(sum);
    }
  }
  return sums;
}

Matrix<float> Difference(View<const float, 2> a, View<const float, 2> b) {
  Matrix<float> out(a.rows(), a.cols());
  for (Index r = 0; r < a.rows(); ++r) {
    for (Index c = 0; c < a.cols(); ++c) out(r, c) = a(r, c) - b(r, c);
  }
  return out;
}

struct Drifted {
  Matrix<float> w = RandomMatrix(24, 48, 1, 0.1);
  Matrix<float> x = CorrelatedInputs(400, 48, 2);   // of the float model
  Matrix<float> u;                                  // of the quantized one
  Matrix<float> stream = RandomMatrix(400, 24, 4);  // r - r_u
  UnitStatistics statistics;
  TestContext test;

  Drifted() {
    const Matrix<float> noise = RandomMatrix(400, 48, 3, 0.1);
    u = Difference(x.view(), noise.view());
    statistics = {.gram = GramOf(u.view()),
                  .drift = Cross(noise.view(), u.view()),
                  .missing = Cross(stream.view(), u.view())};
  }
  /// Made of two parts: rows know nothing of one another.
  Matrix<float> Target(const UnitStatistics& sums, const GptqFactor& factor, double strength) {
    Matrix<float> target(24, 48), missing = sums.missing.Clone();
    for (Index i = 0; i < missing.size(); ++i) {
      missing.data()[i] *= static_cast<float>(strength);
    }
    for (const Index first : {0, 7}) {
      const Index rows = first == 0 ? 7 : 17;
      const Matrix<float> part = CorrectedTarget(
          std::as_const(w).view().Rows(first, rows), first,
          {.drift = sums.drift.view(), .missing = missing.view(), .drift_strength = strength},
          factor);
      std::copy_n(part.data(), part.size(), target.view().Row(first).data());
    }
    return target;
  }
  QMatrix Quantized(std::uint64_t seed) {
    LinearReport report;
    return QuantizeRtn(RandomMatrix(24, 48, seed, 0.1).view(), {}, {.bits = 4, .group_size = 16},
                       Clip::kSearch, test.context, report);
  }
  /// Sum over tokens of |W x + r - (Q u + r_u)|² of one row.
  double Error(const QMatrix& q, Index row) {
    Matrix<float> levels(1, 48);
    q.Dequantize(row, levels.view());
    double total = 0;
    for (Index t = 0; t < 400; ++t) {
      auto miss = static_cast<double>(stream(t, row));
      for (Index c = 0; c < 48; ++c) {
        miss += static_cast<double>(w(row, c)) * static_cast<double>(x(t, c)) -
                static_cast<double>(levels(0, c)) * static_cast<double>(u(t, c));
      }
      total += miss * miss;
    }
    return total;
  }
};

TEST(OutputErrors, AreThoseOfTheTokensLessAConstant) {
  Drifted d;
  const QMatrix a = d.Quantized(10), b = d.Quantized(11);
  const std::vector<double> of_a =
      OutputErrors(d.w.view(), a, OutputStatisticsOf(d.statistics), d.test.context);
  const std::vector<double> of_b =
      OutputErrors(d.w.view(), b, OutputStatisticsOf(d.statistics), d.test.context);
  for (Index row = 0; row < 24; ++row) {
    const double expected = d.Error(a, row) - d.Error(b, row);
    EXPECT_NEAR(of_a[Size(row)] - of_b[Size(row)], expected,
                1e-4 * (d.Error(a, row) + d.Error(b, row)));
  }
}

TEST(OutputErrors, AreTheSameByTokensAsBySums) {
  Drifted d;
  // m: the stream, and what W makes of x - u.
  OutputStatistics tokens{.inputs = d.u.Clone(), .missed = d.stream.Clone()};
  Gemm(1.0f, Difference(d.x.view(), d.u.view()).view(), Transpose::kNo, d.w.view(), Transpose::kYes,
       1.0f, tokens.missed.view());
  for (const double multiple : {1.0, 4.0}) {
    Matrix<float> w = d.w.Clone();
    for (Index i = 0; i < w.size(); ++i) w.data()[i] *= static_cast<float>(multiple);
    const QMatrix q = d.Quantized(10);
    const std::vector<double> by_sums =
        OutputErrors(w.view(), q, OutputStatisticsOf(d.statistics), d.test.context, multiple);
    const std::vector<double> by_tokens =
        OutputErrors(w.view(), q, tokens, d.test.context, multiple);
    for (Index row = 0; row < 24; ++row) {
      EXPECT_NEAR(by_tokens[Size(row)], by_sums[Size(row)], 1e-4 * multiple * d.Error(q, row));
    }
  }
}

TEST(CorrectedTarget, IsTheMinimumOfTheOutputError) {
  // With full strength and no damping, the error of any Q is a constant plus the quadratic of its
  // distance to the target.
  Drifted d;
  const GptqFactor factor = FactorGram(BothTriangles(d.statistics.gram.view()).view(),
                                       {.group_size = 16}, {.damping = 0});
  ASSERT_EQ(factor.damping, 0);
  const Matrix<float> target = d.Target(d.statistics, factor, 1);
  const auto quadratic = [&](const QMatrix& q, Index row) {
    Matrix<float> levels(1, 48);
    q.Dequantize(row, levels.view());
    double total = 0;
    for (Index i = 0; i < 48; ++i) {
      for (Index j = 0; j < 48; ++j) {
        total += static_cast<double>(target(row, i) - levels(0, i)) *
                 d.statistics.gram(std::max(i, j), std::min(i, j)) *
                 static_cast<double>(target(row, j) - levels(0, j));
      }
    }
    return total;
  };
  const QMatrix a = d.Quantized(10), b = d.Quantized(11);
  for (Index row = 0; row < 24; ++row) {
    const double expected = d.Error(a, row) - d.Error(b, row);
    EXPECT_NEAR(quadratic(a, row) - quadratic(b, row), expected,
                1e-4 * (d.Error(a, row) + d.Error(b, row)));
  }
}

TEST(CorrectedTarget, IsTheWeightsWhereNothingIsToBeCorrected) {
  Drifted d;
  const GptqFactor factor =
      FactorGram(BothTriangles(d.statistics.gram.view()).view(), {.group_size = 16}, {});
  const Matrix<float> none = d.Target(d.statistics, factor, 0);
  const UnitStatistics alone{.gram = GramOf(d.u.view()), .drift = {}, .missing = {}};
  const Matrix<float> unknown = d.Target(alone, factor, 1);
  for (Index r = 0; r < 24; ++r) {
    for (Index c = 0; c < 48; ++c) {
      ASSERT_EQ(none(r, c), d.w(r, c));
      ASSERT_EQ(unknown(r, c), d.w(r, c));
    }
  }
}

}  // namespace
}  // namespace lieq
