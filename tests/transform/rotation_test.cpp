#include "lieq/transform/rotation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

/// R, row after row: what Apply makes of the unit vectors.
Matrix<double> Dense(const Rotation& rotation) {
  Matrix<double> r(rotation.size(), rotation.size());
  for (Index i = 0; i < r.rows(); ++i) {
    r(i, i) = 1;
    rotation.Apply(r.view().Row(i));
  }
  return r;
}

constexpr Index kSizes[] = {1,  2,  3,  7,   12,  15,  20,  28,  30, 36,
                            64, 75, 96, 112, 128, 180, 192, 576, 896};

TEST(Rotation, IsOrthogonalForAnySize) {
  for (const Index size : kSizes) {
    for (const std::uint64_t seed : {0, 1, 7}) {
      const Matrix<double> r = Dense(Rotation(size, seed, 3));
      double worst = 0;
      for (Index i = 0; i < size; ++i) {
        for (Index j = 0; j <= i; ++j) {
          const double *a = &r(i, 0), *b = &r(j, 0);
          const double dot = std::inner_product(a, a + size, b, 0.0);
          worst = std::max(worst, std::fabs(dot - (i == j ? 1.0 : 0.0)));
        }
      }
      EXPECT_LT(worst, 1e-12) << size << ", seed " << seed;
    }
  }
}

TEST(Rotation, SpreadsEveryChannelEvenlyWhereThereIsAHadamardFactor) {
  for (const Index size : {2, 12, 20, 28, 36, 64, 96, 112, 128, 180, 192, 576, 896}) {
    const Matrix<double> r = Dense(Rotation(size, 5, 0));
    for (Index i = 0; i < r.size(); ++i) {
      EXPECT_NEAR(std::fabs(r.data()[i]), 1 / std::sqrt(static_cast<double>(size)), 1e-12) << size;
    }
  }
}

TEST(Rotation, TakesTheSmallestFactorThereIs) {
  for (const auto& [size, order] : {std::pair<Index, Index>{128, 1},
                                    {576, 36},
                                    {896, 28},
                                    {1536, 12},
                                    {960, 60},
                                    {15, 15},
                                    {30, 15}}) {
    EXPECT_EQ(Rotation(size, 0, 0).base_order(), order) << size;
  }
}

TEST(Rotation, DependsOnSeedAndStreamAlone) {
  for (const Index size : {15, 36, 64}) {
    const auto dense = [&](std::uint64_t seed, std::uint64_t stream) {
      const Matrix<double> r = Dense(Rotation(size, seed, stream));
      return std::vector<double>(r.data(), r.data() + r.size());
    };
    EXPECT_EQ(dense(1, 2), dense(1, 2));
    EXPECT_NE(dense(1, 2), dense(2, 2));
    EXPECT_NE(dense(1, 2), dense(1, 3));
  }
}

TEST(Rotation, TurnsColumnsAndRowsAsTheDenseProductDoes) {
  TestContext test;
  for (const Index size : {1, 12, 15, 64}) {
    const Rotation rotation(size, 11, 0);
    const Matrix<double> r = Dense(rotation);
    const Index first = 5;
    const Matrix<float> w = RandomMatrix(size + 9, size + 9, 3);
    Matrix<float> columns = w.Clone(), rows = w.Clone();

    RotateColumns(rotation, first, columns.view(), test.context);
    RotateRows(rotation, first, rows.view(), test.context);
    std::vector<float> bias(w.data(), w.data() + w.cols());
    RotateBias(rotation, first, bias);

    const auto inside = [&](Index i) { return i >= first && i < first + size; };
    for (Index i = 0; i < w.rows(); ++i) {
      for (Index j = 0; j < w.cols(); ++j) {
        double right = static_cast<double>(w(i, j)), left = right;
        if (inside(j)) {
          right = 0;
          for (Index k = 0; k < size; ++k)
            right += static_cast<double>(w(i, first + k)) * r(k, j - first);
        }
        if (inside(i)) {
          left = 0;
          for (Index k = 0; k < size; ++k)
            left += r(k, i - first) * static_cast<double>(w(first + k, j));
        }
        EXPECT_NEAR(columns(i, j), right, 1e-5);
        EXPECT_NEAR(rows(i, j), left, 1e-5);
        if (i == 0) {
          EXPECT_NEAR(bias[Size(j)], right, 1e-5);
        }
      }
    }
  }
}

}  // namespace
}  // namespace lieq
