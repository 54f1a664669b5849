#include "lieq/diagnose/spectrum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

Matrix<double> Gaussian(Index rows, Index cols, Rng& rng) {
  Matrix<double> a(rows, cols);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = rng.Normal();
  return a;
}

Matrix<double> Product(const Matrix<double>& a, const Matrix<double>& b, Transpose tb) {
  Matrix<double> c(a.rows(), tb == Transpose::kYes ? b.rows() : b.cols());
  Gemm(1.0, a.view(), Transpose::kNo, b.view(), tb, 0.0, c.view());
  return c;
}

Matrix<double> GramOf(const Matrix<double>& h) {
  Matrix<double> c(h.cols(), h.cols());
  Gram(h.view(), Transpose::kYes, c.view());
  return c;
}

/// Squared singular values of h Wᵀ the plain way: Z is formed, then the smaller of ZᵀZ and ZZᵀ.
std::vector<double> PlainSpectrum(const Matrix<double>& h, const Matrix<double>& w) {
  const Matrix<double> z = Product(h, w, Transpose::kYes);
  const bool columns = z.cols() <= z.rows();
  Matrix<double> gram(columns ? z.cols() : z.rows(), columns ? z.cols() : z.rows());
  Gram(z.view(), columns ? Transpose::kYes : Transpose::kNo, gram.view());
  std::vector<double> energies = SymmetricEigenvalues(gram.view());
  for (double& energy : energies) energy = std::max(energy, 0.0);
  // Beyond rank min(T, in, out) there is nothing but rounding.
  const auto rank = Size(std::min({h.rows(), h.cols(), w.rows()}));
  if (energies.size() > rank) {
    energies.erase(energies.begin(), energies.end() - static_cast<std::ptrdiff_t>(rank));
  }
  return energies;
}

std::vector<double> SpectrumOf(const Matrix<double>& h, const Matrix<double>& w) {
  const auto inputs = FactorInputs(GramOf(h), h.rows());
  EXPECT_TRUE(inputs.has_value());
  Matrix<double> copy = w.Clone();
  return Spectrum(copy.view(), *inputs);
}

/// A random orthogonal matrix: a product of Householder reflections.
Matrix<double> Orthogonal(Index n, Rng& rng) {
  Matrix<double> q(n, n);
  for (Index i = 0; i < n; ++i) q(i, i) = 1;
  for (int reflection = 0; reflection < 4; ++reflection) {
    const Matrix<double> v = Gaussian(n, 1, rng);
    double norm = 0;
    for (Index i = 0; i < n; ++i) norm += v(i, 0) * v(i, 0);
    for (Index i = 0; i < n; ++i) {
      double dot = 0;
      for (Index j = 0; j < n; ++j) dot += q(i, j) * v(j, 0);
      for (Index j = 0; j < n; ++j) q(i, j) -= 2 * dot / norm * v(j, 0);
    }
  }
  return q;
}

void ExpectSame(const std::vector<double>& a, const std::vector<double>& b, double relative) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i], b[i], relative * b.back()) << i << " of " << a.size();
  }
}

// Rounding of sums of some hundred terms, relative to the largest eigenvalue.
constexpr double kTolerance = 1e-11;

struct Shape {
  Index tokens, out, in;
};
Shape DrawShape(Rng& rng) {
  return {1 + rng.Below(60), 1 + rng.Below(50), 1 + rng.Below(50)};
}

class SpectrumProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, SpectrumProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{100}));

TEST_P(SpectrumProperty, IsThatOfTheProductFormed) {
  Rng rng(GetParam());
  const Shape shape = DrawShape(rng);  // often fewer tokens than inputs: a singular C
  const Matrix<double> h = Gaussian(shape.tokens, shape.in, rng);
  const Matrix<double> w = Gaussian(shape.out, shape.in, rng);

  const std::vector<double> energies = SpectrumOf(h, w);

  EXPECT_TRUE(std::ranges::is_sorted(energies));
  EXPECT_GE(energies.front(), 0);
  ExpectSame(energies, PlainSpectrum(h, w), kTolerance);
}

TEST_P(SpectrumProperty, ScalesWithTheSquareAndMeasuresDoNotScale) {
  Rng rng(GetParam());
  const Shape shape = DrawShape(rng);
  const Matrix<double> h = Gaussian(shape.tokens, shape.in, rng);
  const Matrix<double> w = Gaussian(shape.out, shape.in, rng);
  Matrix<double> scaled = w.Clone();
  const double scale = std::exp(10 * rng.Normal());
  for (Index i = 0; i < scaled.size(); ++i) scaled.data()[i] *= scale;

  const std::vector<double> before = SpectrumOf(h, w), after = SpectrumOf(h, scaled);

  EXPECT_NEAR(after.back() / before.back() / (scale * scale), 1, kTolerance);
  EXPECT_NEAR(EffectiveRank(after) / EffectiveRank(before), 1, 1e-9);
  EXPECT_NEAR(TopEnergy(after, 3), TopEnergy(before, 3), 1e-9);
}

TEST_P(SpectrumProperty, DoesNotChangeUnderRotationOfInputsOrOutputs) {
  Rng rng(GetParam());
  const Shape shape = DrawShape(rng);
  const Matrix<double> h = Gaussian(shape.tokens, shape.in, rng);
  const Matrix<double> w = Gaussian(shape.out, shape.in, rng);
  const Matrix<double> q = Orthogonal(shape.in, rng), p = Orthogonal(shape.out, rng);

  const std::vector<double> inputs =  // h Q (W Q)ᵀ = h Wᵀ
      SpectrumOf(Product(h, q, Transpose::kNo), Product(w, q, Transpose::kNo));
  const std::vector<double> outputs = SpectrumOf(h, Product(p, w, Transpose::kNo));

  ExpectSame(inputs, SpectrumOf(h, w), kTolerance);
  ExpectSame(outputs, SpectrumOf(h, w), kTolerance);
}

TEST_P(SpectrumProperty, EffectiveRankLiesBetweenOneAndTheNumberOfDirections) {
  Rng rng(GetParam());
  std::vector<double> energies(1 + rng.Below(100));
  for (double& energy : energies) energy = std::exp(5 * rng.Normal());
  std::ranges::sort(energies);

  EXPECT_GE(EffectiveRank(energies), 1 - 1e-12);
  EXPECT_LE(EffectiveRank(energies), static_cast<double>(energies.size()) * (1 + 1e-12));

  double last = 0;
  for (Index k = 1; k <= static_cast<Index>(energies.size()); ++k) {
    EXPECT_GE(TopEnergy(energies, k), last);
    EXPECT_GE(TopEnergy(energies, k),
              (1 - 1e-12) * static_cast<double>(k) / static_cast<double>(energies.size()));
    last = TopEnergy(energies, k);
  }
  EXPECT_NEAR(last, 1, 1e-12);
}

TEST(EffectiveRank, CountsEqualDirections) {
  EXPECT_NEAR(EffectiveRank(std::vector<double>(17, 3e-200)), 17, 1e-12);
  EXPECT_NEAR(EffectiveRank(std::vector<double>{0, 0, 5, 5}), 2, 1e-14);
  EXPECT_EQ(EffectiveRank(std::vector<double>{0, 0, 7}), 1);
  EXPECT_EQ(EffectiveRank(std::vector<double>{0, 0}), 0);
  EXPECT_EQ(EffectiveRank({}), 0);
  // -3/4 ln 3/4 - 1/4 ln 1/4, by hand
  EXPECT_NEAR(EffectiveRank(std::vector<double>{1, 3}), std::exp(0.562335144618808), 1e-14);
}

TEST(TopEnergy, IsTheShareOfTheLargest) {
  const std::vector<double> energies{1, 2, 3, 4};
  EXPECT_EQ(TopEnergy(energies, 0), 0);
  EXPECT_EQ(TopEnergy(energies, 1), 0.4);
  EXPECT_EQ(TopEnergy(energies, 2), 0.7);
  EXPECT_EQ(TopEnergy(energies, 9), 1);
  EXPECT_EQ(TopEnergy(std::vector<double>{0, 0}, 1), 0);
}

TEST(Spectrum, IsFlatForOrthonormalWeightsOnWhiteInputs) {
  Rng rng(5);
  const Matrix<double> h = Orthogonal(40, rng), w = Orthogonal(40, rng);

  EXPECT_NEAR(EffectiveRank(SpectrumOf(h, w)), 40, 1e-9);
}

TEST(WeightSpectrum, IsThatOfWhiteInputs) {
  Rng rng(5);
  for (const auto& [out, in] : {std::pair<Index, Index>{7, 20}, {20, 7}, {9, 9}}) {
    const Matrix<double> w = Gaussian(out, in, rng), white = Orthogonal(in, rng);

    ExpectSame(WeightSpectrum(w.view()), PlainSpectrum(white, w), kTolerance);
  }
}

TEST(Spectrum, IsOneDirectionForWeightsOfRankOne) {
  Rng rng(5);
  const Matrix<double> h = Gaussian(50, 30, rng);
  const Matrix<double> w = Product(Gaussian(20, 1, rng), Gaussian(1, 30, rng), Transpose::kNo);

  const std::vector<double> energies = SpectrumOf(h, w);

  EXPECT_NEAR(EffectiveRank(energies), 1, 1e-10);
  EXPECT_NEAR(TopEnergy(energies, 1), 1, 1e-12);
}

TEST(FactorInputs, MultipliesBackAndAddsNoRidgeToWhatIsPositiveDefinite) {
  Rng rng(3);
  const Matrix<double> c = GramOf(Gaussian(100, 70, rng));

  const auto inputs = FactorInputs(c.Clone(), 100);

  ASSERT_TRUE(inputs.has_value());
  EXPECT_EQ(inputs->ridge, 0);
  for (Index i = 0; i < 70; ++i) {
    for (Index j = 0; j <= i; ++j) {
      double sum = 0;
      for (Index k = 0; k <= j; ++k) sum += inputs->lower(i, k) * inputs->lower(j, k);
      EXPECT_NEAR(sum, c(i, j), 1e-12 * std::sqrt(c(i, i) * c(j, j)));
    }
  }
}

TEST(FactorInputs, ARidgeOfDependentInputsMovesNoMeasure) {
  // Half as many tokens as inputs, copies of inputs, and one massive channel whose energy is 1e12
  // times that of the rest and that the weights do not read.
  double largest_ridge = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(seed);
    const Index in = 160, tokens = seed % 2 == 0 ? 80 : 400;
    Matrix<double> h = Gaussian(tokens, in, rng);
    Matrix<double> w = Gaussian(seed % 3 == 0 ? 40 : 300, in, rng);
    for (Index t = 0; t < tokens; ++t) {
      for (Index i = 1; i < 20; ++i) h(t, i + 20) = h(t, i) * static_cast<double>(i);
      h(t, 0) *= 1e6;
    }
    for (Index o = 0; o < w.rows(); ++o) w(o, 0) = 0;

    const auto inputs = FactorInputs(GramOf(h), tokens);
    ASSERT_TRUE(inputs.has_value());
    Matrix<double> copy = w.Clone();
    const std::vector<double> energies = Spectrum(copy.view(), *inputs);

    const std::vector<double> plain = PlainSpectrum(h, w);
    largest_ridge = std::max(largest_ridge, inputs->ridge);
    EXPECT_LE(inputs->ridge, 1e-10) << "seed " << seed;
    EXPECT_NEAR(EffectiveRank(energies) / EffectiveRank(plain), 1, 1e-7) << "seed " << seed;
    EXPECT_NEAR(TopEnergy(energies, 4), TopEnergy(plain, 4), 1e-8) << "seed " << seed;
  }
  EXPECT_GT(largest_ridge, 0) << "no case needed a ridge: the test tests nothing";
}

TEST(FactorInputs, RoundingOfAGramMatrixSummedInFloatIsForgiven) {
  // A head that attends to one token alone: 40 of 120 channels hardly change from row to row. The
  // Gram matrix in float has eigenvalues below 0 that the one in double has not.
  double largest_ridge = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    constexpr Index kRows = 2000, kIn = 120;
    Matrix<double> h = Gaussian(kRows, kIn, rng);
    for (Index t = 0; t < kRows; ++t) {
      for (Index i = 0; i < 40; ++i) h(t, i) = 0.3 * static_cast<double>(i + 1) + 1e-5 * h(t, i);
    }
    Matrix<float> rounded(kRows, kIn), product(kIn, kIn);
    for (Index i = 0; i < h.size(); ++i) {
      rounded.data()[i] = static_cast<float>(h.data()[i]);
      h.data()[i] = static_cast<double>(rounded.data()[i]);
    }
    Gemm(1.0f, rounded.view(), Transpose::kYes, rounded.view(), Transpose::kNo, 0.0f,
         product.view());
    Matrix<double> gram(kIn, kIn);
    for (Index i = 0; i < gram.size(); ++i) {
      gram.data()[i] = static_cast<double>(product.data()[i]);
    }
    Matrix<double> w = Gaussian(60, kIn, rng);
    const std::vector<double> plain = PlainSpectrum(h, w);

    const auto inputs = FactorInputs(std::move(gram), kRows);

    ASSERT_TRUE(inputs.has_value()) << "seed " << seed;
    largest_ridge = std::max(largest_ridge, inputs->ridge);
    EXPECT_NEAR(EffectiveRank(Spectrum(w.view(), *inputs)) / EffectiveRank(plain), 1, 2e-3);
  }
  EXPECT_GE(largest_ridge, 1e-9) << "no case needed more than double's rounding";
}

TEST(FactorInputs, AChannelThatIsAlwaysZeroHasNoPart) {
  Rng rng(9);
  Matrix<double> h = Gaussian(50, 20, rng);
  const Matrix<double> w = Gaussian(8, 20, rng);
  for (const Index dead : {0, 7, 19}) {
    for (Index t = 0; t < 50; ++t) h(t, dead) = 0;
  }

  const auto inputs = FactorInputs(GramOf(h), 50);

  ASSERT_TRUE(inputs.has_value());
  EXPECT_EQ(inputs->ridge, 0);
  Matrix<double> copy = w.Clone();
  ExpectSame(Spectrum(copy.view(), *inputs), PlainSpectrum(h, w), kTolerance);
}

TEST(FactorInputs, InputsThatAreAllZeroHaveNoEnergy) {
  Rng rng(9);
  const auto inputs = FactorInputs(Matrix<double>(6, 6), 10);

  ASSERT_TRUE(inputs.has_value());
  Matrix<double> w = Gaussian(4, 6, rng);
  EXPECT_EQ(Spectrum(w.view(), *inputs), std::vector<double>(4, 0.0));
}

TEST(FactorInputs, RefusesWhatIsNoGramMatrix) {
  const auto with = [](Index row, Index col, double value) {
    Matrix<double> c(3, 3);
    for (Index i = 0; i < 3; ++i) c(i, i) = 1;
    c(row, col) = value;
    return FactorInputs(std::move(c), 5).has_value();
  };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();

  EXPECT_TRUE(with(0, 2, kNan)) << "the upper triangle is not read";
  EXPECT_FALSE(with(2, 0, kNan));
  EXPECT_FALSE(with(1, 1, kInfinity));
  EXPECT_FALSE(with(1, 1, -1));
  EXPECT_FALSE(with(1, 0, 2)) << "|c_ij| <= sqrt(c_ii c_jj) in every Gram matrix";
}

TEST(Spectrum, OfNonFiniteWeightsIsNotFinite) {
  Rng rng(9);
  const auto inputs = FactorInputs(GramOf(Gaussian(50, 6, rng)), 50);
  Matrix<double> w = Gaussian(4, 6, rng);
  w(2, 3) = std::numeric_limits<double>::quiet_NaN();

  const std::vector<double> energies = Spectrum(w.view(), *inputs);

  EXPECT_TRUE(std::isnan(EffectiveRank(energies)));
  EXPECT_TRUE(std::isnan(TopEnergy(energies, 1)));
  EXPECT_TRUE(std::isnan(EffectiveRank(std::vector<double>(3, 1e308)))) << "the sum overflows";
}

TEST(Chi, HasTheMomentsOfTheNormOfNormals) {
  for (const Index degrees : {1, 2, 3, 4, 7, 50, 3072}) {
    Rng rng(static_cast<std::uint64_t>(degrees));
    constexpr int kDraws = 200000;
    double mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double x = Chi(degrees, rng);
      ASSERT_GE(x, 0);
      mean += x / kDraws;
      square += x * x / kDraws;
      fourth += x * x * x * x / kDraws;
    }
    // E x = sqrt 2 gamma((n + 1)/2) / gamma(n/2), E x² = n, E x⁴ = n (n + 2); five standard errors
    // (var x < 1/2, var x² = 2n, var x⁴ < 8 n³ + 120 n² + 400 n).
    const double n = static_cast<double>(degrees), draws = kDraws;
    EXPECT_NEAR(mean, std::sqrt(2) * std::exp(std::lgamma((n + 1) / 2) - std::lgamma(n / 2)),
                5 * std::sqrt(0.5 / draws));
    EXPECT_NEAR(square, n, 5 * std::sqrt(2 * n / draws));
    EXPECT_NEAR(fourth, n * (n + 2),
                5 * std::sqrt((8 * n * n * n + 120 * n * n + 400 * n) / draws));
  }
}

TEST(RandomProjection, HasTheSpectraOfPlainGaussianWeights) {
  // Means of three functionals over many draws of the factor and of plain weights; five standard
  // errors of the difference.
  constexpr int kDraws = 2000;
  for (const Shape shape : {Shape{40, 5, 12}, Shape{40, 12, 12}, Shape{40, 30, 12},
                            Shape{9, 30, 12}, Shape{40, 1, 12}, Shape{40, 12, 1}}) {
    Rng rng(11);
    Matrix<double> h = Gaussian(shape.tokens, shape.in, rng);
    for (Index t = 0; t < h.rows(); ++t) {  // far from white
      for (Index i = 0; i < h.cols(); ++i) h(t, i) *= std::pow(0.6, static_cast<double>(i));
      if (h.cols() > 2) h(t, 2) += h(t, 0);
    }
    const auto inputs = FactorInputs(GramOf(h), shape.tokens);
    ASSERT_TRUE(inputs.has_value());
    std::array<std::array<double, 2>, 3> mean{}, square{};
    for (int draw = 0; draw < kDraws; ++draw) {
      for (const std::size_t kind : {0u, 1u}) {
        Matrix<double> w = kind == 0 ? Gaussian(shape.out, shape.in, rng)
                                     : RandomProjection(shape.out, shape.in, rng);
        const std::vector<double> energies = Spectrum(w.view(), *inputs);
        double total = 0;
        for (const double energy : energies) total += energy;
        const std::array values{EffectiveRank(energies), TopEnergy(energies, 1), total};
        for (std::size_t i = 0; i < values.size(); ++i) {
          mean[i][kind] += values[i] / kDraws;
          square[i][kind] += values[i] * values[i] / kDraws;
        }
      }
    }
    for (std::size_t i = 0; i < mean.size(); ++i) {
      double variance = 0;
      for (const std::size_t kind : {0u, 1u}) {
        variance += (square[i][kind] - mean[i][kind] * mean[i][kind]) / kDraws;
      }
      EXPECT_NEAR(mean[i][0], mean[i][1], 5 * std::sqrt(std::max(variance, 0.0)) + 1e-9)
          << "functional " << i << " of [" << shape.out << ", " << shape.in << "]";
    }
  }
}

TEST(RandomProjection, IsUpperTrapezoidal) {
  Rng rng(2);
  const Matrix<double> r = RandomProjection(9, 4, rng);
  EXPECT_EQ(r.rows(), 4);
  EXPECT_EQ(r.cols(), 4);
  for (Index i = 0; i < 4; ++i) {
    EXPECT_GT(r(i, i), 0);
    for (Index j = 0; j < i; ++j) EXPECT_EQ(r(i, j), 0);
  }
  EXPECT_EQ(RandomProjection(3, 8, rng).rows(), 3);
}

}  // namespace
}  // namespace lieq
