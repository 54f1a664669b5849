#include "lieq/quantize/column_factors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lieq/quantize/gptq.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

/// Linears with one input, rounded, and what the factors are asked for.
struct Case {
  std::vector<Matrix<double>> targets;
  std::vector<QMatrix> codes;
  Matrix<double> h;
  std::vector<Index> channel;
  Index channels = 0;

  std::vector<FactoredLinear> linears() const {
    std::vector<FactoredLinear> list;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      list.push_back({targets[i].view(), &codes[i]});
    }
    return list;
  }

  /// sum of trace((W* - Q diag(f)) H (W* - Q diag(f))ᵀ), by definition
  double Loss(const std::vector<double>& factors) const {
    double loss = 0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const Index rows = targets[i].rows(), n = targets[i].cols();
      Matrix<float> levels(rows, n);
      codes[i].Dequantize(0, levels.view());
      for (Index r = 0; r < rows; ++r) {
        std::vector<double> e(Size(n));
        for (Index c = 0; c < n; ++c) {
          e[Size(c)] = targets[i](r, c) -
                       static_cast<double>(levels(r, c)) * factors[Size(channel[Size(c)])];
        }
        for (Index a = 0; a < n; ++a) {
          for (Index b = 0; b < n; ++b) loss += e[Size(a)] * h(a, b) * e[Size(b)];
        }
      }
    }
    return loss;
  }

  /// What the ridge adds to the loss: 1e-3 of the mean diagonal of the normal equations.
  double Ridge(const std::vector<double>& factors) const {
    double diagonal = 0, distance = 0;
    for (const QMatrix& q : codes) {
      Matrix<float> levels(q.rows(), q.cols());
      q.Dequantize(0, levels.view());
      for (Index r = 0; r < q.rows(); ++r) {
        for (Index a = 0; a < q.cols(); ++a) {
          for (Index b = 0; b < q.cols(); ++b) {
            if (channel[Size(a)] != channel[Size(b)]) continue;
            diagonal +=
                static_cast<double>(levels(r, a)) * h(a, b) * static_cast<double>(levels(r, b));
          }
        }
      }
    }
    for (const double factor : factors) distance += (factor - 1) * (factor - 1);
    return 1e-3 * diagonal / static_cast<double>(channels) * distance;
  }
};

/// queries: columns c and c + in / queries, ... share a channel.
Case MakeCase(Index in, std::vector<Index> rows, Index queries, std::uint64_t seed) {
  TestContext test;
  Case made;
  made.h = GramOf(CorrelatedInputs(3 * in, in, seed).view());
  made.channels = in / queries;
  for (Index c = 0; c < in; ++c) made.channel.push_back(c % made.channels);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Matrix<float> w = RandomMatrix(rows[i], in, seed + 10 + i);
    LinearReport report;
    made.codes.push_back(QuantizeRtn(w.view(), {}, {.bits = 2, .group_size = in}, Clip::kSearch,
                                     test.context, report));
    made.targets.emplace_back(rows[i], in);
    for (Index r = 0; r < rows[i]; ++r) {
      for (Index c = 0; c < in; ++c) made.targets.back()(r, c) = static_cast<double>(w(r, c));
    }
  }
  return made;
}

std::vector<double> Factors(const Case& given, int threads = 2) {
  TestContext test(threads);
  const auto linears = given.linears();
  return ColumnFactors(linears, given.h.view(), given.channel, given.channels, test.context);
}

TEST(ColumnFactors, NoStepOfOneFactorLowersTheLoss) {
  for (const auto& [rows, queries] :
       {std::pair<std::vector<Index>, Index>{{80}, 1}, {{40, 24, 24}, 1}, {{80}, 2}, {{9}, 4}}) {
    const Case given = MakeCase(32, rows, queries, 3);

    const std::vector<double> factors = Factors(given);

    ASSERT_EQ(static_cast<Index>(factors.size()), given.channels);
    const double loss = given.Loss(factors), whole = loss + given.Ridge(factors);
    EXPECT_LT(loss, given.Loss(std::vector<double>(factors.size(), 1.0)));
    int moved = 0;
    for (std::size_t i = 0; i < factors.size(); ++i) {
      if (factors[i] == 1.0) continue;  // held
      ++moved;
      for (const double step : {-0.1, -0.01, -0.001, 0.001, 0.01, 0.1}) {
        std::vector<double> other = factors;
        other[i] += step;
        EXPECT_GT(given.Loss(other) + given.Ridge(other), whole) << i << ", " << step;
      }
    }
    EXPECT_GT(moved, 0);
  }
}

TEST(ColumnFactors, FindTheFactorsThatWereTakenOut) {
  // W* = Q diag(f) exactly: the ridge alone keeps the result from f.
  Case given = MakeCase(24, {60}, 2, 5);
  Matrix<float> levels(60, 24);
  given.codes[0].Dequantize(0, levels.view());
  Rng rng(1);
  std::vector<double> expected;
  for (Index c = 0; c < given.channels; ++c) expected.push_back(0.8 + 0.5 * rng.Uniform());
  for (Index r = 0; r < 60; ++r) {
    for (Index c = 0; c < 24; ++c) {
      given.targets[0](r, c) =
          static_cast<double>(levels(r, c)) * expected[Size(given.channel[Size(c)])];
    }
  }

  const std::vector<double> factors = Factors(given);

  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(factors[i], expected[i], 0.02);
}

TEST(ColumnFactors, NeverRaiseTheLossEvenWhereSomeAreHeld) {
  int held = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Case given = MakeCase(16, {6}, seed % 2 == 0 ? 1 : 2, 100 + seed);
    // Codes that have little to do with the weights: the best factors are far from 1.
    if (seed % 3 == 0) given.codes[0] = RandomQMatrix(6, 16, given.codes[0].grid(), seed);

    const std::vector<double> factors = Factors(given);

    EXPECT_LE(given.Loss(factors),
              given.Loss(std::vector<double>(factors.size(), 1.0)) * (1 + 1e-12))
        << seed;
    for (const double factor : factors) {
      EXPECT_GT(factor, 0.5);
      EXPECT_LT(factor, 2.0);
    }
    held += static_cast<int>(std::ranges::count(factors, 1.0));
  }
  EXPECT_GT(held, 0);
}

TEST(ColumnFactors, AreOneWhereNothingCanBeSaid) {
  const auto ones = [](const Case& given) {
    return std::ranges::all_of(Factors(given), [](double factor) { return factor == 1.0; });
  };
  Case no_inputs = MakeCase(16, {8}, 1, 1);
  std::fill(no_inputs.h.data(), no_inputs.h.data() + no_inputs.h.size(), 0.0);
  EXPECT_TRUE(ones(no_inputs));

  Case no_levels = MakeCase(16, {8}, 1, 1);
  no_levels.codes[0] = QMatrix(8, 16, no_levels.codes[0].grid());  // scales of 0
  EXPECT_TRUE(ones(no_levels));

  Case exact = MakeCase(16, {8}, 1, 1);
  Matrix<float> levels(8, 16);
  exact.codes[0].Dequantize(0, levels.view());
  for (Index r = 0; r < 8; ++r) {
    for (Index c = 0; c < 16; ++c) exact.targets[0](r, c) = static_cast<double>(levels(r, c));
  }
  EXPECT_TRUE(ones(exact));

  Case broken = MakeCase(16, {8}, 1, 1);
  broken.h(3, 3) = std::nan("");
  EXPECT_TRUE(ones(broken));
}

TEST(ColumnFactors, LeaveAChannelThatNothingReads) {
  Case given = MakeCase(16, {12}, 1, 2);
  for (Index j = 0; j < 16; ++j) given.h(4, j) = given.h(j, 4) = 0;

  EXPECT_EQ(Factors(given)[4], 1.0);
}

TEST(ColumnFactors, AreTheSameForAnyNumberOfThreads) {
  const Case given = MakeCase(96, {150, 70}, 2, 9);

  EXPECT_EQ(Factors(given, 1), Factors(given, 2));
  EXPECT_EQ(Factors(given, 1), Factors(given, 7));
}

}  // namespace
}  // namespace lieq
