// Gradients on a GPU against the processor's, which tests/device/gradients_test.cpp holds to their
// definitions.
#include <array>
#include <vector>

#include "lieq/tensor/dtype.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/unit_gradients.h"

namespace lieq {
namespace {

class CudaGradients : public BothDevices {
 protected:
  void SetUp() override {
    BothDevices::SetUp();
    if (!IsSkipped()) rounded = MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16});
  }
  std::unique_ptr<Device> rounded;
};

struct ProductShape {
  Index rows, in, out;
};
constexpr ProductShape kProducts[] = {{1, 1, 1},      {5, 17, 3},     {16, 64, 130}, {17, 33, 40},
                                      {100, 96, 257}, {300, 512, 72}, {64, 576, 192}};

/// dy W (+ start) in double, of factors as they are or rounded to bf16, and a bound of its error.
template <class Round>
void ExpectProduct(const Matrix<float>& dy, const Matrix<float>& w, const Matrix<float>* start,
                   const Matrix<float>& found, const Round& round) {
  for (Index r = 0; r < dy.rows(); ++r) {
    for (Index i = 0; i < w.cols(); ++i) {
      double sum = start != nullptr ? static_cast<double>((*start)(r, i)) : 0;
      double size = std::fabs(sum);
      for (Index o = 0; o < w.rows(); ++o) {
        const double term = round(dy(r, o)) * round(w(o, i));
        sum += term;
        size += std::fabs(term);
      }
      ASSERT_NEAR(found(r, i), sum, SumBound(size, w.rows())) << r << ", " << i;
    }
  }
}

void ExpectProducts(Device& device, bool bf16) {
  for (const auto& [rows, in, out] : kProducts) {
    const Matrix<float> dy = RandomMatrix(rows, out, 1), start = RandomMatrix(rows, in, 2);
    const Matrix<float> w = RandomMatrix(out, in, 3);
    Matrix<Bf16> w_bf16(out, in);
    Matrix<F16> w_f16(out, in);
    for (Index i = 0; i < w.size(); ++i) {
      w_bf16.data()[i] = ToBf16(w.data()[i]);
      w_f16.data()[i] = ToF16(w.data()[i]);
    }
    std::vector<AnyMatrix> forms{w.view(), std::as_const(w_bf16).view(),
                                 std::as_const(w_f16).view()};
    forms.emplace_back(std::make_shared<const QMatrix>(
        RandomQMatrix(out, in, {.bits = 3, .group_size = 0, .offset = Offset::kFloat}, 5)));
    for (const AnyMatrix& form : forms) {
      Matrix<float> wide(out, in);
      WidenRows(form, 0, wide.view());
      for (const bool add : {false, true}) {
        const DeviceMatrix from = Uploaded(device, dy), to = Uploaded(device, start);
        device.gradients()->MatmulGradient(from.view(), *device.Prepare(form), to.view(), add);
        const bool rounds = bf16 && rows > 16;  // few rows are multiplied as they are
        ExpectProduct(dy, wide, add ? &start : nullptr, Downloaded(device, to), [&](float value) {
          return static_cast<double>(rounds ? ToFloat(ToBf16(value)) : value);
        });
      }
    }
  }
}

TEST_F(CudaGradients, ProductsAgreeWithTheDefinitionForEveryForm) {
  ExpectProducts(*gpu, false);
}
TEST_F(CudaGradients, ProductsInBf16AgreeWithRoundedFactors) {
  if (gpu->description().find("cuBLASLt 1") == std::string::npos) GTEST_SKIP() << "no library";
  ExpectProducts(*rounded, true);
}
TEST_F(CudaGradients, ProductsAgreeWithoutTheLibraryToo) {
  const WithoutLibraries without;
  ExpectProducts(*MakeCudaDevice(test.pool), false);
  ExpectProducts(*MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16}), false);
}

TEST_F(CudaGradients, OfUnitsAreThoseOfTheirProductsOneByOne) {
  ExpectUnitGradients(*gpu);
  ExpectUnitGradients(*rounded);
  const WithoutLibraries without;
  ExpectUnitGradients(*MakeCudaDevice(test.pool));
  ExpectUnitGradients(*MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16}));
}

TEST_F(CudaGradients, TheActivationThatIsSavedHasTheBitsOfTheOneInPlace) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {7, 33}, {130, 1025}, {3, 1028}, {2, 9728}}) {
    Matrix<float> gate = RandomMatrix(rows, cols, 1, 5);
    const Matrix<float> up = RandomMatrix(rows, cols, 2);
    gate(0, 0) = -200;  // whose exponential is not finite
    const DeviceMatrix g = Uploaded(*gpu, gate), u = Uploaded(*gpu, up),
                       in_place = Uploaded(*gpu, gate), out = Uploaded(*gpu, up);

    gpu->SwiGluInto(g.view(), u.view(), out.view());

    gpu->SwiGlu(in_place.view(), u.view());
    EXPECT_TRUE(SameBytes(Downloaded(*gpu, out), Downloaded(*gpu, in_place)))
        << rows << 'x' << cols;
    EXPECT_TRUE(SameBytes(Downloaded(*gpu, g), gate));
  }
}

TEST_F(CudaGradients, OfNormsAgreeWithTheProcessors) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {5, 17}, {333, 64}, {70, 512}, {3, 513}, {40, 2560}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1, 3), weight = RandomMatrix(1, cols, 2);
    const Matrix<float> dy = RandomMatrix(rows, cols, 3), start = RandomMatrix(rows, cols, 4);
    for (const bool add : {false, true}) {
      for (const bool in_place : {false, true}) {
        if (add && in_place) continue;
        std::array<Matrix<float>, 2> found;
        for (const std::size_t i : {0u, 1u}) {
          Device& device = i == 0 ? *cpu : *gpu;
          const DeviceMatrix from = Uploaded(device, dy), to = Uploaded(device, start);
          const DeviceView<float> dx = in_place ? from.view() : to.view();
          device.gradients()->RmsNormGradient(Uploaded(device, x).view(),
                                              Uploaded(device, weight).view(), 1e-6, from.view(),
                                              dx, add);
          found[i] = Downloaded(device, in_place ? from : to);
        }
        EXPECT_LE(LargestDifference(found[0], found[1]), 3e-6) << rows << 'x' << cols;
      }
    }
  }
}

TEST_F(CudaGradients, OfTheActivationAgreeWithTheProcessors) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {7, 33}, {130, 1025}, {2, 9728}}) {
    Matrix<float> gate = RandomMatrix(rows, cols, 1, 5);
    const Matrix<float> up = RandomMatrix(rows, cols, 2), d = RandomMatrix(rows, cols, 3);
    gate(0, 0) = -200;  // whose exponential is not finite
    std::array<Matrix<float>, 2> of_gate, of_up;
    for (const std::size_t i : {0u, 1u}) {
      Device& device = i == 0 ? *cpu : *gpu;
      const DeviceMatrix g = Uploaded(device, gate), u = Uploaded(device, up);
      device.gradients()->SwiGluGradient(g.view(), u.view(), Uploaded(device, d).view());
      of_gate[i] = Downloaded(device, g);
      of_up[i] = Downloaded(device, u);
    }
    EXPECT_LE(LargestDifference(of_gate[0], of_gate[1]), 1e-5) << rows << 'x' << cols;
    EXPECT_LE(LargestDifference(of_up[0], of_up[1]), 1e-5) << rows << 'x' << cols;
  }
}

TEST_F(CudaGradients, OfLossesAgreeWithTheProcessors) {
  for (const auto& [rows, vocab] :
       {std::pair<Index, Index>{1, 2}, {3, 33}, {65, 1000}, {7, 49152}}) {
    const Matrix<float> logits = RandomMatrix(rows, vocab, 1, 8);
    const Matrix<float> reference = RandomMatrix(rows, vocab, 2, 8);
    std::vector<TokenId> targets(Size(rows));
    for (std::size_t i = 0; i < targets.size(); ++i) {
      targets[i] = static_cast<TokenId>((i * 7919 + 1) % Size(vocab));
    }
    std::array<Matrix<float>, 2> of_nll, of_kl;
    std::array<std::vector<double>, 2> nll, kl;
    for (const std::size_t i : {0u, 1u}) {
      Device& device = i == 0 ? *cpu : *gpu;
      nll[i].resize(targets.size());
      kl[i].resize(targets.size());
      const DeviceMatrix a = Uploaded(device, logits), b = Uploaded(device, logits);
      device.gradients()->NllGradient(a.view(), targets, nll[i]);
      device.gradients()->KlGradient(b.view(), Uploaded(device, reference).view(), kl[i]);
      of_nll[i] = Downloaded(device, a);
      of_kl[i] = Downloaded(device, b);
    }
    EXPECT_LE(LargestDifference(of_nll[0], of_nll[1]), 2e-6);
    EXPECT_LE(LargestDifference(of_kl[0], of_kl[1]), 2e-6);
    for (std::size_t i = 0; i < targets.size(); ++i) {
      EXPECT_NEAR(nll[0][i], nll[1][i], 1e-5);
      EXPECT_NEAR(kl[0][i], kl[1][i], 1e-5 * std::max(1.0, kl[0][i]));
    }
  }
}

struct Attended {
  Matrix<float> dq, dk, dv;
};
Attended AttentionGradientOf(Device& device, const AttentionShape& shape) {
  const Index rows = shape.windows * shape.length, dim = shape.head_dim;
  const Matrix<float> q = RandomMatrix(rows, shape.heads * dim, 1);
  const Matrix<float> k = RandomMatrix(rows, shape.kv_heads * dim, 2);
  const Matrix<float> v = RandomMatrix(rows, shape.kv_heads * dim, 3);
  const Matrix<float> d = RandomMatrix(rows, shape.heads * dim, 4);
  // Filled with what must not be kept.
  const DeviceMatrix dq = Uploaded(device, q), dk = Uploaded(device, k), dv = Uploaded(device, v);
  device.gradients()->AttentionGradient(Uploaded(device, q).view(), Uploaded(device, k).view(),
                                        Uploaded(device, v).view(), Uploaded(device, d).view(),
                                        shape, dq.view(), dk.view(), dv.view());
  return {Downloaded(device, dq), Downloaded(device, dk), Downloaded(device, dv)};
}
double Largest(const Attended& a, const Attended& b) {
  return std::max({LargestDifference(a.dq, b.dq), LargestDifference(a.dk, b.dk),
                   LargestDifference(a.dv, b.dv)});
}

/// Of the largest number of each.
double RelativeDifference(const Attended& expected, const Attended& found) {
  const auto apart = [](const Matrix<float>& a, const Matrix<float>& b) {
    const Matrix<float> nothing(a.rows(), a.cols());
    return LargestDifference(a, b) / std::max(1e-6, LargestDifference(a, nothing));
  };
  return std::max(
      {apart(expected.dq, found.dq), apart(expected.dk, found.dk), apart(expected.dv, found.dv)});
}

TEST_F(CudaGradients, OfAttentionAgreeWithTheProcessorsAndAreTheSameBytesEachTime) {
  for (const AttentionShape shape :
       {AttentionShape{1, 1, 2, 1, 4}, AttentionShape{2, 7, 4, 2, 6},
        AttentionShape{3, 65, 6, 2, 64}, AttentionShape{2, 200, 4, 1, 40},
        AttentionShape{1, 129, 4, 4, 128}, AttentionShape{2, 90, 2, 1, 100},
        AttentionShape{1, 70, 2, 1, 256}, AttentionShape{1, 45, 3, 3, 130},
        AttentionShape{2, 9, 4, 2, 6, 1}, AttentionShape{2, 150, 4, 2, 64, 20},
        AttentionShape{1, 150, 2, 1, 128, 70}, AttentionShape{1, 300, 2, 2, 64, 300}}) {
    const Attended expected = AttentionGradientOf(*cpu, shape);

    const Attended found = AttentionGradientOf(*gpu, shape);

    // Sums of up to 800 products of numbers around 1, by either.
    EXPECT_LE(Largest(expected, found), 1e-4) << shape.length << ' ' << shape.head_dim;
    const Attended again = AttentionGradientOf(*gpu, shape);
    EXPECT_TRUE(SameBytes(found.dq, again.dq) && SameBytes(found.dk, again.dk) &&
                SameBytes(found.dv, again.dv));
    // Factors of bf16 but for those of scores: both of a product and what made one of them are up
    // to 2^-9 off. Wider heads are computed in float32.
    const Attended of_bf16 = AttentionGradientOf(*rounded, shape);
    EXPECT_LE(RelativeDifference(expected, of_bf16), shape.head_dim > 128 ? 1e-4 : 0x1p-7)
        << shape.length << ' ' << shape.head_dim;
    const Attended of_bf16_again = AttentionGradientOf(*rounded, shape);
    EXPECT_TRUE(SameBytes(of_bf16.dq, of_bf16_again.dq) &&
                SameBytes(of_bf16.dk, of_bf16_again.dk) && SameBytes(of_bf16.dv, of_bf16_again.dv));
  }
}

}  // namespace
}  // namespace lieq
