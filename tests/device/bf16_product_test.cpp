// Products in bf16: each path against sums of rounded factors in double, over shapes with tails.
#include "lieq/device/cpu/bf16_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/device/cpu/products.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/device_matrices.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

double Rounded(float value) {
  return static_cast<double>(ToFloat(ToBf16(value)));
}

struct Shape {
  Index rows, in, out;
};
const std::vector<Shape> kShapes{{17, 1, 1},     {21, 17, 5},   {25, 64, 130}, {513, 33, 31},
                                 {31, 96, 1040}, {24, 256, 64}, {96, 31, 33},  {33, 575, 17}};

/// y against start and the sum of terms: a product of two rounded factors is exact in float, and
/// each sum of them is off by at most a unit of what was added up so far.
void ExpectSums(const Matrix<float>& y, const Matrix<float>* start, Index terms,
                const std::function<double(Index r, Index c, Index term)>& term) {
  for (Index r = 0; r < y.rows(); ++r) {
    for (Index c = 0; c < y.cols(); ++c) {
      double sum = start != nullptr ? static_cast<double>((*start)(r, c)) : 0;
      double size = std::fabs(sum);
      for (Index i = 0; i < terms; ++i) {
        const double each = term(r, c, i);
        sum += each;
        size += std::fabs(each);
      }
      ASSERT_NEAR(y(r, c), sum, size * static_cast<double>(terms + 2) * 0x1p-24) << r << ", " << c;
    }
  }
}

/// Runs on devices of 1, 2 and 7 threads, which must give the same bytes; returns the first's.
Matrix<float> OnAnyThreads(const std::function<Matrix<float>(Device&)>& run) {
  Matrix<float> first;
  for (const int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    const auto device = MakeCpuDevice(pool, {.arithmetic = Arithmetic::kBf16});
    Matrix<float> y = run(*device);
    if (threads == 1) {
      first = std::move(y);
    } else {
      EXPECT_TRUE(SameBytes(y, first)) << threads << " threads";
    }
  }
  return first;
}

class Bf16Product : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasBf16Product()) GTEST_SKIP() << "this processor has no AVX512_BF16";
  }
};

class Bf16Path : public testing::TestWithParam<const Bf16Multiplier*> {};

TEST_P(Bf16Path, AgreesWithRoundedFactors) {
  const Bf16Multiplier& path = *GetParam();
  if (!path.supported()) GTEST_SKIP() << "this processor has no " << path.name;
  for (const auto& [rows, in, out] : kShapes) {
    const Matrix<float> x = RandomMatrix(rows, in, 1), w = RandomMatrix(out, in, 3);
    const Matrix<float> start = RandomMatrix(rows, out + 3, 2);  // rows with a stride
    std::vector<std::uint16_t> left(Size(rows * EvenColumns(in))), right(PackedBf16Words(out, in));
    RoundRowsToBf16(x.data(), rows, in, in, left.data());
    PackBf16Weights(w.data(), out, in, in, right.data());
    for (const bool add : {false, true}) {
      Matrix<float> wide = RandomMatrix(rows, out + 3, 2), y(rows, out), before(rows, out);
      path.multiply(left.data(), right.data(), wide.data(), rows, out, in, out + 3, add);
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < out; ++c) {
          y(r, c) = wide(r, c);
          before(r, c) = start(r, c);
        }
        for (Index c = out; c < out + 3; ++c) EXPECT_EQ(wide(r, c), start(r, c));
      }
      ExpectSums(y, add ? &before : nullptr, in,
                 [&](Index r, Index o, Index i) { return Rounded(x(r, i)) * Rounded(w(o, i)); });
    }
  }
}

TEST_P(Bf16Path, GivesARowTheSameBitsAmongAnyOthers) {
  const Bf16Multiplier& path = *GetParam();
  if (!path.supported()) GTEST_SKIP() << "this processor has no " << path.name;
  constexpr Index kIn = 77, kOut = 40, kMost = 70;
  const Matrix<float> x = RandomMatrix(kMost, kIn, 1), w = RandomMatrix(kOut, kIn, 3);
  std::vector<std::uint16_t> left(Size(kMost * EvenColumns(kIn)));
  std::vector<std::uint16_t> right(PackedBf16Words(kOut, kIn));
  RoundRowsToBf16(x.data(), kMost, kIn, kIn, left.data());
  PackBf16Weights(w.data(), kOut, kIn, kIn, right.data());
  Matrix<float> all(kMost, kOut);
  path.multiply(left.data(), right.data(), all.data(), kMost, kOut, kIn, kOut, false);
  for (const Index rows : {1, 15, 16, 31, 33}) {
    Matrix<float> some(rows, kOut);
    path.multiply(left.data(), right.data(), some.data(), rows, kOut, kIn, kOut, false);
    for (Index i = 0; i < some.size(); ++i) ASSERT_EQ(some.data()[i], all.data()[i]) << rows;
  }
}
INSTANTIATE_TEST_SUITE_P(All, Bf16Path, testing::Values(&kVectorBf16, &kAmxBf16),
                         [](const auto& each) { return std::string(each.param->name); });

TEST_F(Bf16Product, PacksColumnsAsItPacksRows) {
  for (const auto& [rows, k, n] : kShapes) {
    const Matrix<float> w = RandomMatrix(n, k, 3);
    Matrix<float> turned(k, n);
    for (Index r = 0; r < k; ++r) {
      for (Index c = 0; c < n; ++c) turned(r, c) = w(c, r);
    }
    std::vector<std::uint16_t> packed(PackedBf16Words(n, k)), of_columns(packed.size());
    PackBf16Weights(w.data(), n, k, k, packed.data());
    for (Index first = 0; first < k; first += 6) {  // in parts of six rows
      PackBf16Columns(turned.data() + first * n, std::min<Index>(6, k - first), n, n, first, k,
                      of_columns.data());
    }
    EXPECT_EQ(packed, of_columns) << n << ", " << k;
    std::vector<std::uint16_t> rounded(Size(n * EvenColumns(k))), of_turned(rounded.size());
    RoundRowsToBf16(w.data(), n, k, k, rounded.data());
    RoundColumnsToBf16(turned.data(), n, k, n, of_turned.data());
    EXPECT_EQ(rounded, of_turned) << n << ", " << k;
  }
}

TEST_F(Bf16Product, OfADeviceAgreesWithRoundedFactors) {
  for (const auto& [rows, in, out] : kShapes) {
    const Matrix<float> x = RandomMatrix(rows, in, 1), start = RandomMatrix(rows, out, 2);
    const Matrix<float> w = RandomMatrix(out, in, 3);
    for (const bool add : {false, true}) {
      const Matrix<float> y = OnAnyThreads([&](Device& device) {
        const DeviceMatrix from = Uploaded(device, x), to = Uploaded(device, start);
        device.Matmul(from.view(), *device.Prepare(w.view()), {}, to.view(), add);
        return Downloaded(device, to);
      });
      ExpectSums(y, add ? &start : nullptr, in,
                 [&](Index r, Index o, Index i) { return Rounded(x(r, i)) * Rounded(w(o, i)); });
    }
  }
}

TEST_F(Bf16Product, GradientAgreesWithRoundedFactorsForEveryForm) {
  for (const auto& [rows, in, out] : kShapes) {
    if (rows <= kFewRows) continue;
    const Matrix<float> dy = RandomMatrix(rows, out, 1), start = RandomMatrix(rows, in, 2);
    const Matrix<float> w = RandomMatrix(out, in, 3);
    std::vector<AnyMatrix> forms{w.view()};
    forms.emplace_back(std::make_shared<const QMatrix>(
        RandomQMatrix(out, in, {.bits = 2, .group_size = 0, .offset = Offset::kFloat}, 5)));
    for (const AnyMatrix& form : forms) {
      Matrix<float> wide(out, in);
      WidenRows(form, 0, wide.view());
      for (const bool add : {false, true}) {
        const Matrix<float> dx = OnAnyThreads([&](Device& device) {
          const DeviceMatrix from = Uploaded(device, dy), to = Uploaded(device, start);
          device.gradients()->MatmulGradient(from.view(), *device.Prepare(form), to.view(), add);
          return Downloaded(device, to);
        });
        ExpectSums(dx, add ? &start : nullptr, out, [&](Index r, Index i, Index o) {
          return Rounded(dy(r, o)) * Rounded(wide(o, i));
        });
      }
    }
  }
}

TEST_F(Bf16Product, CrossSumsAgreeWithRoundedFactors) {
  for (const auto& [rows, m, n] : {Shape{1, 1, 1}, {5, 3, 2}, {100, 65, 130}, {1500, 7, 70}}) {
    const Matrix<float> a = RandomMatrix(rows, m, 9), b = RandomMatrix(rows, n, 10);
    const Matrix<float> sums = OnAnyThreads([&](Device& device) {
      const auto cross = device.calibration()->MakeCross(m, n);
      const DeviceMatrix left = Uploaded(device, a), right = Uploaded(device, b);
      device.calibration()->CrossGramUpdate(left.view(), right.view(), *cross);
      return cross->Take();
    });
    ExpectSums(sums, nullptr, rows,
               [&](Index i, Index j, Index r) { return Rounded(a(r, i)) * Rounded(b(r, j)); });
  }
}

TEST_F(Bf16Product, KeepsWhatIsNotFinite) {
  Matrix<float> x = RandomMatrix(40, 40, 1);
  const Matrix<float> w = RandomMatrix(40, 40, 2);
  x(3, 39) = std::numeric_limits<float>::quiet_NaN();
  x(20, 0) = std::numeric_limits<float>::infinity();
  const Matrix<float> y = OnAnyThreads([&](Device& device) {
    const DeviceMatrix from = Uploaded(device, x), to = device.Alloc(40, 40);
    device.Matmul(from.view(), *device.Prepare(w.view()), {}, to.view(), false);
    return Downloaded(device, to);
  });
  for (Index r = 0; r < 40; ++r) {
    for (Index c = 0; c < 40; ++c) EXPECT_EQ(std::isfinite(y(r, c)), r != 3 && r != 20) << r;
  }
}

TEST_F(Bf16Product, OfFewRowsIsThatOfFloat32) {
  const Matrix<float> x = RandomMatrix(kFewRows, 70, 1), w = RandomMatrix(33, 70, 2);
  std::vector<Matrix<float>> found;
  for (const Arithmetic arithmetic : {Arithmetic::kFloat32, Arithmetic::kBf16}) {
    ThreadPool pool(2);
    const auto device = MakeCpuDevice(pool, {.arithmetic = arithmetic});
    const DeviceMatrix in = Uploaded(*device, x), y = device->Alloc(kFewRows, 33);
    device->Matmul(in.view(), *device->Prepare(w.view()), {}, y.view(), false);
    found.push_back(Downloaded(*device, y));
  }
  EXPECT_TRUE(SameBytes(found[0], found[1]));
}

}  // namespace
}  // namespace lieq
