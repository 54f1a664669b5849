// Gradients of the device's operations, against the definition in double or central differences of
// it: of the loss sum(c * f(x)) with a random c.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/device_matrices.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/unit_gradients.h"

namespace lieq {
namespace {

constexpr int kThreads[] = {1, 2, 7};

Matrix<double> Wide(const Matrix<float>& from) {
  Matrix<double> to(from.rows(), from.cols());
  for (Index i = 0; i < from.size(); ++i) to.data()[i] = static_cast<double>(from.data()[i]);
  return to;
}

double Dot(const Matrix<double>& a, const Matrix<float>& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += a.data()[i] * static_cast<double>(b.data()[i]);
  return sum;
}

/// Central differences of a loss of x. Errors: h² times the third derivative, some 1e-9, and the
/// loss's rounding over h, some 1e-10.
Matrix<double> Differences(Matrix<double>& x, const std::function<double()>& loss) {
  constexpr double kStep = 1e-5;
  Matrix<double> gradient(x.rows(), x.cols());
  for (Index i = 0; i < x.size(); ++i) {
    const double middle = x.data()[i];
    x.data()[i] = middle + kStep;
    const double up = loss();
    x.data()[i] = middle - kStep;
    gradient.data()[i] = (up - loss()) / (2 * kStep);
    x.data()[i] = middle;
  }
  return gradient;
}

void ExpectNear(const Matrix<float>& found, const Matrix<double>& expected, double tolerance,
                const char* what) {
  ASSERT_EQ(found.size(), expected.size());
  for (Index i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found.data()[i], expected.data()[i], tolerance)
        << what << " " << i / found.cols() << ", " << i % found.cols();
  }
}

struct Shape {
  Index rows, in, out;
};
class MatmulGradient : public testing::TestWithParam<Shape> {};

TEST_P(MatmulGradient, AgreesWithTheDefinitionForEveryFormAndAnyThreads) {
  const auto [rows, in, out] = GetParam();
  const Matrix<float> dy = RandomMatrix(rows, out, 1), start = RandomMatrix(rows, in, 2);
  const Matrix<float> w = RandomMatrix(out, in, 3);
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
  }
  for (const AnyMatrix& form : forms) {
    Matrix<float> wide(out, in);
    WidenRows(form, 0, wide.view());
    for (const bool add : {false, true}) {
      Matrix<float> first;
      for (const int threads : kThreads) {
        ThreadPool pool(threads);
        const auto device = MakeCpuDevice(pool);
        const DeviceMatrix ddy = Uploaded(*device, dy), ddx = Uploaded(*device, start);
        device->gradients()->MatmulGradient(ddy.view(), *device->Prepare(form), ddx.view(), add);
        Matrix<float> dx = Downloaded(*device, ddx);
        if (threads > 1) {
          EXPECT_TRUE(SameBytes(dx, first)) << threads << " threads";
          continue;
        }
        for (Index r = 0; r < rows; ++r) {
          for (Index i = 0; i < in; ++i) {
            double sum = add ? static_cast<double>(start(r, i)) : 0, size = std::fabs(sum);
            for (Index o = 0; o < out; ++o) {
              const double term = static_cast<double>(dy(r, o)) * static_cast<double>(wide(o, i));
              sum += term;
              size += std::fabs(term);
            }
            // `out` products of float added in any order
            ASSERT_NEAR(dx(r, i), sum, size * static_cast<double>(out + 2) * 0x1p-24);
          }
        }
        first = std::move(dx);
      }
    }
  }
}
// Several tiles of rows (1,100), of columns (544) and blocks of outputs (1,040 and 2,100).
INSTANTIATE_TEST_SUITE_P(Shapes, MatmulGradient,
                         testing::Values(Shape{1, 1, 1}, Shape{3, 17, 5}, Shape{1, 64, 130},
                                         Shape{1100, 32, 33}, Shape{5, 544, 1040},
                                         Shape{7, 33, 2100}));

TEST(ProductsGradient, IsThatOfItsProductsOneByOne) {
  for (const Arithmetic arithmetic : {Arithmetic::kFloat32, Arithmetic::kBf16}) {
    ThreadPool pool(2);
    ExpectUnitGradients(*MakeCpuDevice(pool, {.arithmetic = arithmetic}));
  }
}

TEST(SwiGluInto, GivesTheBitsOfSwiGluAndLeavesTheGate) {
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Matrix<float> gate = RandomMatrix(5, 33, 1, 5), up = RandomMatrix(5, 33, 2);
  const DeviceMatrix g = Uploaded(*device, gate), u = Uploaded(*device, up),
                     in_place = Uploaded(*device, gate), out = Uploaded(*device, up);

  device->SwiGluInto(g.view(), u.view(), out.view());

  device->SwiGlu(in_place.view(), u.view());
  EXPECT_TRUE(SameBytes(Downloaded(*device, out), Downloaded(*device, in_place)));
  EXPECT_TRUE(SameBytes(Downloaded(*device, g), gate));
}

TEST(RmsNormGradient, AgreesWithDifferencesInPlaceAndAdded) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 7}, {40, 16}, {2, 50}}) {
    constexpr double kEps = 1e-2;
    const Matrix<float> x = RandomMatrix(rows, cols, 1), weight = RandomMatrix(1, cols, 2);
    const Matrix<float> c = RandomMatrix(rows, cols, 3), start = RandomMatrix(rows, cols, 4);
    Matrix<double> wide = Wide(x);
    const Matrix<double> expected = Differences(wide, [&] {
      double loss = 0;
      for (Index r = 0; r < rows; ++r) {
        double squares = 0;
        for (Index i = 0; i < cols; ++i) squares += wide(r, i) * wide(r, i);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + kEps);
        for (Index i = 0; i < cols; ++i) {
          loss +=
              static_cast<double>(c(r, i)) * wide(r, i) * scale * static_cast<double>(weight(0, i));
        }
      }
      return loss;
    });
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      const DeviceMatrix dx = Uploaded(*device, start), both = Uploaded(*device, c);
      const DeviceMatrix norm = Uploaded(*device, weight);
      device->gradients()->RmsNormGradient(Uploaded(*device, x).view(), norm.view(), kEps,
                                           Uploaded(*device, c).view(), dx.view(), true);
      device->gradients()->RmsNormGradient(Uploaded(*device, x).view(), norm.view(), kEps,
                                           both.view(), both.view(), false);

      ExpectNear(Downloaded(*device, both), expected, 1e-5, "dx");
      const Matrix<float> added = Downloaded(*device, dx);
      for (Index i = 0; i < added.size(); ++i) {
        ASSERT_NEAR(added.data()[i], static_cast<double>(start.data()[i]) + expected.data()[i],
                    1e-5);
      }
    }
  }
}

TEST(Rope, TurnedBackIsItsTranspose) {
  constexpr Index kWindows = 2, kLength = 5, kHeads = 3;
  for (const Index dim : {Index{2}, Index{6}, Index{40}}) {
    Matrix<float> cosine(kLength, dim / 2), sine(kLength, dim / 2), minus(kLength, dim / 2);
    for (Index i = 0; i < sine.size(); ++i) {
      cosine.data()[i] = std::cos(static_cast<float>(i) * 0.3f);
      sine.data()[i] = std::sin(static_cast<float>(i) * 0.3f);
      minus.data()[i] = -sine.data()[i];
    }
    const Matrix<float> x = RandomMatrix(kWindows * kLength, kHeads * dim, 1);
    const Matrix<float> c = RandomMatrix(kWindows * kLength, kHeads * dim, 2);
    ThreadPool pool(2);
    const auto device = MakeCpuDevice(pool);
    const DeviceMatrix turned = Uploaded(*device, x), gradient = Uploaded(*device, c);

    const DeviceMatrix cosines = Uploaded(*device, cosine), sines = Uploaded(*device, sine);
    const DeviceMatrix back = Uploaded(*device, minus);
    std::vector<AttentionSpan> spans;
    for (Index w = 0; w < kWindows; ++w) {
      spans.push_back({.begin = w * kLength, .length = kLength, .keys = w * kLength});
    }
    device->Rope(turned.view(), {cosines.view(), sines.view()}, spans, dim);
    device->Rope(gradient.view(), {cosines.view(), back.view()}, spans, dim);

    // The loss is linear: c . Rope(x) = (gradient) . x
    EXPECT_NEAR(Dot(Wide(Downloaded(*device, turned)), c),
                Dot(Wide(Downloaded(*device, gradient)), x), 1e-4);
  }
}

/// sum(c * attention(q, k, v)) in double.
double AttentionLoss(const Matrix<double>& q, const Matrix<double>& k, const Matrix<double>& v,
                     const Matrix<float>& c, const AttentionShape& shape) {
  const Index dim = shape.head_dim;
  double loss = 0;
  std::vector<double> weight(Size(shape.length));
  for (Index r = 0; r < q.rows(); ++r) {
    const Index begin = r / shape.length * shape.length;
    for (Index h = 0; h < shape.heads; ++h) {
      const Index kv = h * shape.kv_heads / shape.heads * dim;
      const Index seen = shape.window == 0 ? begin : std::max(begin, r + 1 - shape.window);
      double total = 0;
      for (Index t = seen; t <= r; ++t) {
        double dot = 0;
        for (Index d = 0; d < dim; ++d) dot += q(r, h * dim + d) * k(t, kv + d);
        total += weight[Size(t - begin)] = std::exp(dot / std::sqrt(static_cast<double>(dim)));
      }
      for (Index t = seen; t <= r; ++t) {
        double dot = 0;
        for (Index d = 0; d < dim; ++d) {
          dot += v(t, kv + d) * static_cast<double>(c(r, h * dim + d));
        }
        loss += weight[Size(t - begin)] / total * dot;
      }
    }
  }
  return loss;
}

struct Attended {
  Matrix<float> dq, dk, dv;
};

Attended AttentionGradientOf(Device& device, const Matrix<float>& q, const Matrix<float>& k,
                             const Matrix<float>& v, const Matrix<float>& c,
                             const AttentionShape& shape) {
  // Filled with what must not be kept.
  const DeviceMatrix dq = Uploaded(device, q), dk = Uploaded(device, k), dv = Uploaded(device, v);
  device.gradients()->AttentionGradient(Uploaded(device, q).view(), Uploaded(device, k).view(),
                                        Uploaded(device, v).view(), Uploaded(device, c).view(),
                                        shape, dq.view(), dk.view(), dv.view());
  return {Downloaded(device, dq), Downloaded(device, dk), Downloaded(device, dv)};
}

TEST(AttentionGradient, AgreesWithDifferencesAndIsTheSameForAnyThreads) {
  for (const AttentionShape shape :
       {AttentionShape{1, 1, 2, 1, 4}, AttentionShape{2, 7, 4, 2, 6}, AttentionShape{1, 5, 3, 3, 2},
        AttentionShape{3, 18, 6, 2, 4}, AttentionShape{2, 9, 4, 2, 6, 1},
        AttentionShape{2, 11, 4, 1, 6, 4}, AttentionShape{1, 6, 2, 2, 4, 6}}) {
    const Index rows = shape.windows * shape.length, dim = shape.head_dim;
    const Matrix<float> q = RandomMatrix(rows, shape.heads * dim, 1);
    const Matrix<float> k = RandomMatrix(rows, shape.kv_heads * dim, 2);
    const Matrix<float> v = RandomMatrix(rows, shape.kv_heads * dim, 3);
    const Matrix<float> c = RandomMatrix(rows, shape.heads * dim, 4);
    Matrix<double> wq = Wide(q), wk = Wide(k), wv = Wide(v);
    const auto loss = [&] { return AttentionLoss(wq, wk, wv, c, shape); };
    const Matrix<double> dq = Differences(wq, loss), dk = Differences(wk, loss);
    const Matrix<double> dv = Differences(wv, loss);
    Attended first;
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);

      Attended found = AttentionGradientOf(*device, q, k, v, c, shape);

      ExpectNear(found.dq, dq, 1e-5, "dq");
      ExpectNear(found.dk, dk, 1e-5, "dk");
      ExpectNear(found.dv, dv, 1e-5, "dv");
      if (threads == 1) {
        first = std::move(found);
      } else {
        EXPECT_TRUE(SameBytes(found.dq, first.dq) && SameBytes(found.dk, first.dk) &&
                    SameBytes(found.dv, first.dv))
            << threads << " threads";
      }
    }
  }
}

TEST(AttentionGradient, HoldsOverSeveralBlocksOfQueries) {
  // Too many for differences of each value: along one random direction of each argument.
  for (const AttentionShape shape :
       {AttentionShape{2, 300, 4, 2, 6}, AttentionShape{2, 300, 4, 2, 6, 130}}) {
    const Index rows = shape.windows * shape.length, dim = shape.head_dim;
    const Matrix<float> q = RandomMatrix(rows, shape.heads * dim, 1);
    const Matrix<float> k = RandomMatrix(rows, shape.kv_heads * dim, 2);
    const Matrix<float> v = RandomMatrix(rows, shape.kv_heads * dim, 3);
    const Matrix<float> c = RandomMatrix(rows, shape.heads * dim, 4);
    ThreadPool pool(3);
    const auto device = MakeCpuDevice(pool);
    const Attended found = AttentionGradientOf(*device, q, k, v, c, shape);
    Matrix<double> wq = Wide(q), wk = Wide(k), wv = Wide(v);
    const auto check = [&](Matrix<double>& x, const Matrix<float>& gradient, std::uint64_t seed) {
      constexpr double kStep = 1e-5;
      const Matrix<float> direction = RandomMatrix(x.rows(), x.cols(), seed);
      const auto moved = [&](double step) {
        for (Index i = 0; i < x.size(); ++i) {
          x.data()[i] += step * static_cast<double>(direction.data()[i]);
        }
        return AttentionLoss(wq, wk, wv, c, shape);
      };
      const double up = moved(kStep), down = moved(-2 * kStep);
      moved(kStep);
      EXPECT_NEAR(Dot(Wide(direction), gradient), (up - down) / (2 * kStep), 1e-4) << seed;
    };
    check(wq, found.dq, 11);
    check(wk, found.dk, 12);
    check(wv, found.dv, 13);
  }
}

TEST(SwiGluGradient, AgreesWithDifferences) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {40, 7}, {3, 16}, {2, 50}}) {
    const Matrix<float> gate = RandomMatrix(rows, cols, 1, 3), up = RandomMatrix(rows, cols, 2);
    const Matrix<float> c = RandomMatrix(rows, cols, 3);
    Matrix<double> wide_gate = Wide(gate), wide_up = Wide(up);
    const auto loss = [&] {
      double sum = 0;
      for (Index i = 0; i < gate.size(); ++i) {
        const double g = wide_gate.data()[i];
        sum += static_cast<double>(c.data()[i]) * g / (1 + std::exp(-g)) * wide_up.data()[i];
      }
      return sum;
    };
    const Matrix<double> dgate = Differences(wide_gate, loss), dup = Differences(wide_up, loss);
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      const DeviceMatrix g = Uploaded(*device, gate), u = Uploaded(*device, up);

      device->gradients()->SwiGluGradient(g.view(), u.view(), Uploaded(*device, c).view());

      ExpectNear(Downloaded(*device, g), dgate, 1e-5, "dgate");
      ExpectNear(Downloaded(*device, u), dup, 1e-5, "dup");
    }
  }
}

TEST(NllGradient, IsTheProbabilityLessTheTargetAndGivesTheNll) {
  for (const auto& [rows, vocab] : {std::pair<Index, Index>{1, 2}, {50, 37}, {3, 80}}) {
    const Matrix<float> logits = RandomMatrix(rows, vocab, 1, 3);
    std::vector<TokenId> targets;
    for (Index r = 0; r < rows; ++r) targets.push_back(static_cast<TokenId>((r * 37) % vocab));
    Matrix<double> wide = Wide(logits);
    const Matrix<double> expected = Differences(wide, [&, vocab = vocab] {
      double loss = 0;
      for (Index r = 0; r < wide.rows(); ++r) {
        double sum = 0;
        for (Index v = 0; v < vocab; ++v) sum += std::exp(wide(r, v));
        loss += std::log(sum) - wide(r, targets[Size(r)]);
      }
      return loss;
    });
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      const DeviceMatrix x = Uploaded(*device, logits), again = Uploaded(*device, logits);
      std::vector<double> nll(Size(rows)), nll_alone(Size(rows));

      device->gradients()->NllGradient(x.view(), targets, nll);

      ExpectNear(Downloaded(*device, x), expected, 2e-6, "dlogits");
      device->LogSoftmaxNll(again.view(), targets, nll_alone);
      EXPECT_EQ(nll, nll_alone);
    }
  }
}

TEST(RowSquares, AddsTheSquaresOfEachRow) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {100, 64}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1);
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      std::vector<double> sums(Size(rows), 2.0);

      device->calibration()->RowSquares(Uploaded(*device, x).view(), sums);

      for (Index r = 0; r < rows; ++r) {
        double expected = 2;
        for (const float value : x.view().Row(r)) {
          expected += static_cast<double>(value) * static_cast<double>(value);
        }
        ASSERT_NEAR(sums[Size(r)], expected, 1e-12 * expected);
      }
    }
  }
}

TEST(ColumnSquares, AddsTheSquaresOfEachColumn) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {100, 64}, {7, 129}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1);
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      const auto device = MakeCpuDevice(pool);
      std::vector<double> sums(Size(cols), 2.0);

      device->calibration()->ColumnSquares(Uploaded(*device, x).view(), sums);

      for (Index c = 0; c < cols; ++c) {
        double expected = 2;
        for (Index r = 0; r < rows; ++r) {
          expected += static_cast<double>(x(r, c)) * static_cast<double>(x(r, c));
        }
        ASSERT_DOUBLE_EQ(sums[Size(c)], expected) << rows << 'x' << cols << ", column " << c;
      }
    }
  }
}

}  // namespace
}  // namespace lieq
