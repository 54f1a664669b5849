// A device whose kernels lay codes out for themselves.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <memory>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/device/cpu/products.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/device_matrices.h"
#include "tests/support/error_of.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

std::shared_ptr<const QMatrix> Codes(Index rows, Index cols) {
  return std::make_shared<const QMatrix>(
      RandomQMatrix(rows, cols, {.bits = 2, .group_size = 32, .offset = Offset::kInteger}, 1));
}

class PackedDevice : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<Device> Make(const std::string& kernels,
                                             Activations activations = Activations::kFloat) {
    return MakeCpuDevice(pool_, {.kernels = kernels, .activations = activations});
  }
  ThreadPool pool_{2};
};

Matrix<float> Product(Device& device, const AnyMatrix& w, const Matrix<float>& x) {
  const DeviceMatrix y = device.Alloc(x.rows(), Rows(w));
  device.Matmul(Uploaded(device, x).view(), *device.Prepare(w), {}, y.view(), false);
  return Downloaded(device, y);
}

TEST_F(PackedDevice, NamesItsRowAndItsActivations) {
  EXPECT_NE(Make("packed-scalar", Activations::kInt16)
                ->description()
                .find("packed scalar, int16 activations"),
            std::string::npos);
  EXPECT_NE(Make("packed")->description().find("float activations"), std::string::npos);
  EXPECT_EQ(Make("scalar")->description().find("packed"), std::string::npos);
  EXPECT_NE(ErrorOf([&] { return Make("packed-mmx"); }).find("packed-scalar"), std::string::npos);
  EXPECT_NE(ErrorOf([&] { return Make("mmx"); }).find("packed"), std::string::npos);
}

TEST_F(PackedDevice, LooksRowsUpAsTheyAre) {
  const auto w = Codes(50, 96);
  const std::array<TokenId, 3> tokens{49, 0, 17};
  const auto rows = [&](const std::string& kernels) {
    const auto device = Make(kernels);
    const DeviceMatrix out = device->Alloc(3, 96);
    device->EmbedRows(*device->Prepare(w), tokens, out.view());
    return Downloaded(*device, out);
  };

  EXPECT_TRUE(SameBytes(rows("packed"), rows("")));
}

TEST_F(PackedDevice, GivesTheProductsOfOneThatWidens) {
  const auto w = Codes(70, 128);
  for (const Index rows : {Index{1}, kFewRows, kFewRows + 1, Index{90}}) {
    const Matrix<float> x = RandomMatrix(rows, 128, 2);
    const Matrix<float> expected = Product(*Make(""), w, x);
    const auto distance = [&](Activations activations) {
      const Matrix<float> found = Product(*Make("packed", activations), w, x);
      double error = 0, size = 0;
      for (Index i = 0; i < found.size(); ++i) {
        error += std::pow(static_cast<double>(found.data()[i] - expected.data()[i]), 2);
        size += std::pow(static_cast<double>(expected.data()[i]), 2);
      }
      return std::sqrt(error / size);
    };

    EXPECT_LT(distance(Activations::kFloat), 1e-6);
    // Of 32 normal numbers the largest is about 2.5: a step of rounding is 2.5 / 127, and its error
    // 0.29 of that.
    EXPECT_NEAR(distance(Activations::kInt8), 0.0057, 0.001);
    EXPECT_LT(distance(Activations::kInt16), 3e-5);
  }
}

TEST_F(PackedDevice, TakesGradientsThroughTheWeightsAsTheyAre) {
  const auto w = Codes(70, 96);
  const Matrix<float> dy = RandomMatrix(5, 70, 3);
  const auto gradient = [&](const std::string& kernels) {
    const auto device = Make(kernels);
    const DeviceMatrix dx = device->Alloc(5, 96);
    RequireGradients(*device).MatmulGradient(Uploaded(*device, dy).view(), *device->Prepare(w),
                                             dx.view(), false);
    return Downloaded(*device, dx);
  };

  EXPECT_TRUE(SameBytes(gradient("packed"), gradient("")));
}

TEST_F(PackedDevice, MultipliesWhatItHasNoLayoutForBesideWhatItHas) {
  const Matrix<float> x = RandomMatrix(2, 64, 1), wide = RandomMatrix(9, 64, 2);
  const auto five = std::make_shared<const QMatrix>(
      RandomQMatrix(20, 64, {.bits = 5, .group_size = 32, .offset = Offset::kHalf}, 3));
  const auto packed = Make("packed", Activations::kInt8), plain = Make("");
  const std::array<AnyMatrix, 3> matrices{Codes(33, 64), wide.view(), five};
  std::vector<Prepared> prepared;
  std::vector<DeviceMatrix> results;
  std::vector<lieq::Product> products;
  for (const AnyMatrix& w : matrices) {
    prepared.push_back(packed->Prepare(w));
    results.push_back(packed->Alloc(2, Rows(w)));
    products.push_back({*prepared.back(), {}, results.back().view()});
  }

  packed->Products(Uploaded(*packed, x).view(), products, false);

  EXPECT_TRUE(SameBytes(Downloaded(*packed, results[0]), Product(*packed, matrices[0], x)));
  EXPECT_TRUE(SameBytes(Downloaded(*packed, results[1]), Product(*plain, wide.view(), x)));
  EXPECT_TRUE(SameBytes(Downloaded(*packed, results[2]), Product(*plain, five, x)));
}

}  // namespace
}  // namespace lieq
