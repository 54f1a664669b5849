#include "lieq/diagnose/activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "lieq/base/rng.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

ActivationMeasures Measure(const Matrix<float>& before, const Matrix<float>& after,
                           int threads = 2) {
  ThreadPool pool(threads);
  Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  return MeasureActivations(before.view(), after.view(), 7, context);
}

Matrix<float> Of(Index rows, Index cols, const std::vector<float>& values) {
  Matrix<float> matrix(rows, cols);
  std::copy(values.begin(), values.end(), matrix.data());
  return matrix;
}

Matrix<float> Gaussian(Index rows, Index cols, std::uint64_t seed) {
  Rng rng(seed);
  Matrix<float> matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<float>(rng.Normal());
  return matrix;
}

TEST(Activations, InfluenceIsOneMinusTheMeanCosine) {
  // Cosines: 1 (scaled), 0 (turned by a right angle), -1 (turned around), 0.6.
  const Matrix<float> before = Of(4, 2, {1, 2, 1, 0, 3, 4, 5, 0});
  const Matrix<float> after = Of(4, 2, {10, 20, 0, 9, -3, -4, 3, 4});

  EXPECT_NEAR(Measure(before, after).block_influence, 1 - (1 + 0 - 1 + 0.6) / 4, 1e-15);
  EXPECT_NEAR(Measure(before, before).block_influence, 0, 1e-15);
}

TEST(Activations, ATokenOfZerosCountsAsTurnedUnlessItStays) {
  const Matrix<float> zeros(1, 3), ones = Of(1, 3, {1, 1, 1});
  EXPECT_EQ(Measure(zeros, ones).block_influence, 1);
  EXPECT_EQ(Measure(ones, zeros).block_influence, 1);
  EXPECT_EQ(Measure(zeros, zeros).block_influence, 0);
}

TEST(Activations, LargestIsComparedWithTheMedian) {
  const ActivationMeasures odd = Measure(Matrix<float>(1, 3), Of(1, 3, {-8, 2, 1}));
  EXPECT_EQ(odd.largest, 8);
  EXPECT_EQ(odd.ratio, 4);
  const ActivationMeasures even = Measure(Matrix<float>(2, 2), Of(2, 2, {1, -3, 5, 16}));
  EXPECT_EQ(even.largest, 16);
  EXPECT_EQ(even.ratio, 4);
  EXPECT_FALSE(Measure(Matrix<float>(1, 3), Of(1, 3, {0, 0, 9})).ratio) << "the median is 0";
}

TEST(Activations, AreTheSameForAnyNumberOfThreads) {
  const Matrix<float> before = Gaussian(1001, 33, 1), after = Gaussian(1001, 33, 2);
  const ActivationMeasures one = Measure(before, after, 1);

  for (const int threads : {2, 3, 7}) {
    const ActivationMeasures other = Measure(before, after, threads);
    EXPECT_EQ(one.block_influence, other.block_influence);
    EXPECT_EQ(one.largest, other.largest);
    EXPECT_EQ(one.ratio, other.ratio);
  }
  EXPECT_NEAR(one.block_influence, 1, 0.05) << "independent directions";
}

TEST(Activations, NameTheLayerWhereNumbersEnd) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Matrix<float> after = Gaussian(100, 8, 2);
    after(90, 3) = bad;
    const std::string error = ErrorOf([&] { return Measure(Gaussian(100, 8, 1), after); });
    EXPECT_NE(error.find("layer 7, output"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace lieq
