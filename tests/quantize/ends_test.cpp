#include "lieq/quantize/ends.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/forward.h"
#include "tests/support/random_matrix.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kColumns = 64;

/// Of a head, or with `lookup` of a tied matrix.
EndStatistics Statistics(std::uint64_t seed, double lookup = 0) {
  return {.gram = GramOf(CorrelatedInputs(200, kColumns, seed).view()),
          .tokens = 200,
          .lookup = lookup};
}

QMatrix Quantized(View<const float, 2> w, const Grid& grid, const EndStatistics* statistics,
                  int threads = 2, const std::string& method = "best") {
  TestContext test(threads);
  QuantOptions options;
  options.method = method;
  LinearReport report;
  return QuantizeEnd(AnyMatrix(w), grid, statistics, options, test.context, report);
}

Matrix<float> Levels(const QMatrix& q) {
  Matrix<float> levels(q.rows(), q.cols());
  q.Dequantize(0, levels.view());
  return levels;
}

/// Sum over rows of e H eᵀ.
double Damage(View<const float, 2> w, const QMatrix& q, const EndStatistics& statistics) {
  const Matrix<float> levels = Levels(q);
  double sum = 0;
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index i = 0; i < w.cols(); ++i) {
      for (Index j = 0; j < w.cols(); ++j) {
        const double h = statistics.gram(std::max(i, j), std::min(i, j)) /
                             static_cast<double>(statistics.tokens) +
                         (i == j ? statistics.lookup : 0);
        sum += h * static_cast<double>(w(r, i) - levels(r, i)) *
               static_cast<double>(w(r, j) - levels(r, j));
      }
    }
  }
  return sum;
}

class EndsProperty : public testing::TestWithParam<std::uint64_t> {};

TEST_P(EndsProperty, LoseLessThanNearestRoundingInWhatTheirRolesCost) {
  const Matrix<float> w = RandomMatrix(100, kColumns, GetParam() + 1, 0.05);
  for (const double lookup : {0.0, 0.1}) {
    const EndStatistics statistics = Statistics(GetParam(), lookup);
    for (const int bits : {2, 4}) {
      const Grid grid{.bits = bits, .group_size = 32};
      const double nearest = Damage(w.view(), Quantized(w.view(), grid, nullptr), statistics);
      for (const char* method : {"gptq", "best"}) {
        const QMatrix q = Quantized(w.view(), grid, &statistics, 2, method);
        EXPECT_LT(Damage(w.view(), q, statistics), 0.9 * nearest)
            << method << ", " << bits << " bits, lookup " << lookup;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, EndsProperty, testing::Range<std::uint64_t>(0, 5));

TEST(Ends, AreRoundedToNearestWhereTheLookupIsAllThatCounts) {
  const EndStatistics statistics = Statistics(3, 1e9);
  const Matrix<float> w = RandomMatrix(100, kColumns, 4, 0.05);
  const Grid grid{.bits = 4, .group_size = 32};
  const Matrix<float> q = Levels(Quantized(w.view(), grid, &statistics, 2, "gptq"));
  const Matrix<float> nearest = Levels(Quantized(w.view(), grid, nullptr));
  double error = 0, least = 0;
  for (Index i = 0; i < w.size(); ++i) {
    error += std::pow(static_cast<double>(w.data()[i] - q.data()[i]), 2);
    least += std::pow(static_cast<double>(w.data()[i] - nearest.data()[i]), 2);
  }
  EXPECT_NEAR(error / least, 1, 0.02);
}

TEST(Ends, ReportTheErrorInTheMetricOfTheirRoles) {
  const EndStatistics statistics = Statistics(3, 0.1);
  const Matrix<float> w = RandomMatrix(100, kColumns, 4, 0.05);
  TestContext test;
  QuantOptions options;
  options.damping = 1e-6;
  LinearReport report;

  const QMatrix q = QuantizeEnd(AnyMatrix(w.view()), {.bits = 4, .group_size = 32}, &statistics,
                                options, test.context, report);

  EXPECT_NEAR(report.error / Damage(w.view(), q, statistics), 1, 1e-2);
  EXPECT_GT(report.start_error, report.error);
  EXPECT_GT(report.damping, 0);
}

TEST(Ends, KeepRowsThatNoTokenEverHadSane) {
  // Reserved tokens: rows of zeros, of one number, twins, of huge and of tiny norm.
  const EndStatistics statistics = Statistics(5);
  Matrix<float> w = RandomMatrix(130, kColumns, 6, 0.05);
  for (Index c = 0; c < kColumns; ++c) {
    w(0, c) = w(129, c) = 0;
    w(1, c) = 0.25f;
    w(3, c) = w(2, c);
    w(4, c) *= 3e4f;
    w(5, c) *= 1e-3f;
  }
  const EndStatistics* const calibrated = &statistics;
  for (const EndStatistics* given : {calibrated, static_cast<const EndStatistics*>(nullptr)}) {
    const Matrix<float> levels = Levels(Quantized(w.view(), {.bits = 4, .group_size = 32}, given));

    for (Index c = 0; c < kColumns; ++c) {
      EXPECT_EQ(levels(0, c), 0);
      EXPECT_EQ(levels(129, c), 0);
      EXPECT_NEAR(levels(1, c), 0.25, 0.05);
      EXPECT_EQ(levels(3, c), levels(2, c));
    }
    for (const Index r : {4, 5}) {
      double error = 0, size = 0;
      for (Index c = 0; c < kColumns; ++c) {
        error += std::pow(static_cast<double>(levels(r, c) - w(r, c)), 2);
        size += std::pow(static_cast<double>(w(r, c)), 2);
      }
      EXPECT_LT(error, 0.05 * size) << "row " << r << (given != nullptr ? ", calibrated" : "");
    }
  }
}

TEST(Ends, StayZeroWhereAllIsZero) {
  const EndStatistics statistics = Statistics(7);
  const Matrix<float> w(70, kColumns);
  const Matrix<float> levels = Levels(Quantized(w.view(), {.bits = 2}, &statistics));
  for (Index i = 0; i < levels.size(); ++i) EXPECT_EQ(levels.data()[i], 0);
}

TEST(Ends, AreRoundedWithoutADirectionThatWasNeverSeen) {
  // The calibration text never moved two channels.
  EndStatistics statistics = Statistics(8);
  for (Index i = 0; i < kColumns; ++i) {
    for (Index j = 0; j < kColumns; ++j) {
      if (i < 2 || j < 2) statistics.gram(i, j) = 0;
    }
  }
  const Matrix<float> w = RandomMatrix(64, kColumns, 9, 0.05);
  const Matrix<float> levels =
      Levels(Quantized(w.view(), {.bits = 4, .group_size = 32}, &statistics));
  for (Index r = 0; r < 64; ++r) {
    for (Index c = 0; c < 2; ++c) EXPECT_NEAR(levels(r, c), w(r, c), 0.03) << r << ", " << c;
  }
}

TEST(Ends, HaveTheSameCodesForAnyNumberOfThreads) {
  const EndStatistics statistics = Statistics(11, 0.1);
  const Matrix<float> w = RandomMatrix(300, kColumns, 12, 0.05);
  const Grid grid{.bits = 4, .group_size = 32};
  const QMatrix one = Quantized(w.view(), grid, &statistics, 1);
  for (const int threads : {2, 5}) {
    const QMatrix more = Quantized(w.view(), grid, &statistics, threads);
    EXPECT_TRUE(std::ranges::equal(one.words(), more.words()));
  }
}

TEST(Ends, AreTheSameRowsInBlocks) {
  constexpr Index kWide = 2048, kBlock = kEndBlockFloats / kWide, kRows = kBlock + 70;
  const Matrix<float> w = RandomMatrix(kRows, kWide, 13, 0.05);
  TestContext test;
  QuantOptions options;
  options.method = "rtn";
  options.clip = Clip::kNone;
  for (const Grid& grid : {Grid{.bits = 4, .group_size = 128},
                           Grid{.bits = 4, .group_size = 128, .offset = Offset::kInteger},
                           Grid{.bits = 4, .group_size = 128, .offset = Offset::kFloat}}) {
    LinearReport report, last_report;
    const QMatrix whole =
        QuantizeEnd(AnyMatrix(w.view()), grid, nullptr, options, test.context, report);
    const QMatrix last = QuantizeEnd(AnyMatrix(w.view().Rows(kBlock - 10, 80)), grid, nullptr,
                                     options, test.context, last_report);

    Matrix<float> levels(80, kWide), expected(80, kWide);
    whole.Dequantize(kBlock - 10, levels.view());
    last.Dequantize(0, expected.view());
    for (Index i = 0; i < levels.size(); ++i) ASSERT_EQ(levels.data()[i], expected.data()[i]);
    EXPECT_NEAR(report.signal / static_cast<double>(kRows * kWide), 0.0025, 1e-4);
  }
}

class EndMeasurement : public testing::Test {
 protected:
  EndMeasurement() {
    for (Index i = 0; i < kWindows * kLength; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
  }
  ModelFolder Model(bool tied) {
    const auto path = folder / (tied ? "tied" : "untied");
    MakeTinyModel(path, {.tied = tied, .dtype = DType::kF32});
    return OpenModel(path);
  }
  View<const TokenId, 2> windows() const { return {tokens.data(), kWindows, kLength}; }
  /// The stream behind the last layer of one model, begun with the embedding of another.
  Matrix<float> Stream(const Weights& first, const Weights& rest) {
    Forward begin(first, *device, kLength), forward(rest, *device, kLength);
    Hidden hidden = begin.Embed(windows());
    for (Index layer = 0; layer < rest.config.layers; ++layer) forward.Layer(layer, hidden);
    Matrix<float> x(hidden.x.rows(), hidden.x.cols());
    device->Download(hidden.x.view(), x.view());
    return x;
  }
  /// [tokens, hidden], the head's inputs.
  Matrix<float> Normed(const Weights& weights, View<const float, 2> x) const {
    Matrix<float> normed(x.rows(), x.cols());
    for (Index t = 0; t < x.rows(); ++t) {
      double square = 0;
      for (const float v : x.Row(t)) square += std::pow(static_cast<double>(v), 2);
      const double size =
          std::sqrt(square / static_cast<double>(x.cols()) + weights.config.rms_eps);
      for (Index c = 0; c < x.cols(); ++c) {
        normed(t, c) =
            static_cast<float>(static_cast<double>(x(t, c)) / size) * weights.final_norm[Size(c)];
      }
    }
    return normed;
  }
  /// Sum over tokens of the divergence of what one head says of inputs from what another does.
  static double Kl(View<const float, 2> head, View<const float, 2> inputs,
                   View<const float, 2> other_head, View<const float, 2> other_inputs) {
    const auto log_probabilities = [](View<const float, 2> w, std::span<const float> h) {
      std::vector<double> z(Size(w.rows()));
      double sum = 0;
      for (Index v = 0; v < w.rows(); ++v) {
        for (Index c = 0; c < w.cols(); ++c) {
          z[Size(v)] += static_cast<double>(w(v, c)) * static_cast<double>(h[Size(c)]);
        }
        sum += std::exp(z[Size(v)]);
      }
      for (double& value : z) value -= std::log(sum);
      return z;
    };
    double kl = 0;
    for (Index t = 0; t < inputs.rows(); ++t) {
      const auto p = log_probabilities(head, inputs.Row(t));
      const auto q = log_probabilities(other_head, other_inputs.Row(t));
      for (std::size_t v = 0; v < p.size(); ++v) kl += std::exp(p[v]) * (p[v] - q[v]);
    }
    return kl;
  }

  static constexpr Index kWindows = 4, kLength = 24;
  TempFolder folder;
  std::vector<TokenId> tokens;
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
};

TEST_F(EndMeasurement, SumsWhatTheHeadSees) {
  for (const bool tied : {true, false}) {
    const ModelFolder model = Model(tied);
    const EndStatistics found = MeasureEnds(model.weights, *device, windows(), test.context);
    const Matrix<float> x = Stream(model.weights, model.weights);
    const Matrix<double> expected = GramOf(Normed(model.weights, x.view()).view());
    for (Index i = 0; i < expected.rows(); ++i) {
      for (Index j = 0; j <= i; ++j) {
        EXPECT_NEAR(found.gram(i, j), expected(i, j), 1e-3 * expected(i, i));
      }
    }
    EXPECT_EQ(found.tokens, kWindows * kLength);
    EXPECT_EQ(found.lookup > 0, tied);
  }
}

TEST_F(EndMeasurement, TellsHowTheRolesOfATiedMatrixCompare) {
  const ModelFolder model = Model(true);
  const EndStatistics found = MeasureEnds(model.weights, *device, windows(), test.context);

  // By the definition, with the matrix at 4 bits in groups of 64, rounded to nearest.
  Grid grid{.bits = 4, .group_size = 64};
  while (model.weights.config.hidden % grid.group_size != 0) grid.group_size /= 2;
  QuantOptions options;
  options.clip = Clip::kNone;
  LinearReport report;
  Weights rounded = model.weights;
  const auto q = std::make_shared<const QMatrix>(
      QuantizeEnd(model.weights.embedding, grid, nullptr, options, test.context, report));
  rounded.embedding = rounded.head = q;
  Matrix<float> w(q->rows(), q->cols());
  WidenRows(model.weights.embedding, 0, w.view());
  const Matrix<float> levels = Levels(*q);
  const Matrix<float> inputs = Normed(model.weights, Stream(model.weights, model.weights).view());
  const Matrix<float> moved = Normed(model.weights, Stream(rounded, model.weights).view());
  const double head = Kl(w.view(), inputs.view(), levels.view(), inputs.view());
  const double lookup = Kl(w.view(), inputs.view(), w.view(), moved.view());
  double squares = 0, multiplied = 0;
  for (const TokenId token : tokens) {
    for (Index i = 0; i < w.cols(); ++i) {
      const double e = static_cast<double>(w(token, i) - levels(token, i));
      squares += e * e;
      for (Index j = 0; j < w.cols(); ++j) {
        multiplied += e * static_cast<double>(w(token, j) - levels(token, j)) *
                      found.gram(std::max(i, j), std::min(i, j)) /
                      static_cast<double>(found.tokens);
      }
    }
  }
  EXPECT_NEAR(found.lookup / ((lookup / squares) / (head / multiplied)), 1, 0.02);
}

TEST(EndWindows, AreBoundedByTokensAndNeverNone) {
  EXPECT_EQ(EndWindows(128, 1024), 32);
  EXPECT_EQ(EndWindows(16, 512), 16);
  EXPECT_EQ(EndWindows(3, 1 << 20), 1);
}

}  // namespace
}  // namespace lieq
