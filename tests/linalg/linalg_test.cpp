#include "lieq/linalg/linalg.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/base/thread_pool.h"

namespace lieq {
namespace {

constexpr Index kPadding = 3;  // columns of a stride that no one may touch

/// A random matrix inside a wider buffer whose padding holds NaN: reading it shows in every sum.
template <class T>
struct Padded {
  Matrix<T> buffer;
  View<T, 2> view;

  Padded(Index rows, Index cols, Rng& rng) : buffer(rows, cols + kPadding) {
    for (Index i = 0; i < buffer.size(); ++i) {
      buffer.data()[i] = std::numeric_limits<T>::quiet_NaN();
    }
    view = View<T, 2>(buffer.data(), rows, cols, cols + kPadding);
    for (Index r = 0; r < rows; ++r) {
      for (T& value : view.Row(r)) value = static_cast<T>(rng.Normal());
    }
  }
};

Index Draw(Rng& rng, Index least, Index most) {
  return least + rng.Below(static_cast<std::uint32_t>(most - least + 1));
}

template <class T>
double Element(View<const T, 2> a, Transpose transposed, Index row, Index col) {
  return static_cast<double>(transposed == Transpose::kYes ? a(col, row) : a(row, col));
}

/// The error bound of a dot product of k terms in any order: k eps sum |a||b|, and of alpha, beta.
template <class T>
double Bound(Index k, double magnitude) {
  return static_cast<double>(k + 4) * static_cast<double>(std::numeric_limits<T>::epsilon()) *
         magnitude;
}

template <class T>
void CheckGemm(std::uint64_t seed) {
  Rng rng(seed);
  const Index m = Draw(rng, 1, 37), n = Draw(rng, 1, 37), k = Draw(rng, 1, 70);
  const auto ta = static_cast<Transpose>(rng.Below(2) == 1);
  const auto tb = static_cast<Transpose>(rng.Below(2) == 1);
  const Padded<T> a = ta == Transpose::kYes ? Padded<T>(k, m, rng) : Padded<T>(m, k, rng);
  const Padded<T> b = tb == Transpose::kYes ? Padded<T>(n, k, rng) : Padded<T>(k, n, rng);
  Padded<T> c(m, n, rng);
  const Matrix<T> before = c.buffer.Clone();
  const T alpha = static_cast<T>(rng.Normal()), beta = rng.Below(2) == 1 ? T(0.5) : T(0);

  Gemm(alpha, View<const T, 2>(a.view), ta, View<const T, 2>(b.view), tb, beta, c.view);

  for (Index row = 0; row < m; ++row) {
    for (Index col = 0; col < n; ++col) {
      double sum = 0, magnitude = 0;
      for (Index i = 0; i < k; ++i) {
        const double term = Element<T>(a.view, ta, row, i) * Element<T>(b.view, tb, i, col) * alpha;
        sum += term;
        magnitude += std::fabs(term);
      }
      const double old = static_cast<double>(beta) * before(row, col);
      ASSERT_NEAR(c.view(row, col), sum + old, Bound<T>(k, magnitude + std::fabs(old)))
          << m << " x " << n << " x " << k << " at " << row << ", " << col;
    }
    for (Index pad = n; pad < n + kPadding; ++pad) ASSERT_TRUE(std::isnan(c.buffer(row, pad)));
  }
}

class LinalgProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, LinalgProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{50}));

TEST_P(LinalgProperty, GemmOfFloatsAgreesWithTheSumOfProducts) {
  CheckGemm<float>(GetParam());
}

TEST_P(LinalgProperty, GemmOfDoublesAgreesWithTheSumOfProducts) {
  CheckGemm<double>(GetParam());
}

TEST_P(LinalgProperty, MultiplyByLowerReadsTheLowerTriangleAlone) {
  Rng rng(GetParam());
  const Index m = Draw(rng, 1, 40), n = Draw(rng, 1, 40);
  Padded<double> b(m, n, rng), l(n, n, rng);
  const Matrix<double> before = b.buffer.Clone();
  for (Index i = 0; i < n; ++i) {
    for (Index j = i + 1; j < n; ++j) l.view(i, j) = std::numeric_limits<double>::quiet_NaN();
  }

  MultiplyByLower(b.view, l.view);

  for (Index row = 0; row < m; ++row) {
    for (Index col = 0; col < n; ++col) {
      double sum = 0, magnitude = 0;
      for (Index i = col; i < n; ++i) {
        sum += before(row, i) * l.view(i, col);
        magnitude += std::fabs(before(row, i) * l.view(i, col));
      }
      ASSERT_NEAR(b.view(row, col), sum, Bound<double>(n, magnitude));
    }
  }
}

TEST_P(LinalgProperty, DivideByUnitLowerSolvesWhatMultiplyingByTheTriangleMade) {
  Rng rng(GetParam());
  const Index m = Draw(rng, 1, 40), n = Draw(rng, 1, 40);
  for (const Transpose transposed : {Transpose::kNo, Transpose::kYes}) {
    const Padded<float> x(m, n, rng);
    Padded<float> l(n, n, rng), b(m, n, rng);
    float size = 1;  // of the largest solution that rounding errors can grow to
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < i; ++j) l.view(i, j) /= static_cast<float>(n);
      for (Index j = i; j < n; ++j) l.view(i, j) = std::numeric_limits<float>::quiet_NaN();
    }
    for (Index row = 0; row < m; ++row) {
      for (Index col = 0; col < n; ++col) {
        float sum = x.view(row, col);  // the diagonal of ones
        for (Index i = 0; i < n; ++i) {
          if (transposed == Transpose::kNo ? i > col : i < col) {
            sum +=
                x.view(row, i) * (transposed == Transpose::kNo ? l.view(i, col) : l.view(col, i));
          }
        }
        b.view(row, col) = sum;
        size = std::max(size, std::fabs(x.view(row, col)));
      }
    }

    DivideByUnitLower(b.view, l.view, transposed);

    for (Index row = 0; row < m; ++row) {
      for (Index col = 0; col < n; ++col) {
        ASSERT_NEAR(b.view(row, col), x.view(row, col), 1e-5f * size);
      }
    }
  }
}

TEST_P(LinalgProperty, CholeskyByBlocksIsTheFactorWithAnyNumberOfThreads) {
  Rng rng(GetParam());
  const Index n = GetParam() < 3 ? Draw(rng, 250, 700) : Draw(rng, 1, 40);  // more than one block
  Matrix<double> x(n + 5, n), a(n, n);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = rng.Normal();
  Gram(x.view(), Transpose::kYes, a.view());
  std::vector<Matrix<double>> factors;
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    factors.push_back(a.Clone());
    ASSERT_TRUE(Cholesky(factors.back().view(), pool));
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j <= i; ++j) ASSERT_EQ(factors.back()(i, j), factors.front()(i, j));
    }
  }
  const Matrix<double>& l = factors.front();
  for (Index i = 0; i < n; i += 1 + n / 40) {
    for (Index j = 0; j <= i; j += 1 + n / 40) {
      double sum = 0;
      for (Index k = 0; k <= j; ++k) sum += l(i, k) * l(j, k);
      ASSERT_NEAR(sum, a(i, j), 1e-9 * static_cast<double>(n));
    }
  }
  Matrix<double> indefinite = a.Clone();
  indefinite(n - 1, n - 1) = -1;  // found in the last block
  ThreadPool pool(2);
  EXPECT_FALSE(Cholesky(indefinite.view(), pool));
}

TEST_P(LinalgProperty, GramWritesTheLowerTriangleAlone) {
  Rng rng(GetParam());
  const auto transposed = static_cast<Transpose>(rng.Below(2) == 1);
  const Padded<double> a(Draw(rng, 1, 40), Draw(rng, 1, 40), rng);
  const bool columns = transposed == Transpose::kYes;
  const Index n = columns ? a.view.cols() : a.view.rows();
  const Index k = columns ? a.view.rows() : a.view.cols();
  Padded<double> c(n, n, rng);
  const Matrix<double> before = c.buffer.Clone();

  Gram(a.view, transposed, c.view);

  for (Index row = 0; row < n; ++row) {
    for (Index col = 0; col < n; ++col) {
      if (col > row) {
        ASSERT_EQ(c.view(row, col), before(row, col));
        continue;
      }
      double sum = 0, magnitude = 0;
      for (Index i = 0; i < k; ++i) {
        const double term =
            columns ? a.view(i, row) * a.view(i, col) : a.view(row, i) * a.view(col, i);
        sum += term;
        magnitude += std::fabs(term);
      }
      ASSERT_NEAR(c.view(row, col), sum, Bound<double>(k, magnitude));
    }
  }
}

TEST_P(LinalgProperty, CholeskyGivesAFactorThatMultipliesBack) {
  Rng rng(GetParam());
  const Index n = Draw(rng, 1, 150);  // past the block size of dpotrf
  const Padded<double> x(2 * n, n, rng);
  Padded<double> a(n, n, rng);
  Gram(x.view, Transpose::kYes, a.view);
  const Matrix<double> before = a.buffer.Clone();

  ASSERT_TRUE(Cholesky(a.view));

  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      if (j > i) {
        ASSERT_EQ(a.view(i, j), before(i, j)) << "the upper triangle was written";
        continue;
      }
      double sum = 0;
      for (Index t = 0; t <= j; ++t) sum += a.view(i, t) * a.view(j, t);
      // Backward error of Cholesky: (n + 1) eps sqrt(a_ii a_jj) (Higham, "Accuracy", thm 10.3).
      ASSERT_NEAR(sum, before(i, j), Bound<double>(2 * n, std::sqrt(before(i, i) * before(j, j))));
    }
  }
}

TEST_P(LinalgProperty, EigenvaluesAreThoseOfTheMatrixThatWasBuiltFromThem) {
  // Q diag(values) Qᵀ by Householder reflections, whose eigenvalues are known beforehand.
  Rng rng(GetParam());
  const Index n = Draw(rng, 1, 60);
  std::vector<double> values(Size(n));
  double largest = 0;
  for (Index i = 0; i < n; ++i) {
    values[Size(i)] = static_cast<double>(i) - static_cast<double>(n) / 2 + rng.Uniform() / 2;
    largest = std::max(largest, std::fabs(values[Size(i)]));
  }
  Matrix<double> a(n, n);
  for (Index i = 0; i < n; ++i) a(i, i) = values[Size(i)];
  for (int reflection = 0; reflection < 3; ++reflection) {
    std::vector<double> v(Size(n));
    double norm = 0;
    for (double& entry : v) {
      entry = rng.Normal();
      norm += entry * entry;
    }
    for (const bool by_rows : {false, true}) {
      for (Index i = 0; i < n; ++i) {
        double dot = 0;
        for (Index j = 0; j < n; ++j) dot += v[Size(j)] * (by_rows ? a(i, j) : a(j, i));
        for (Index j = 0; j < n; ++j) {
          (by_rows ? a(i, j) : a(j, i)) -= 2 * dot / norm * v[Size(j)];
        }
      }
    }
  }
  for (Index i = 0; i < n; ++i) {
    for (Index j = i + 1; j < n; ++j) a(i, j) = std::numeric_limits<double>::quiet_NaN();
  }

  const std::vector<double> found = SymmetricEigenvalues(a.view());

  ASSERT_EQ(found.size(), values.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], values[i], Bound<double>(20 * n, largest));
  }
}

TEST(Linalg, CholeskySaysNoToWhatIsNotPositiveDefinite) {
  Matrix<double> indefinite(2, 2);
  indefinite(0, 0) = 1;
  indefinite(1, 0) = 2;
  indefinite(1, 1) = 1;
  EXPECT_FALSE(Cholesky(indefinite.view()));

  Matrix<double> zero(3, 3);
  EXPECT_FALSE(Cholesky(zero.view()));

  Matrix<double> negative(1, 1);
  negative(0, 0) = -1;
  EXPECT_FALSE(Cholesky(negative.view()));

  // One bad entry anywhere in the lower triangle, below and above the block size of dpotrf.
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const Index n : {Index{2}, Index{5}, Index{300}}) {
      for (const Index row : {Index{0}, n / 2, n - 1}) {
        for (const Index col : {Index{0}, row}) {
          Matrix<double> spoiled(n, n);
          for (Index i = 0; i < n; ++i) spoiled(i, i) = 4;
          spoiled(row, col) = bad;
          EXPECT_FALSE(Cholesky(spoiled.view())) << bad << " at " << row << ", " << col;
        }
      }
    }
  }
}

TEST(Linalg, EigenvaluesOfThePathGraphAreKnown) {
  // The second difference has eigenvalues 2 - 2 cos(pi k / (n + 1)).
  constexpr Index kN = 200;
  Matrix<double> a(kN, kN);
  for (Index i = 0; i < kN; ++i) {
    a(i, i) = 2;
    if (i > 0) a(i, i - 1) = -1;
  }

  const std::vector<double> found = SymmetricEigenvalues(a.view());

  for (Index k = 1; k <= kN; ++k) {
    const double angle = std::numbers::pi * static_cast<double>(k) / (kN + 1);
    EXPECT_NEAR(found[Size(k - 1)], 2 - 2 * std::cos(angle), 1e-13);
  }
}

TEST(Linalg, EmptyMatricesAreNoSpecialCase) {
  Matrix<double> none(0, 0), row(3, 0), product(3, 3);
  product(2, 1) = 7;

  Gemm(1.0, View<const double, 2>(row.view()), Transpose::kNo, View<const double, 2>(row.view()),
       Transpose::kYes, 0.0, product.view());
  EXPECT_EQ(product(2, 1), 0) << "a sum of no products";

  EXPECT_TRUE(SymmetricEigenvalues(none.view()).empty());
  MultiplyByLower(row.view(), none.view());
  Matrix<float> narrow_row(3, 0), narrow_none;
  DivideByUnitLower(narrow_row.view(), narrow_none.view(), Transpose::kNo);
  Gram(row.view(), Transpose::kYes, none.view());
}

TEST(Linalg, TheSameCallGivesTheSameBitsOnEveryThread) {
  Rng rng(1);
  const Padded<double> x(300, 200, rng);
  std::vector<std::vector<double>> found(16);
  ThreadPool pool(3);

  pool.ParallelFor(16, [&](Index task, int) {
    Matrix<double> gram(200, 200);
    Gram(x.view, Transpose::kYes, gram.view());
    ASSERT_TRUE(Cholesky(gram.view()));
    MultiplyByLower(gram.view(), gram.Clone().view());
    found[Size(task)] = SymmetricEigenvalues(gram.view());
  });

  for (const auto& values : found) EXPECT_EQ(values, found.front());
}

TEST(Linalg, DescriptionNamesLibraryAndProcessor) {
  const std::string description = BlasDescription();
  if (!description.starts_with("OpenBLAS")) GTEST_SKIP() << "another BLAS: " << description;

  // "OpenBLAS 0.3.21 SkylakeX"
  EXPECT_EQ(std::count(description.begin(), description.end(), ' '), 2) << description;
  EXPECT_EQ(description, BlasDescription());
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && std::getenv("OPENBLAS_CORETYPE") == nullptr) {
    EXPECT_EQ(description.find("Prescott"), std::string::npos)
        << "kernels of 2004 on a processor with AVX2";
  }
#endif
}

}  // namespace
}  // namespace lieq
