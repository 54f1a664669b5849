#include "lieq/quantize/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "lieq/linalg/linalg.h"
#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/grid_fit.h"
#include "lieq/quantize/quantizers.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

bool Same(const QMatrix& a, const QMatrix& b) {
  return std::ranges::equal(a.words(), b.words()) &&
         std::memcmp(a.scales().data(), b.scales().data(),
                     Size(a.scales().size()) * sizeof(float)) == 0;
}

/// trace(E (H + damping * mean diagonal) Eᵀ) with E = W - Q, straight from the definition.
double Loss(View<const float, 2> w, const QMatrix& q, View<const double, 2> gram, double damping) {
  const Index n = w.cols();
  Matrix<float> wide(w.rows(), n);
  q.Dequantize(0, wide.view());
  double mean = 0;
  for (Index j = 0; j < n; ++j) mean += gram(j, j) / static_cast<double>(n);
  double loss = 0;
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index i = 0; i < n; ++i) {
      const double ei = static_cast<double>(w(r, i)) - static_cast<double>(wide(r, i));
      loss += damping * mean * ei * ei;
      for (Index j = 0; j < n; ++j) {
        const double ej = static_cast<double>(w(r, j)) - static_cast<double>(wide(r, j));
        loss += ei * gram(i, j) * ej;
      }
    }
  }
  return loss;
}

/// The algorithm as it is usually written: the upper Cholesky factor of the inverse of H, each
/// error spread over the columns not yet rounded (Frantar et al., arXiv:2210.17323, Algorithm 1).
Matrix<std::uint8_t> TextbookCodes(View<const float, 2> w, View<const double, 2> gram,
                                   double damping, const QMatrix& fitted) {
  const Index n = w.cols();
  Matrix<double> h(n, n), inverse(n, n);
  double mean = 0;
  for (Index j = 0; j < n; ++j) mean += gram(j, j) / static_cast<double>(n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) h(i, j) = gram(i, j) + (i == j ? damping * mean : 0);
    inverse(i, i) = 1;
  }
  for (Index p = 0; p < n; ++p) {  // Gauss-Jordan; the matrix is positive definite
    const double pivot = h(p, p);
    for (Index j = 0; j < n; ++j) h(p, j) /= pivot, inverse(p, j) /= pivot;
    for (Index i = 0; i < n; ++i) {
      const double factor = h(i, p);
      if (i == p || factor == 0) continue;
      for (Index j = 0; j < n; ++j) {
        h(i, j) -= factor * h(p, j);
        inverse(i, j) -= factor * inverse(p, j);
      }
    }
  }
  EXPECT_TRUE(Cholesky(inverse.view()));  // lower L; the upper factor is its transpose
  Matrix<std::uint8_t> codes(w.rows(), n);
  for (Index r = 0; r < w.rows(); ++r) {
    std::vector<double> row(w.Row(r).begin(), w.Row(r).end());
    for (Index k = 0; k < n; ++k) {
      const GroupFit fit = GroupFit::AtZero(fitted.scales()(r, k / fitted.group_columns()),
                                            fitted.grid().shared_zero());
      const std::uint8_t code = NearestCode(row[Size(k)], fit, fitted.grid().levels());
      codes(r, k) = code;
      const double error = (row[Size(k)] - fit.Level(code)) / inverse(k, k);
      for (Index j = k + 1; j < n; ++j) row[Size(j)] -= error * inverse(j, k);
    }
  }
  return codes;
}

/// The row gptq, from statistics to codes.
QMatrix QuantizeGptq(View<const float, 2> w, const Matrix<double>& gram, const Grid& grid,
                     QuantOptions options, Context& context, LinearReport& report) {
  options.method = "gptq";
  options = WithDefaults(options);
  CalibrationStatistics statistics;
  statistics.fit.gram = gram.Clone();
  return FindQuantizer("gptq")
      .begin(std::move(statistics), options, context)
      ->Quantize(w, grid, 1, report);
}

struct Param {
  int bits;
  Index group;
  Offset offset;
  ActOrder order;
};
class Gptq : public testing::TestWithParam<Param> {};

TEST_P(Gptq, ReportsItsLossExactlyAndBeatsRounding) {
  const auto [bits, group, offset, order] = GetParam();
  const Grid grid{.bits = bits, .group_size = group, .offset = offset};
  QuantOptions options;
  options.act_order = order;
  const Matrix<float> w = RandomMatrix(22, 256, 3, 0.02);
  const Matrix<double> gram = GramOf(CorrelatedInputs(300, 256, 4).view());
  TestContext test;

  LinearReport report, rtn_report;
  const QMatrix q = QuantizeGptq(w.view(), gram, grid, options, test.context, report);
  const QMatrix rtn = QuantizeRtn(w.view(), {}, grid, Clip::kSearch, test.context, rtn_report);

  // The identity of LDLQ: the sum over columns of what was predicted is the loss, clipping
  // included.
  const double loss = Loss(w.view(), q, gram.view(), options.damping);
  EXPECT_NEAR(report.error, loss, 1e-3 * loss);  // in float, each miss a part of a step
  const QMatrix zero(22, 256, {.bits = 2, .group_size = 0});  // scales of 0: E is W itself
  EXPECT_NEAR(report.signal, Loss(w.view(), zero, gram.view(), options.damping),
              1e-5 * report.signal);
  EXPECT_LT(loss, Loss(w.view(), rtn, gram.view(), options.damping));
}
INSTANTIATE_TEST_SUITE_P(Grids, Gptq,
                         testing::Values(Param{2, 64, Offset::kSymmetric, ActOrder::kStatic},
                                         Param{2, 32, Offset::kSymmetric, ActOrder::kNone},
                                         Param{2, 64, Offset::kSymmetric, ActOrder::kGroup},
                                         Param{2, 128, Offset::kInteger, ActOrder::kStatic},
                                         Param{3, 64, Offset::kSymmetric, ActOrder::kStatic},
                                         Param{3, 256, Offset::kInteger, ActOrder::kGroup},
                                         Param{4, 0, Offset::kSymmetric, ActOrder::kStatic},
                                         Param{4, 64, Offset::kInteger, ActOrder::kNone},
                                         Param{8, 64, Offset::kSymmetric, ActOrder::kStatic},
                                         Param{2, 256, Offset::kSymmetric, ActOrder::kNone},
                                         Param{2, 0, Offset::kInteger, ActOrder::kGroup},
                                         Param{2, 64, Offset::kHalf, ActOrder::kStatic},
                                         Param{4, 0, Offset::kHalf, ActOrder::kGroup},
                                         Param{2, 64, Offset::kFloat, ActOrder::kStatic},
                                         Param{2, 32, Offset::kFloat, ActOrder::kNone},
                                         Param{3, 128, Offset::kFloat, ActOrder::kGroup},
                                         Param{4, 0, Offset::kFloat, ActOrder::kStatic},
                                         Param{8, 64, Offset::kFloat, ActOrder::kStatic}));

TEST(Gptq, GivesTheTextbookCodes) {
  // One group, so that scales are fitted before the pass in either form; columns left to right.
  const Grid grid{.bits = 3, .group_size = 0};
  QuantOptions options;
  options.act_order = ActOrder::kNone;
  const Matrix<float> w = RandomMatrix(33, 160, 5, 0.02);
  const Matrix<double> gram = GramOf(CorrelatedInputs(400, 160, 6).view());
  TestContext test;
  LinearReport report;

  const QMatrix q = QuantizeGptq(w.view(), gram, grid, options, test.context, report);

  const Matrix<std::uint8_t> expected = TextbookCodes(w.view(), gram.view(), options.damping, q);
  std::vector<std::uint8_t> codes(160);
  for (Index r = 0; r < 33; ++r) {
    q.GetRow(r, codes);
    for (Index c = 0; c < 160; ++c) ASSERT_EQ(codes[Size(c)], expected(r, c)) << r << ", " << c;
  }
}

TEST(Gptq, IsTheSameForAnyNumberOfThreads) {
  const Grid grid{.bits = 2, .group_size = 32};
  const QuantOptions options;
  const Matrix<float> w = RandomMatrix(200, 96, 7, 0.02);
  const Matrix<double> gram = GramOf(CorrelatedInputs(300, 96, 8).view());
  std::vector<QMatrix> results;
  std::vector<LinearReport> reports(3);
  for (const int threads : {1, 2, 7}) {
    TestContext test(threads);
    results.push_back(
        QuantizeGptq(w.view(), gram, grid, options, test.context, reports[results.size()]));
  }
  EXPECT_TRUE(Same(results[0], results[1]) && Same(results[0], results[2]));
  EXPECT_EQ(reports[0].error, reports[2].error);
}

TEST(Gptq, IsNearestRoundingWhereInputsAreIndependent) {
  const Grid grid{.bits = 2, .group_size = 32};
  const QuantOptions options;
  Matrix<double> gram(64, 64);
  for (Index j = 0; j < 64; ++j) gram(j, j) = 5;
  const Matrix<float> w = RandomMatrix(20, 64, 9);
  TestContext test;
  LinearReport report;

  const QMatrix q = QuantizeGptq(w.view(), gram, grid, options, test.context, report);

  EXPECT_TRUE(Same(q, QuantizeRtn(w.view(), {}, grid, Clip::kSearch, test.context, report)));
}

TEST(Gptq, RoundsDeadColumnsToNearestAndCountsThem) {
  const Grid grid{.bits = 4, .group_size = 32};
  const QuantOptions options;
  Matrix<float> x = CorrelatedInputs(200, 64, 10);
  for (Index r = 0; r < 200; ++r) x(r, 3) = x(r, 40) = 0;
  const Matrix<float> w = RandomMatrix(20, 64, 11);
  TestContext test;
  LinearReport report;

  const QMatrix q = QuantizeGptq(w.view(), GramOf(x.view()), grid, options, test.context, report);

  EXPECT_EQ(report.dead_columns, 2);
  std::vector<std::uint8_t> codes(64);
  for (Index r = 0; r < 20; ++r) {
    q.GetRow(r, codes);
    for (const Index c : {3, 40}) {
      const GroupFit fit = GroupFit::AtZero(q.scales()(r, c / 32), 8);
      EXPECT_EQ(codes[Size(c)], NearestCode(static_cast<double>(w(r, c)), fit, 16));
    }
  }
}

TEST(Gptq, RaisesDampingWhereTheGramMatrixIsSingular) {
  const Grid grid{.bits = 4, .group_size = 32};
  QuantOptions options;
  options.damping = 0;
  const Matrix<double> gram = GramOf(RandomMatrix(5, 64, 12).view());  // rank 5 of 64

  const GptqFactor factor = FactorGram(BothTriangles(gram.view()).view(), grid, options);

  EXPECT_FALSE(factor.order.empty());
  EXPECT_GT(factor.damping, 0);
  EXPECT_GE(factor.retries, 1);
}

TEST(Gptq, FallsBackToRoundingWhereNoDampingHelps) {
  const Grid grid{.bits = 2, .group_size = 32};
  const QuantOptions options = WithDefaults({.method = "gptq"});
  Matrix<double> gram(64, 64);  // not a Gram matrix at all
  for (Index i = 0; i < 64; ++i) {
    for (Index j = 0; j <= i; ++j) gram(i, j) = i == j ? 1 : 50;
  }
  ASSERT_TRUE(FactorGram(BothTriangles(gram.view()).view(), grid, options).order.empty());
  TestContext test;
  LinearReport report;
  const Matrix<float> w = RandomMatrix(20, 64, 13);

  const QMatrix q = QuantizeGptq(w.view(), gram, grid, options, test.context, report);

  EXPECT_TRUE(report.fell_back);
  EXPECT_TRUE(Same(q, QuantizeRtn(w.view(), {}, grid, Clip::kSearch, test.context, report)));
}

}  // namespace
}  // namespace lieq
