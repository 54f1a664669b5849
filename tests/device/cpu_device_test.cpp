#include "lieq/device/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <span>

#include "lieq/device/cpu/products.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/attention_cases.h"
#include "tests/support/device_matrices.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

/// Sums of k products of float: k * 2^-24 of the sum of magnitudes bounds any order of adding.
double Bound(double magnitude, Index terms) {
  return magnitude * static_cast<double>(terms + 2) * 0x1p-24;
}

struct Shape {
  Index rows, in, out;
};
class Matmul : public testing::TestWithParam<Shape> {};

TEST_P(Matmul, AgreesWithTheDefinitionForEveryFormAndAnyThreads) {
  const auto [rows, in, out] = GetParam();
  const Matrix<float> x = RandomMatrix(rows, in, 1), start = RandomMatrix(rows, out, 2);
  const Matrix<float> w = RandomMatrix(out, in, 3), bias = RandomMatrix(1, out, 4);
  Matrix<Bf16> w_bf16(out, in);
  Matrix<F16> w_f16(out, in);
  for (Index i = 0; i < w.size(); ++i) {
    w_bf16.data()[i] = ToBf16(w.data()[i]);
    w_f16.data()[i] = ToF16(w.data()[i]);
  }
  std::vector<AnyMatrix> forms{std::as_const(w).view(), std::as_const(w_bf16).view(),
                               std::as_const(w_f16).view()};
  if (in % 32 == 0) {
    for (const Offset offset : kAllOffsets) {
      forms.emplace_back(std::make_shared<const QMatrix>(
          RandomQMatrix(out, in, {.bits = 3, .group_size = 32, .offset = offset}, 5)));
    }
  } else {
    for (const Offset offset : kAllOffsets) {  // a whole row that ends inside a word
      forms.emplace_back(std::make_shared<const QMatrix>(
          RandomQMatrix(out, in, {.bits = 2, .group_size = 0, .offset = offset}, 6)));
    }
  }
  for (const AnyMatrix& form : forms) {
    for (const bool add : {false, true}) {
      Matrix<float> first;
      for (const int threads : {1, 2, 7}) {
        ThreadPool pool(threads);
        const auto device = MakeCpuDevice(pool);
        const DeviceMatrix dx = Uploaded(*device, x), dy = Uploaded(*device, start);
        device->Matmul(dx.view(), *device->Prepare(form), Uploaded(*device, bias).view(), dy.view(),
                       add);
        Matrix<float> y = Downloaded(*device, dy);
        if (threads > 1) {
          EXPECT_TRUE(SameBytes(y, first)) << threads << " threads";
          continue;
        }
        Matrix<float> wide(out, in);
        WidenRows(form, 0, wide.view());
        for (Index r = 0; r < rows; ++r) {
          for (Index o = 0; o < out; ++o) {
            double sum = static_cast<double>(bias(0, o)), size = std::fabs(sum);
            if (add) sum += static_cast<double>(start(r, o));
            for (Index i = 0; i < in; ++i) {
              const double term = static_cast<double>(x(r, i)) * static_cast<double>(wide(o, i));
              sum += term;
              size += std::fabs(term);
            }
            ASSERT_NEAR(y(r, o), sum, Bound(size + std::fabs(sum), in));
          }
        }
        first = std::move(y);
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, Matmul,
                         testing::Values(Shape{1, 1, 1}, Shape{3, 17, 5}, Shape{1, 64, 130},
                                         Shape{513, 32, 33}, Shape{40, 96, 1040}));

TEST(Attention, AgreesWithTheDefinitionForSpansOfAnyPast) {
  for (const AttentionCase& test : AttentionCases()) {
    const AttentionHeads& heads = test.heads;
    const Index dim = heads.head_dim, rows = test.rows();
    const Matrix<float> q = RandomMatrix(rows, heads.heads * dim, 1);
    Matrix<float> k = RandomMatrix(test.key_rows, heads.kv_heads * dim, 2);
    Matrix<float> v = RandomMatrix(test.key_rows, heads.kv_heads * dim, 3);
    // Rows of keys that a query row sees, in order.
    std::vector<std::vector<Index>> seen(Size(rows));
    std::vector<bool> read(Size(test.key_rows));
    for (const AttentionSpan& span : test.spans) {
      for (Index i = 0; i < span.length; ++i) {
        const Index end = span.past + i + 1;
        for (Index t = 0; t < end; ++t) {
          const Index row = t < span.past ? span.past_keys + t : span.keys + t - span.past;
          read[Size(row)] = true;
          if (heads.window > 0 && t < end - heads.window) continue;
          seen[Size(span.begin + i)].push_back(row);
        }
      }
    }
    for (Index r = 0; r < test.key_rows; ++r) {  // what nobody sees must not count
      if (read[Size(r)]) continue;
      std::ranges::fill(k.view().Row(r), std::numeric_limits<float>::quiet_NaN());
      std::ranges::fill(v.view().Row(r), std::numeric_limits<float>::quiet_NaN());
    }
    Matrix<float> first;
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      const DeviceMatrix out = device->Alloc(rows, heads.heads * dim);
      device->Attention(Uploaded(*device, q).view(), Uploaded(*device, k).view(),
                        Uploaded(*device, v).view(), heads, test.spans, out.view());
      Matrix<float> y = Downloaded(*device, out);
      if (threads > 1) {
        EXPECT_TRUE(SameBytes(y, first));
        continue;
      }
      for (Index r = 0; r < rows; ++r) {
        for (Index h = 0; h < heads.heads; ++h) {
          const Index kv = h * heads.kv_heads / heads.heads * dim;
          std::vector<double> weight;
          double total = 0;
          for (const Index t : seen[Size(r)]) {
            double dot = 0;
            for (Index d = 0; d < dim; ++d) {
              dot += static_cast<double>(q(r, h * dim + d)) * static_cast<double>(k(t, kv + d));
            }
            weight.push_back(std::exp(dot / std::sqrt(static_cast<double>(dim))));
            total += weight.back();
          }
          for (Index d = 0; d < dim; ++d) {
            double expected = 0;
            for (std::size_t t = 0; t < weight.size(); ++t) {
              expected += weight[t] / total * static_cast<double>(v(seen[Size(r)][t], kv + d));
            }
            ASSERT_NEAR(y(r, h * dim + d), expected, 1e-5);
          }
        }
      }
      first = std::move(y);
    }
  }
}

TEST(LogProbabilities, AgreesWithTheDefinitionWhereRowsRepeat) {
  const Matrix<float> logits = RandomMatrix(70, 33, 1);
  const std::vector<TokenPick> picks{{0, 0}, {0, 32}, {69, 5}, {3, 5}, {3, 5}, {40, 1}};
  std::vector<double> values(picks.size());
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);

  device->LogProbabilities(Uploaded(*device, logits).view(), picks, values);

  for (std::size_t i = 0; i < picks.size(); ++i) {
    double total = 0;
    for (const float logit : logits.view().Row(picks[i].row)) {
      total += std::exp(static_cast<double>(logit));
    }
    EXPECT_NEAR(values[i],
                static_cast<double>(logits(picks[i].row, picks[i].token)) - std::log(total), 1e-6);
  }
}

TEST(Rope, TurnsEachRowByItsPosition) {
  constexpr Index kPast = 3, kLength = 4, kHalf = 3, kWindows = 2;
  Matrix<float> cosine(kPast + kLength, kHalf), sine(kPast + kLength, kHalf);
  for (Index i = 0; i < sine.size(); ++i) {
    cosine.data()[i] = std::cos(static_cast<float>(i) * 0.3f);
    sine.data()[i] = std::sin(static_cast<float>(i) * 0.3f);
  }
  const Matrix<float> x = RandomMatrix(kWindows * kLength + 1, 2 * 2 * kHalf, 1);
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const DeviceMatrix turned = Uploaded(*device, x);

  const DeviceMatrix cosines = Uploaded(*device, cosine), sines = Uploaded(*device, sine);
  std::vector<AttentionSpan> spans;
  for (Index w = 0; w < kWindows; ++w) {
    spans.push_back({.begin = w * kLength, .length = kLength, .past = kPast});
  }
  device->Rope(turned.view(), {cosines.view(), sines.view()}, spans, 2 * kHalf);

  const Matrix<float> y = Downloaded(*device, turned);
  for (Index c = 0; c < x.cols(); ++c) {  // a row of no span
    EXPECT_EQ(y(kWindows * kLength, c), x(kWindows * kLength, c));
  }
  for (Index r = 0; r < kWindows * kLength; ++r) {
    const Index position = kPast + r % kLength;
    for (Index h = 0; h < x.cols(); h += 2 * kHalf) {
      for (Index i = 0; i < kHalf; ++i) {
        const float a = x(r, h + i), b = x(r, h + kHalf + i);
        const float c = cosine(position, i), s = sine(position, i);
        EXPECT_NEAR(y(r, h + i), a * c - b * s, 1e-6);
        EXPECT_NEAR(y(r, h + kHalf + i), b * c + a * s, 1e-6);
      }
    }
  }
}

TEST(GramUpdate, AddsTheLowerTriangleAloneAndTheSameForAnyThreads) {
  for (const auto& [rows, n] : {std::pair<Index, Index>{1, 1}, {5, 3}, {100, 65}, {5000, 70}}) {
    const Matrix<float> x = RandomMatrix(rows, n, 9);
    const Matrix<double> expected = GramOf(x.view());
    Matrix<double> first;
    for (const int threads : {1, 2, 7}) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      Matrix<double> gram(n, n);
      for (Index i = 0; i < n; ++i) {
        for (Index j = i + 1; j < n; ++j) gram(i, j) = -1;
      }
      const auto sums = device->calibration()->MakeGram(n);
      sums->Set(gram.view());
      device->calibration()->GramUpdate(Uploaded(*device, x).view(), *sums);
      device->calibration()->GramUpdate(Uploaded(*device, x).view(), *sums);
      std::vector<double> diagonal(Size(n));
      sums->Diagonal(diagonal);
      EXPECT_EQ(sums->Host().data(), sums->Host().data());  // no copy
      gram = sums->Take();
      for (Index i = 0; i < n; ++i) ASSERT_EQ(diagonal[Size(i)], gram(i, i));
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < n; ++j) {
          if (j > i) {
            ASSERT_EQ(gram(i, j), -1);
          } else {
            const double size = std::sqrt(expected(i, i) * expected(j, j));
            ASSERT_NEAR(gram(i, j), 2 * expected(i, j),
                        2 * Bound(size, std::min<Index>(rows, 512)));
          }
        }
      }
      if (threads == 1) {
        first = std::move(gram);
      } else {
        EXPECT_EQ(std::memcmp(gram.data(), first.data(), Size(n * n) * sizeof(double)), 0);
      }
    }
  }
}

TEST(CrossGramUpdate, AddsAllProductsAndTheSameForAnyThreads) {
  for (const auto& [rows, m, n] :
       {std::array<Index, 3>{1, 1, 1}, {5, 3, 2}, {100, 65, 130}, {1500, 7, 70}}) {
    const Matrix<float> a = RandomMatrix(rows, m, 9), b = RandomMatrix(rows, n, 10);
    Matrix<float> first;
    for (const int threads : {1, 2, 7}) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      const auto sums = device->calibration()->MakeCross(m, n);
      device->calibration()->CrossGramUpdate(Uploaded(*device, a).view(),
                                             Uploaded(*device, b).view(), *sums);
      device->calibration()->CrossGramUpdate(Uploaded(*device, a).view(),
                                             Uploaded(*device, b).view(), *sums);
      Matrix<float> cross = sums->Take();
      for (Index i = 0; i < m; ++i) {
        for (Index j = 0; j < n; ++j) {
          double sum = 0, magnitude = 0;
          for (Index r = 0; r < rows; ++r) {
            const double product = static_cast<double>(a(r, i)) * static_cast<double>(b(r, j));
            sum += product;
            magnitude += std::fabs(product);
          }
          ASSERT_NEAR(static_cast<double>(cross(i, j)), 2 * sum, 2 * Bound(magnitude, 2 * rows));
        }
      }
      if (threads == 1) {
        first = std::move(cross);
      } else {
        EXPECT_EQ(std::memcmp(cross.data(), first.data(), Size(m * n) * sizeof(float)), 0);
      }
    }
  }
}

TEST(Subtract, WorksInPlace) {
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Matrix<float> a = RandomMatrix(37, 19, 1), b = RandomMatrix(37, 19, 2);
  const DeviceMatrix left = Uploaded(*device, a), right = Uploaded(*device, b);
  const DeviceMatrix out = device->Alloc(37, 19);
  device->calibration()->Subtract(left.view(), right.view(), 0.5f, out.view());
  device->calibration()->Subtract(left.view(), right.view(), 0.5f, right.view());
  const Matrix<float> apart = Downloaded(*device, out), in_place = Downloaded(*device, right);
  for (Index r = 0; r < 37; ++r) {
    for (Index c = 0; c < 19; ++c) {
      ASSERT_EQ(apart(r, c), 0.5f * (a(r, c) - b(r, c)));
      ASSERT_EQ(in_place(r, c), 0.5f * (a(r, c) - b(r, c)));
    }
  }
}

TEST(LogSoftmaxNll, IsTheNegativeLogProbability) {
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Matrix<float> logits = RandomMatrix(50, 333, 11, 3);
  std::vector<TokenId> targets;
  for (Index r = 0; r < 50; ++r) targets.push_back(static_cast<TokenId>((r * 37) % 333));
  std::vector<double> nll(50);

  device->LogSoftmaxNll(Uploaded(*device, logits).view(), targets, nll);

  for (Index r = 0; r < 50; ++r) {
    double sum = 0;
    for (Index c = 0; c < 333; ++c) sum += std::exp(static_cast<double>(logits(r, c)));
    EXPECT_NEAR(nll[Size(r)], std::log(sum) - static_cast<double>(logits(r, targets[Size(r)])),
                1e-6);
  }
}

/// All columns by falling value, of equals the lower first: the definition.
std::vector<TokenId> SortedColumns(std::span<const float> row) {
  std::vector<TokenId> columns(row.size());
  std::iota(columns.begin(), columns.end(), TokenId{0});
  std::ranges::stable_sort(columns, std::greater<>(),
                           [&](TokenId column) { return row[static_cast<std::size_t>(column)]; });
  return columns;
}

TEST(TopColumns, AreTheFirstOfAllInFallingOrderAndOfEqualsTheLower) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {3, 5}, {2, 64}, {9, 69}, {40, 70}, {5, 133}, {3, 1000}}) {
    Matrix<float> x = RandomMatrix(rows, cols, 11);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        if (r % 4 == 1) x(r, c) = std::round(x(r, c));            // many equals, both zeros
        if (r % 4 == 2) x(r, c) = static_cast<float>(c);          // each is larger than all before
        if (r % 4 == 3) x(r, c) = c % 7 == 2 ? 0.F : -kInfinity;  // masked but for a few
      }
      if (r == 0) x(r, cols - 1) = x(r, cols / 2) = kInfinity;
    }
    for (const Index k : {Index{1}, std::min<Index>(5, cols), std::min<Index>(70, cols)}) {
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        const auto device = MakeCpuDevice(pool);
        Matrix<TokenId> columns(rows, k);

        device->TopColumns(Uploaded(*device, x).view(), columns.view());

        for (Index r = 0; r < rows; ++r) {
          std::vector<TokenId> expected = SortedColumns(x.view().Row(r));
          expected.resize(Size(k));
          EXPECT_TRUE(std::ranges::equal(columns.view().Row(r), expected))
              << rows << 'x' << cols << ", row " << r << ", k " << k;
        }
      }
    }
  }
}

TEST(SoftmaxKl, ComparesRowByRowAndIsTheSameForAnyThreads) {
  const Matrix<float> reference = RandomMatrix(50, 333, 12, 3);
  Matrix<float> logits = RandomMatrix(50, 333, 13, 3);
  for (Index c = 0; c < 333; ++c) logits(7, c) = reference(7, c);
  std::vector<double> first;
  for (const int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    const auto device = MakeCpuDevice(pool);
    std::vector<double> kl(50);

    device->SoftmaxKl(Uploaded(*device, reference).view(), Uploaded(*device, logits).view(), kl);

    if (threads == 1) first = kl;
    EXPECT_EQ(kl, first) << threads << " threads";
  }
  for (Index r = 0; r < 50; ++r) {
    double sum_a = 0, sum_b = 0, kl = 0;
    for (Index c = 0; c < 333; ++c) {
      sum_a += std::exp(static_cast<double>(reference(r, c)));
      sum_b += std::exp(static_cast<double>(logits(r, c)));
    }
    for (Index c = 0; c < 333; ++c) {
      const double a = static_cast<double>(reference(r, c)) - std::log(sum_a);
      kl += std::exp(a) * (a - (static_cast<double>(logits(r, c)) - std::log(sum_b)));
    }
    EXPECT_NEAR(first[Size(r)], kl, 1e-5);
  }
  EXPECT_EQ(first[7], 0);
}

TEST(RoundRows, GivesTheNearestOfTheLevelsOfEachGroup) {
  Matrix<float> x(2, 7);
  const float rows[2][7] = {{7.0f, -3.4f, 0.6f, 0, 0, 0, 1e-3f}, {1, 2, 3, 4, 5, -6, 7}};
  for (Index r = 0; r < 2; ++r) std::copy_n(rows[r], 7, x.view().Row(r).data());
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const DeviceMatrix placed = Uploaded(*device, x);

  device->calibration()->RoundRows(placed.view(), 3, 4);

  const Matrix<float> y = Downloaded(*device, placed);
  const float expected[2][7] = {{7, -3, 1, 0, 0, 0, 1e-3f},
                                {3.0f / 7 * 2, 3.0f / 7 * 5, 3, 6.0f / 7 * 5, 6.0f / 7 * 6, -6, 7}};
  for (Index r = 0; r < 2; ++r) {
    for (Index c = 0; c < 7; ++c) EXPECT_NEAR(y(r, c), expected[r][c], 1e-6) << r << ", " << c;
  }
}

TEST(RoundRows, KeepsWhatIsNotANumber) {
  Matrix<float> x(1, 4);
  x(0, 1) = std::nanf("");
  ThreadPool pool(1);
  const auto device = MakeCpuDevice(pool);
  const DeviceMatrix placed = Uploaded(*device, x);
  device->calibration()->RoundRows(placed.view(), 4, 8);
  EXPECT_TRUE(std::isnan(Downloaded(*device, placed)(0, 1)));
}

}  // namespace
}  // namespace lieq
