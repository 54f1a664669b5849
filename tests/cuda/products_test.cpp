// Products of a GPU for every form of weights, by cuBLASLt where it is and by kernels of our own.
#include <memory>
#include <vector>

#include "lieq/tensor/dtype.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

struct Shape {
  Index rows, in, out;
};
constexpr Shape kShapes[] = {{1, 1, 1},      {3, 17, 5},    {1, 64, 130},  {16, 100, 33},
                             {17, 1, 1},     {21, 17, 5},   {65, 64, 130}, {513, 33, 31},
                             {40, 96, 1040}, {130, 256, 64}};

/// The matrix in every form that a device takes, and codes of every width and offset.
std::vector<AnyMatrix> FormsOf(const Matrix<float>& w, Matrix<Bf16>& bf16, Matrix<F16>& f16) {
  for (Index i = 0; i < w.size(); ++i) {
    bf16.data()[i] = ToBf16(w.data()[i]);
    f16.data()[i] = ToF16(w.data()[i]);
  }
  std::vector<AnyMatrix> forms{w.view(), std::as_const(bf16).view(), std::as_const(f16).view()};
  std::uint64_t seed = 5;
  const auto add = [&](const Grid& grid) {
    if (w.cols() % RowStep(grid, w.cols()) != 0) return;
    forms.emplace_back(
        std::make_shared<const QMatrix>(RandomQMatrix(w.rows(), w.cols(), grid, ++seed)));
  };
  for (const int bits : {2, 3, 4, 8}) {
    for (const Offset offset : kAllOffsets) {
      add({.bits = bits, .group_size = 0, .offset = offset});
      add({.bits = bits, .group_size = 4, .offset = offset});  // several in eight columns
      add({.bits = bits, .group_size = 32, .offset = offset});
    }
  }
  for (const KQuant& row : KQuants()) add(row.grid);
  return forms;
}

class CudaProducts : public BothDevices {
 protected:
  /// Holds a device to the sums in double of factors that `rounded` rounds.
  template <class Rounding>
  void Hold(Device& device, const Rounding& rounded) {
    for (const auto& [rows, in, out] : kShapes) {
      const Matrix<float> x = RandomMatrix(rows, in, 1), start = RandomMatrix(rows, out, 2);
      const Matrix<float> w = RandomMatrix(out, in, 3), bias = RandomMatrix(1, out, 4);
      Matrix<Bf16> bf16(out, in);
      Matrix<F16> f16(out, in);
      Index number = 0;
      for (const AnyMatrix& form : FormsOf(w, bf16, f16)) {
        const bool add = number % 2 == 1, biased = number % 3 != 0;
        const DeviceMatrix on = Uploaded(device, x), y = Uploaded(device, start);
        const DeviceMatrix on_bias = Uploaded(device, bias);
        device.Matmul(on.view(), *device.Prepare(form),
                      biased ? DeviceView<const float>(on_bias.view()) : DeviceView<const float>(),
                      y.view(), add);
        CheckProduct(x, form, biased ? &bias : nullptr, add ? &start : nullptr,
                     Downloaded(device, y), rounded);
        if (HasFatalFailure()) FAIL() << "form " << number << " of " << rows << ", " << in;
        ++number;
      }
    }
  }

  template <class Rounding>
  static void CheckProduct(const Matrix<float>& x, const AnyMatrix& form, const Matrix<float>* bias,
                           const Matrix<float>* start, const Matrix<float>& y,
                           const Rounding& rounded) {
    Matrix<float> wide(y.cols(), x.cols());
    WidenRows(form, 0, wide.view());
    const auto round = [&](float value) { return static_cast<double>(rounded(value, x.rows())); };
    for (Index r = 0; r < x.rows(); ++r) {
      for (Index o = 0; o < y.cols(); ++o) {
        double sum = 0, size = 0;
        for (const float start_of :
             {bias == nullptr ? 0.0f : (*bias)(0, o), start == nullptr ? 0.0f : (*start)(r, o)}) {
          sum += static_cast<double>(start_of);
          size += std::fabs(static_cast<double>(start_of));
        }
        for (Index i = 0; i < x.cols(); ++i) {
          const double term = round(x(r, i)) * round(wide(o, i));
          sum += term;
          size += std::fabs(term);
        }
        ASSERT_NEAR(static_cast<double>(y(r, o)), sum, SumBound(size, x.cols()))
            << "row " << r << ", output " << o;
      }
    }
  }
};

float AsItIs(float value, Index) {
  return value;
}
/// What bf16 products round; few rows are multiplied in float32.
float AsBf16(float value, Index rows) {
  return rows <= 16 ? value : ToFloat(ToBf16(value));
}

TEST_F(CudaProducts, AgreeWithTheDefinitionForEveryForm) {
  Hold(*gpu, AsItIs);
}

TEST_F(CudaProducts, InBf16AgreeWithRoundedFactors) {
  Hold(*MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16}), AsBf16);
}

TEST_F(CudaProducts, AgreeWithoutTheLibraryToo) {
  const WithoutLibraries none;
  const auto own = MakeCudaDevice(test.pool);
  EXPECT_NE(own->description().find("kernels of its own"), std::string::npos);
  Hold(*own, AsItIs);
}

TEST_F(CudaProducts, InBf16AgreeWithoutTheLibraryToo) {
  const WithoutLibraries none;
  Hold(*MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16}), AsBf16);
}

TEST_F(CudaProducts, RowsThatAreLookedUpAreThoseOfTheMatrixToTheBit) {
  for (const Index cols : {1, 17, 64, 256}) {
    const Matrix<float> w = RandomMatrix(41, cols, 3);
    Matrix<Bf16> bf16(41, cols);
    Matrix<F16> f16(41, cols);
    const std::vector<TokenId> tokens{40, 0, 7, 7, 39};
    for (const AnyMatrix& form : FormsOf(w, bf16, f16)) {
      const DeviceMatrix out = gpu->Alloc(5, cols);
      gpu->EmbedRows(*gpu->Prepare(form), tokens, out.view());
      const Matrix<float> found = Downloaded(*gpu, out);
      for (Index r = 0; r < 5; ++r) {
        Matrix<float> expected(1, cols);
        WidenRows(form, tokens[Size(r)], expected.view());
        ASSERT_EQ(LargestDifference(found.view().Rows(r, 1), expected.view()), 0) << cols;
      }
    }
  }
}

/// Rows of the unit matrix bring out the weights themselves.
TEST_F(CudaProducts, InBf16MultiplyWeightsThatAreRoundedOnce) {
  const auto device = MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16});
  for (const Index cols : {17, 33, 40, 96, 100, 256, 520}) {
    Matrix<float> ones(cols, cols);
    for (Index i = 0; i < cols; ++i) ones(i, i) = 1;
    const DeviceMatrix x = Uploaded(*device, ones);
    const Matrix<float> w = RandomMatrix(41, cols, 3);
    Matrix<Bf16> bf16(41, cols);
    Matrix<F16> f16(41, cols);
    for (const AnyMatrix& form : FormsOf(w, bf16, f16)) {
      Matrix<float> wide(41, cols);
      WidenRows(form, 0, wide.view());
      const DeviceMatrix y = device->Alloc(cols, 41);
      device->Matmul(x.view(), *device->Prepare(form), {}, y.view(), false);
      const Matrix<float> found = Downloaded(*device, y);
      for (Index o = 0; o < 41; ++o) {
        for (Index i = 0; i < cols; ++i) {
          ASSERT_EQ(found(i, o), ToFloat(ToBf16(wide(o, i)))) << cols << " columns";
        }
      }
    }
  }
}

TEST_F(CudaProducts, AreTheSameBytesEachTime) {
  const Matrix<float> x = RandomMatrix(300, 520, 1), w = RandomMatrix(260, 520, 2);
  for (const Arithmetic arithmetic : {Arithmetic::kFloat32, Arithmetic::kBf16}) {
    Matrix<float> first;
    for (int round = 0; round < 3; ++round) {
      const auto device = MakeCudaDevice(test.pool, {.arithmetic = arithmetic});
      const DeviceMatrix on = Uploaded(*device, x), y = device->Alloc(300, 260);
      device->Matmul(on.view(), *device->Prepare(w.view()), {}, y.view(), false);
      Matrix<float> found = Downloaded(*device, y);
      EXPECT_TRUE(round == 0 || SameBytes(found, first));
      first = std::move(found);
    }
  }
}

TEST_F(CudaProducts, AHeadLargerThanTheScratchIsMultipliedInParts) {
  // 2^26 widened elements are the most at once.
  const Index in = 2048, out = (Index{1} << 26) / in + 100;
  const auto w =
      std::make_shared<const QMatrix>(RandomQMatrix(out, in, {.bits = 2, .group_size = 64}, 1));
  const Matrix<float> x = RandomMatrix(20, in, 2);
  for (const Arithmetic arithmetic : {Arithmetic::kFloat32, Arithmetic::kBf16}) {
    const auto device = MakeCudaDevice(test.pool, {.arithmetic = arithmetic});
    const DeviceMatrix on = Uploaded(*device, x), y = device->Alloc(20, out);
    device->Matmul(on.view(), *device->Prepare(w), {}, y.view(), false);
    const Matrix<float> found = Downloaded(*device, y);
    for (const Index o : {Index{0}, out - 101, out - 100, out - 1}) {
      Matrix<float> row(1, in);
      WidenRows(AnyMatrix(w), o, row.view());
      double sum = 0, size = 0;
      for (Index i = 0; i < in; ++i) {
        const double term = static_cast<double>(x(19, i)) * static_cast<double>(row(0, i));
        sum += term;
        size += std::fabs(term);
      }
      // bf16 rounds each factor by 2^-9 at most.
      EXPECT_NEAR(static_cast<double>(found(19, o)), sum, size * 0x1.01p-8) << o;
    }
  }
}

}  // namespace
}  // namespace lieq
