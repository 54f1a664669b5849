// Products of a GPU with codes in units (device/cuda/packed.h), against sums in double.
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/tensor/dtype.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

using Codes = std::shared_ptr<const QMatrix>;

struct Shape {
  Index rows, in, out;
};

class CudaPacked : public BothDevices {
 protected:
  void SetUp() override {
    BothDevices::SetUp();
    if (IsSkipped()) return;
    try {
      packed = MakeCudaDevice(test.pool, {.kernels = std::string(kPackedKernels)});
    } catch (const Error&) {
      GTEST_SKIP() << "packed kernels need compute capability 9.0 (docs/gpu.md)";
    }
  }

  /// Holds y to x Wᵀ (+ bias) (+ start) in double. The error is that of x in f16, below 2^-11 of
  /// every factor and 2^-30 of the largest, and that of sums of scale (code - zero) x: tensor cores
  /// align the products of a step by the exponents of their factors, and codes, which are subnormal
  /// numbers of f16 there, have up to nine zeros in front. So some 15 bits of the largest are left.
  /// More than 16 rows meet weights in f16: 2^-11 of each, or what f16 has left of weights that are
  /// small beside the largest scale.
  static void Check(const Matrix<float>& x, const QMatrix& w, const Matrix<float>* bias,
                    const Matrix<float>* start, const Matrix<float>& y, bool in_f16 = false) {
    Matrix<float> wide(w.rows(), w.cols());
    w.Dequantize(0, wide.view());
    in_f16 = in_f16 || x.rows() > 16;
    double least = 0;  // error of a small weight
    if (in_f16) {
      double most = 1;
      for (const auto& numbers : {w.scales(), w.minima()}) {
        for (const float number : std::span(numbers.data(), Size(numbers.size()))) {
          most = std::max(most, std::fabs(static_cast<double>(number)));
        }
      }
      least = most * 0x1p-28;
    }
    for (Index r = 0; r < x.rows(); ++r) {
      double largest = 0;
      for (Index i = 0; i < x.cols(); ++i) {
        largest = std::max(largest, std::fabs(static_cast<double>(x(r, i))));
      }
      for (Index o = 0; o < w.rows(); ++o) {
        double sum = 0, rounding = 0, size = 0;
        for (const float more :
             {bias == nullptr ? 0.0f : (*bias)(0, o), start == nullptr ? 0.0f : (*start)(r, o)}) {
          sum += static_cast<double>(more);
          size += std::fabs(static_cast<double>(more));
        }
        for (Index i = 0; i < x.cols(); ++i) {
          const double of_x = std::fabs(static_cast<double>(x(r, i)));
          const double weight = static_cast<double>(wide(o, i));
          sum += static_cast<double>(x(r, i)) * weight;
          rounding += (of_x * 0x1p-11 + largest * 0x1p-30) * std::fabs(weight);
          if (in_f16) rounding += of_x * (0x1.01p-11 * std::fabs(weight) + least);
          const double scale = std::fabs(static_cast<double>(w.scales()(o, i / w.group_columns())));
          size += of_x * (std::fabs(weight) + scale * w.grid().levels());
        }
        ASSERT_NEAR(static_cast<double>(y(r, o)), sum, rounding + size * 0x1p-15)
            << "row " << r << " of " << x.rows() << ", output " << o << " of " << w.rows() << " by "
            << w.cols() << ", " << w.grid().bits << " bits, " << Name(w.grid().offset)
            << ", groups of " << w.group_columns();
      }
    }
  }

  /// Shapes at every width and groups of 32 to 128, each product three times: kernels overlap and
  /// take turns, and their results must not mix. Of products of more than `most` multiplications
  /// one in `every`: sums on the host are slow.
  void CheckOneAfterAnother(std::span<const Shape> shapes, std::uint64_t seed, Index most,
                            std::uint64_t every) {
    for (const auto& [rows, in, out] : shapes) {
      for (const int bits : {2, 3, 4, 8}) {
        for (const Index group : {32, 64, 128}) {
          const Grid grid{.bits = bits,
                          .group_size = group,
                          .offset = bits == 4 ? Offset::kFloat : Offset::kHalf};
          ++seed;
          if (in % group != 0 || (in * out * rows > most && seed % every != 0)) continue;
          const Matrix<float> x = RandomMatrix(rows, in, seed),
                              start = RandomMatrix(rows, out, seed + 1);
          const bool add = seed % 2 == 0;
          const auto w = std::make_shared<const QMatrix>(RandomQMatrix(out, in, grid, seed));
          const DeviceMatrix on = Uploaded(*packed, x), y = Uploaded(*packed, start);
          const Prepared prepared = packed->Prepare(w);
          for (int again = 0; again < 3; ++again) {
            packed->Matmul(on.view(), *prepared, {}, y.view(), add && again == 2);
            if (add && again < 2) packed->Upload(start.view(), y.view());
          }
          Check(x, *w, nullptr, add ? &start : nullptr, Downloaded(*packed, y));
          if (HasFatalFailure()) return;
        }
      }
    }
  }

  std::unique_ptr<Device> packed;
};

TEST_F(CudaPacked, AgreeWithTheDefinitionForEveryGridAndShape) {
  constexpr Shape kShapes[] = {{1, 32, 1},     {1, 64, 17},     {1, 2560, 130}, {1, 1024, 2200},
                               {2, 96, 16},    {3, 384, 47},    {4, 896, 130},  {5, 64, 15},
                               {8, 4096, 33},  {9, 160, 31},    {16, 2560, 64}, {16, 1024, 2200},
                               {17, 128, 33},  {37, 320, 64},   {70, 256, 20},  {200, 192, 33},
                               {1, 10240, 40}, {16, 10240, 40}, {64, 96, 257},  {65, 384, 15},
                               {128, 32, 513}, {129, 1024, 16}, {33, 9728, 47}, {2050, 64, 19}};
  std::uint64_t seed = 7;
  for (const auto& [rows, in, out] : kShapes) {
    const Matrix<float> x = RandomMatrix(rows, in, ++seed), start = RandomMatrix(rows, out, ++seed);
    const Matrix<float> bias = RandomMatrix(1, out, ++seed);
    for (const int bits : {2, 3, 4, 8}) {
      for (const Offset offset : kAllOffsets) {
        for (const Index group : {32, 64, 96, 128, 192, 256, 0}) {
          const Grid grid{.bits = bits, .group_size = group, .offset = offset};
          // Of large ones a few: sums on the host are slow.
          if (in % RowStep(grid, in) != 0 || (in * out * rows > 1 << 20 && seed % 9 != 0)) {
            ++seed;
            continue;
          }
          const auto w = std::make_shared<const QMatrix>(RandomQMatrix(out, in, grid, ++seed));
          const bool add = seed % 2 == 0, biased = seed % 3 != 0;
          const DeviceMatrix on = Uploaded(*packed, x), y = Uploaded(*packed, start);
          const DeviceMatrix on_bias = Uploaded(*packed, bias);
          packed->Matmul(
              on.view(), *packed->Prepare(w),
              biased ? DeviceView<const float>(on_bias.view()) : DeviceView<const float>(),
              y.view(), add);
          Check(x, *w, biased ? &bias : nullptr, add ? &start : nullptr, Downloaded(*packed, y));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaPacked, ManyRowsInBf16AgreeWithRoundedFactors) {
  const auto device = MakeCudaDevice(
      test.pool, {.kernels = std::string(kPackedKernels), .arithmetic = Arithmetic::kBf16});
  std::uint64_t seed = 40;
  for (const int bits : {2, 3, 4, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const auto& [in, group] : {std::pair{32, 32}, {192, 64}, {320, 32}, {384, 128}}) {
        const Index rows = seed % 3 == 0 ? 520 : 70, out = 37;
        const Matrix<float> x = RandomMatrix(rows, in, ++seed);
        const auto w = std::make_shared<const QMatrix>(
            RandomQMatrix(out, in, {.bits = bits, .group_size = group, .offset = offset}, ++seed));
        const DeviceMatrix on = Uploaded(*device, x), y = device->Alloc(rows, out);
        device->Matmul(on.view(), *device->Prepare(w), {}, y.view(), false);
        const Matrix<float> found = Downloaded(*device, y);
        Matrix<float> wide(out, in);
        w->Dequantize(0, wide.view());
        for (Index r = 0; r < rows; ++r) {
          for (Index o = 0; o < out; ++o) {
            double sum = 0, size = 0;
            for (Index i = 0; i < in; ++i) {
              const double term = static_cast<double>(x(r, i)) * static_cast<double>(wide(o, i));
              sum += term;
              size += std::fabs(term);
            }
            // Each factor is rounded by 2^-9 at most, x before that by 2^-11.
            ASSERT_NEAR(static_cast<double>(found(r, o)), sum, size * (0x1p-8 + 0x1p-10))
                << "row " << r << ", output " << o << ", " << bits << " bits, " << Name(offset)
                << ", " << in << " columns";
          }
        }
      }
    }
  }
}

TEST_F(CudaPacked, TilesOfManyBlocksAndManyTilesOfABlock) {
  std::uint64_t seed = 70;
  // Of few columns a block has some tiles, of many a tile some blocks; the last ones are not whole.
  constexpr Shape kShapes[] = {
      {20, 128, 40000}, {130, 256, 9000}, {20, 24576, 20}, {300, 640, 3000}};
  for (const auto& [rows, in, out] : kShapes) {
    const Matrix<float> x = RandomMatrix(rows, in, ++seed);
    const auto w = std::make_shared<const QMatrix>(
        RandomQMatrix(out, in, {.bits = 2, .group_size = 64}, ++seed));
    const DeviceMatrix on = Uploaded(*packed, x), y = packed->Alloc(rows, out);
    packed->Matmul(on.view(), *packed->Prepare(w), {}, y.view(), false);
    // Sums on the host are slow: of every 37th row of x.
    const Matrix<float> found = Downloaded(*packed, y);
    Matrix<float> some(CeilDiv(rows, 37), in), of_some(some.rows(), out);
    for (Index r = 0; r < some.rows(); ++r) {
      std::ranges::copy(x.view().Row(r * 37), some.view().Row(r).begin());
      std::ranges::copy(found.view().Row(r * 37), of_some.view().Row(r).begin());
    }
    Check(some, *w, nullptr, nullptr, of_some, /*in_f16=*/true);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaPacked, OneRowMeetsManyTilesOfABlockAndManyBlocksOfATile) {
  // Rounds of tiles in which some warps have nothing; columns that blocks of a cluster share, not
  // evenly; a last tile that has no other beside it; more rows than tiles fill.
  constexpr Shape kShapes[] = {{1, 128, 40000}, {1, 24576, 20}, {1, 640, 9001},
                               {1, 9728, 2560}, {1, 9856, 330}, {1, 64, 4300}};
  CheckOneAfterAnother(kShapes, 170, 1 << 20, 3);
}

TEST_F(CudaPacked, FewRowsMeetManyTilesOfABlockAndManyBlocksOfATile) {
  // Rounds of tiles; columns that two, four and eight blocks share, not evenly; fewer steps than
  // warps; a last tile that has no other beside it; rows that fill up a tile of the result.
  constexpr Shape kShapes[] = {{16, 128, 40000}, {16, 24576, 33}, {7, 640, 9001},  {4, 9728, 2560},
                               {12, 1216, 330},  {2, 2560, 90},   {16, 3072, 700}, {9, 64, 4300}};
  CheckOneAfterAnother(kShapes, 270, 1 << 22, 5);
}

TEST_F(CudaPacked, ScalesAndMinimaOfAnySizeKeepTheirPrecision) {
  std::uint64_t seed = 90;
  for (const float size : {0x1p-20f, 0x1p-3f, 1.0f, 0x1.8p5f, 0x1p15f}) {
    for (const float minimum : {0.0f, 0x1p-22f, 1.0f, 0x1p15f}) {
      for (const int bits : {2, 8}) {
        const Offset offset = minimum == 0 ? Offset::kHalf : Offset::kFloat;
        QMatrix w =
            RandomQMatrix(70, 192, {.bits = bits, .group_size = 64, .offset = offset}, ++seed);
        for (Index row = 0; row < w.rows(); ++row) {
          for (float& scale : w.scales().Row(row)) scale = row % 7 == 0 ? 0x1p-12f : size;
          if (minimum == 0) continue;
          for (float& of_group : w.minima().Row(row)) of_group = row % 5 == 0 ? 0 : -minimum;
        }
        for (const Index rows : {16, 40}) {
          const Matrix<float> x = RandomMatrix(rows, 192, ++seed);
          const DeviceMatrix on = Uploaded(*packed, x), y = packed->Alloc(rows, 70);
          packed->Matmul(on.view(), *packed->Prepare(std::make_shared<const QMatrix>(w)), {},
                         y.view(), false);
          Check(x, w, nullptr, nullptr, Downloaded(*packed, y));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaPacked, MatricesThatShareAnInputAreMultipliedTogether) {
  const Index in = 512;
  for (const Index rows : {1, 3, 16, 50}) {
    const Matrix<float> x = RandomMatrix(rows, in, 1);
    std::vector<Codes> matrices;
    std::uint64_t seed = 20;
    // Alike and not: 2 bits three times, then 4 and 2 bits, and floats among them.
    for (const auto& [out, bits] : {std::pair{100, 2}, {16, 2}, {7, 2}, {33, 4}, {64, 2}}) {
      matrices.push_back(std::make_shared<const QMatrix>(
          RandomQMatrix(out, in, {.bits = bits, .group_size = 64}, ++seed)));
    }
    const Matrix<float> floats = RandomMatrix(19, in, 3);
    const DeviceMatrix on = Uploaded(*packed, x), of_floats = packed->Alloc(rows, 19);
    std::vector<Prepared> prepared;
    std::vector<DeviceMatrix> y;
    for (const Codes& w : matrices) {
      prepared.push_back(packed->Prepare(w));
      y.push_back(packed->Alloc(rows, w->rows()));
    }
    const Prepared plain = packed->Prepare(floats.view());
    std::vector<Product> products;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i == 3) products.push_back({*plain, {}, of_floats.view()});
      products.push_back({*prepared[i], {}, y[i].view()});
    }
    packed->Products(on.view(), products, false);
    for (std::size_t i = 0; i < y.size(); ++i) {
      Check(x, *matrices[i], nullptr, nullptr, Downloaded(*packed, y[i]));
      if (HasFatalFailure()) return;
    }
    const DeviceMatrix alone = packed->Alloc(rows, 19);
    packed->Matmul(on.view(), *plain, {}, alone.view(), false);
    EXPECT_TRUE(SameBytes(Downloaded(*packed, alone), Downloaded(*packed, of_floats)));
  }
}

TEST_F(CudaPacked, LargeAndSmallValuesKeepTheirPrecision) {
  const Index in = 1024;
  const auto w =
      std::make_shared<const QMatrix>(RandomQMatrix(64, in, {.bits = 2, .group_size = 64}, 4));
  for (const Index rows : {1, 16, 20, 100}) {
    Matrix<float> x = RandomMatrix(rows, in, 5);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < in; ++c) {
        // Groups of columns from 2^-60 to 2^60, beyond what f16 and bf16 sums would hold.
        x(r, c) = std::ldexp(x(r, c), static_cast<int>(c / 64 % 16) * 8 - 60);
        if (c % 64 == 5) x(r, c) *= 1000;
      }
    }
    const DeviceMatrix on = Uploaded(*packed, x), y = packed->Alloc(rows, 64);
    packed->Matmul(on.view(), *packed->Prepare(w), {}, y.view(), false);
    Check(x, *w, nullptr, nullptr, Downloaded(*packed, y));
  }
}

TEST_F(CudaPacked, WhatIsNotANumberStaysSo) {
  const auto w =
      std::make_shared<const QMatrix>(RandomQMatrix(40, 128, {.bits = 4, .group_size = 32}, 4));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const Index rows : {1, 30}) {
      Matrix<float> x = RandomMatrix(rows, 128, 5);
      x(rows / 2, 77) = bad;
      const DeviceMatrix on = Uploaded(*packed, x), y = packed->Alloc(rows, 40);
      packed->Matmul(on.view(), *packed->Prepare(w), {}, y.view(), false);
      const Matrix<float> found = Downloaded(*packed, y);
      for (Index r = 0; r < rows; ++r) {
        for (Index o = 0; o < 40; ++o) EXPECT_EQ(std::isfinite(found(r, o)), r != rows / 2) << o;
      }
    }
  }
}

TEST_F(CudaPacked, AreTheSameBytesEachTime) {
  const auto w =
      std::make_shared<const QMatrix>(RandomQMatrix(2560, 9728, {.bits = 2, .group_size = 64}, 1));
  for (const Index rows : {1, 4, 8, 16, 33, 300}) {
    const Matrix<float> x = RandomMatrix(rows, 9728, 2);
    const DeviceMatrix on = Uploaded(*packed, x), y = packed->Alloc(rows, 2560);
    const Prepared prepared = packed->Prepare(w);
    Matrix<float> first;
    for (int round = 0; round < 20; ++round) {
      packed->Matmul(on.view(), *prepared, {}, y.view(), false);
      Matrix<float> found = Downloaded(*packed, y);
      ASSERT_TRUE(round == 0 || SameBytes(found, first)) << rows << " rows, round " << round;
      first = std::move(found);
    }
  }
}

TEST_F(CudaPacked, RowsThatAreLookedUpAreThoseOfTheMatrixToTheBit) {
  const std::vector<TokenId> tokens{40, 0, 7, 7, 39};
  std::uint64_t seed = 3;
  for (const int bits : {2, 3, 4, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const auto& [cols, group] : {std::pair{32, 32}, {192, 64}, {384, 128}, {96, 96}}) {
        const auto w = std::make_shared<const QMatrix>(
            RandomQMatrix(41, cols, {.bits = bits, .group_size = group, .offset = offset}, ++seed));
        const DeviceMatrix out = packed->Alloc(5, cols);
        packed->EmbedRows(*packed->Prepare(w), tokens, out.view());
        const Matrix<float> found = Downloaded(*packed, out);
        for (Index r = 0; r < 5; ++r) {
          Matrix<float> expected(1, cols);
          w->Dequantize(tokens[Size(r)], expected.view());
          ASSERT_EQ(LargestDifference(found.view().Rows(r, 1), expected.view()), 0)
              << bits << " bits, " << cols << " columns";
        }
      }
    }
  }
}

TEST_F(CudaPacked, OtherKernelRowsAreRefused) {
  EXPECT_THROW((void)MakeCudaDevice(test.pool, {.kernels = "packed-avx2"}), Error);
  EXPECT_NE(packed->description().find("packed"), std::string::npos);
  EXPECT_EQ(gpu->description().find("packed"), std::string::npos);
}

}  // namespace
}  // namespace lieq
