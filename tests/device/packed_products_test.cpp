// Products straight from packed codes, every kernel row against the definition.
#include "lieq/device/cpu/packed_products.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/device_matrices.h"
#include "tests/support/packed_grids.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

constexpr std::array kAllActivations{Activations::kFloat, Activations::kInt8, Activations::kInt16};

/// What a row stands for once it is rounded: integers times the scale of their piece, as
/// PackedKernels::round says.
std::vector<double> Rounded(std::span<const float> x, const PackedShape& shape, Activations type) {
  std::vector<double> rounded(x.begin(), x.end());
  if (type == Activations::kFloat) return rounded;
  const float most = type == Activations::kInt8 ? 127.0f : 32512.0f;
  for (Index g = 0; g < shape.groups; ++g) {
    for (Index c = 0; c < shape.group_columns; c += kPieceColumns) {
      const Index begin = g * shape.group_columns + c;
      const Index end = begin + std::min<Index>(kPieceColumns, shape.group_columns - c);
      float largest = 0;
      for (Index i = begin; i < end; ++i) largest = std::max(largest, std::fabs(x[Size(i)]));
      for (Index i = begin; i < end; ++i) {
        const bool zero = largest < 0x1p-100f;
        const float integer = zero ? 0 : std::nearbyint(x[Size(i)] * (most / largest));
        rounded[Size(i)] = static_cast<double>(integer) * static_cast<double>(largest / most);
      }
    }
  }
  return rounded;
}

ThreadPool& Pool(int threads) {
  static std::array<ThreadPool, 2> pools{ThreadPool(1), ThreadPool(3)};
  return pools[threads == 1 ? 0 : 1];
}

struct Sides {
  const QMatrix& w;
  const Matrix<float>& x;
  const Matrix<float>& bias;
  const Matrix<float>& start;
  bool add;
  const PackedMatrix packed = PackedMatrix(w, Pool(1));
};

Matrix<float> Multiplied(const PackedKernels& kernels, Activations type, int threads,
                         const Sides& sides) {
  PackedProducts products(Pool(threads), kernels, type);
  Matrix<float> y = sides.start.Clone();
  const PackedWork work{&sides.packed, sides.bias.data(), y.view()};
  products.Multiply(sides.x.view(), {&work, 1}, sides.add);
  return y;
}

/// Float adds one rounding a piece, three more in it, and those of the end; of float activations
/// one a column. Codes and offsets are multiplied apart, so that the bound takes both.
void ExpectTheDefinition(const Matrix<float>& y, const Sides& sides, Activations type) {
  const QMatrix& w = sides.w;
  const PackedShape shape = ShapeOf(w.grid(), w.cols());
  const Index roundings =
      6 + (type == Activations::kFloat ? 2 * w.cols() : 2 * shape.groups * shape.group_pieces);
  Matrix<float> wide(w.rows(), w.cols());
  w.Dequantize(0, wide.view());
  for (Index r = 0; r < sides.x.rows(); ++r) {
    const std::vector<double> x = Rounded(sides.x.view().Row(r), shape, type);
    for (Index o = 0; o < w.rows(); ++o) {
      double sum = static_cast<double>(sides.bias(0, o)), size = std::fabs(sum);
      if (sides.add) {
        sum += static_cast<double>(sides.start(r, o));
        size += std::fabs(static_cast<double>(sides.start(r, o)));
      }
      for (Index i = 0; i < w.cols(); ++i) {
        const double weight = static_cast<double>(wide(o, i));
        const double minimum =
            w.minima().size() > 0 ? static_cast<double>(w.minima()(o, i / w.group_columns())) : 0;
        sum += x[Size(i)] * weight;
        size += std::fabs(x[Size(i)]) * (std::fabs(weight - minimum) + std::fabs(minimum));
      }
      ASSERT_NEAR(y(r, o), sum, size * static_cast<double>(roundings) * 0x1p-24 + 1e-37)
          << r << ' ' << o;
    }
  }
}

/// The first kernel row against the definition, and all of them against it, to the bit.
void ExpectEveryRowRight(const Sides& sides, Activations type) {
  const Matrix<float> first = Multiplied(ChoosePackedKernels(""), type, 1, sides);
  ExpectTheDefinition(first, sides, type);
  for (const PackedKernels* kernels : PackedKernelSets()) {
    if (!kernels->supported()) continue;
    EXPECT_TRUE(SameBytes(Multiplied(*kernels, type, 3, sides), first)) << kernels->name;
  }
}

class PackedProductsOf : public testing::TestWithParam<Index> {};  // rows of x

TEST_P(PackedProductsOf, RowsAreTheDefinitionInEveryKernelRow) {
  const Index rows = GetParam();
  for (const Index in : {Index{5}, Index{37}, Index{96}, Index{240}, Index{256}}) {
    const Index out = in == 96 ? 35 : 9;  // several blocks, and rows that fill none
    const Matrix<float> x = RandomMatrix(rows, in, 1), bias = RandomMatrix(1, out, 2);
    const Matrix<float> start = RandomMatrix(rows, out, 3);
    std::uint64_t seed = 0;
    for (const Grid& grid : PackedGrids(in)) {
      // Each grid with one of the numbers of rows, which is what a test has time for.
      if (++seed % 3 != static_cast<std::uint64_t>(rows) % 3 && !grid.k_quant) continue;
      const QMatrix w = RandomQMatrix(out, in, grid, seed);
      for (const Activations type : kAllActivations) {
        SCOPED_TRACE(NameOf(grid) + ", " + std::to_string(in) + " columns, " +
                     std::string(Name(type)));
        ExpectEveryRowRight({w, x, bias, start, seed % 2 == 0}, type);
        if (HasFatalFailure() || HasNonfatalFailure()) return;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Rows, PackedProductsOf, testing::Values(1, 5, 18));

/// One row takes blocks two at a time where scales are f16 and the zero is one integer.
TEST(PackedProducts, OfOneRowAreTheDefinitionForAnyNumberOfBlocks) {
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const Index group : {16, 64, 192}) {
      for (const Index out : {16, 17, 48, 63, 80}) {
        const QMatrix w = RandomQMatrix(out, 192, {.bits = bits, .group_size = group}, 1);
        ASSERT_TRUE(PackedMatrix(w, Pool(1)).form().half);
        const Matrix<float> x = RandomMatrix(1, 192, 2), bias = RandomMatrix(1, out, 3);
        for (const Activations type : {Activations::kInt8, Activations::kInt16}) {
          SCOPED_TRACE(std::to_string(bits) + " bits in " + std::to_string(group) + ", " +
                       std::to_string(out) + " rows, " + std::string(Name(type)));
          ExpectEveryRowRight({w, x, bias, RandomMatrix(1, out, 4), out % 2 == 0}, type);
          if (HasFatalFailure() || HasNonfatalFailure()) return;
        }
      }
    }
  }
}

TEST(PackedProducts, OfManyRowsAreThoseOfEachAloneWithAnyThreads) {
  const Index rows = 131;  // more than a task takes
  const Matrix<float> x = RandomMatrix(rows, 96, 1), bias = RandomMatrix(1, 41, 2);
  for (const Grid& grid : PackedGrids(96)) {
    if (grid.offset == Offset::kHalf) continue;
    const QMatrix w = RandomQMatrix(41, 96, grid, 3);
    for (const Activations type : kAllActivations) {
      const PackedKernels& kernels = ChoosePackedKernels("");
      const Matrix<float> all =
          Multiplied(kernels, type, 1, {w, x, bias, Matrix<float>(rows, 41), false});
      EXPECT_TRUE(SameBytes(
          Multiplied(kernels, type, 4, {w, x, bias, Matrix<float>(rows, 41), false}), all));
      for (const Index r : {Index{0}, Index{77}, Index{130}}) {
        Matrix<float> row(1, 96);
        std::ranges::copy(x.view().Row(r), row.data());
        const Matrix<float> alone =
            Multiplied(kernels, type, 2, {w, row, bias, Matrix<float>(1, 41), false});
        for (Index o = 0; o < 41; ++o) ASSERT_EQ(alone(0, o), all(r, o)) << NameOf(grid);
      }
    }
  }
}

/// Codes at an end of their range and activations at an end of theirs: sums of integers are as
/// large as they get, and products of bytes that were added in 16 bits would be cut off.
TEST(PackedProducts, OfTheLargestCodesAndActivationsAreExact) {
  for (const Grid& grid : PackedGrids(256)) {
    if (!grid.k_quant && (grid.group_size == 16 || grid.group_size == 128)) continue;
    for (const bool high : {false, true}) {
      QMatrix w = RandomQMatrix(17, 256, grid, 1);
      const std::vector<std::uint8_t> codes(
          256, static_cast<std::uint8_t>(high ? grid.levels() - 1 : 0));
      for (Index row = 0; row < w.rows(); ++row) w.SetRow(row, codes);
      for (const float sign : {1.0f, -1.0f}) {
        Matrix<float> x(1, 256);
        std::fill_n(x.data(), x.size(), sign * 127.0f);
        for (const Activations type : kAllActivations) {
          SCOPED_TRACE(NameOf(grid) + ", " + std::string(Name(type)));
          ExpectEveryRowRight({w, x, Matrix<float>(1, 17), Matrix<float>(1, 17), false}, type);
        }
      }
    }
  }
}

TEST(PackedProducts, OfUnusualSizesAreTheDefinition) {
  for (const int bits : {2, 3, 4, 6, 8}) {
    QMatrix w = RandomQMatrix(20, 192, {.bits = bits, .group_size = 64}, 1);
    w.scales()(3, 1) = 1e20f;  // and all of them as float
    w.scales()(4, 1) = 1e-38f;
    Matrix<float> x = RandomMatrix(4, 192, 2);
    for (Index i = 0; i < 64; ++i) {
      x(0, i) = 0;
      x(1, i) *= 1e12f;
      x(2, i) *= 1e-36f;                                    // counts as zero
      x(3, i) *= std::numeric_limits<float>::denorm_min();  // and this
    }
    for (const Activations type : kAllActivations) {
      SCOPED_TRACE(std::to_string(bits) + " bits, " + std::string(Name(type)));
      ExpectEveryRowRight({w, x, Matrix<float>(1, 20), Matrix<float>(4, 20), false}, type);
    }
  }
}

/// A matrix whose codes of 8 bits need 6 is laid out in those; a row that needs 8 keeps all at 8.
TEST(PackedProducts, OfCodesThatNeedFewerBitsAreThoseOfTheirWidth) {
  for (const Offset offset : {Offset::kSymmetric, Offset::kFloat}) {
    const Grid grid{.bits = 8, .group_size = 16, .offset = offset};
    QMatrix narrow = RandomQMatrix(20, 80, grid, 1);
    std::vector<std::uint8_t> codes(80);
    for (Index row = 0; row < 20; ++row) {
      narrow.GetRow(row, codes);
      for (std::uint8_t& code : codes) {
        code = static_cast<std::uint8_t>(code % 64 + (grid.symmetric() ? 96 : 0));
      }
      narrow.SetRow(row, codes);
    }
    QMatrix wide(20, 80, grid);
    for (Index row = 0; row < 20; ++row) wide.CopyRow(row, narrow);
    codes.assign(codes.size(), 255);
    wide.SetRow(19, codes);
    const Matrix<float> x = RandomMatrix(3, 80, 2), bias(1, 20), start(3, 20);
    for (const Activations type : kAllActivations) {
      const Sides some{narrow, x, bias, start, false}, all{wide, x, bias, start, false};
      ASSERT_EQ(some.packed.shape().bits, 6);
      ASSERT_EQ(all.packed.shape().bits, 8);

      ExpectEveryRowRight(some, type);
      const Matrix<float> y = Multiplied(ChoosePackedKernels(""), type, 1, some);
      const Matrix<float> same = Multiplied(ChoosePackedKernels(""), type, 1, all);
      for (Index r = 0; r < 3; ++r) {
        for (Index o = 0; o < 19; ++o) EXPECT_EQ(y(r, o), same(r, o)) << Name(type);
      }
    }
  }
}

TEST(PackedProducts, OfWhatIsNotFiniteAreNot) {
  const QMatrix w = RandomQMatrix(16, 128, {.bits = 4, .group_size = 32}, 1);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    Matrix<float> x = RandomMatrix(1, 128, 2);
    x(0, 77) = bad;
    for (const PackedKernels* kernels : PackedKernelSets()) {
      if (!kernels->supported()) continue;
      for (const Activations type : kAllActivations) {
        const Matrix<float> y = Multiplied(
            *kernels, type, 1, {w, x, Matrix<float>(1, 16), Matrix<float>(1, 16), false});
        for (Index o = 0; o < 16; ++o) EXPECT_FALSE(std::isfinite(y(0, o))) << kernels->name;
      }
    }
  }
}

TEST(PackedProducts, OfAUnitOfSeveralLayoutsAreThoseOfItsMatricesAlone) {
  ThreadPool pool(2);
  const Matrix<float> x = RandomMatrix(3, 128, 1);
  std::vector<PackedMatrix> matrices;
  for (const int bits : {2, 4, 2, 3}) {
    matrices.emplace_back(RandomQMatrix(30, 128, {.bits = bits, .group_size = 32}, 7), pool);
  }
  for (const Activations type : kAllActivations) {
    PackedProducts products(pool, ChoosePackedKernels(""), type);
    std::vector<Matrix<float>> together, alone;
    std::vector<PackedWork> works;
    for (const PackedMatrix& w : matrices) {
      together.emplace_back(3, 30);
      alone.emplace_back(3, 30);
      works.push_back({&w, nullptr, together.back().view()});
    }

    products.Multiply(x.view(), works, false);
    for (std::size_t i = 0; i < works.size(); ++i) {
      const PackedWork work{&matrices[i], nullptr, alone[i].view()};
      products.Multiply(x.view(), {&work, 1}, false);
      EXPECT_TRUE(SameBytes(together[i], alone[i])) << i;
    }
  }
}

TEST(PackedProducts, OfOneRowHaveWorkForManyThreads) {
  EXPECT_GE(CeilDiv(1024 / kBlockRows, BlocksOfTask(1, 1024 / kBlockRows, 3072)), 8);
  EXPECT_GE(CeilDiv(9728 / kBlockRows, BlocksOfTask(1, 9728 / kBlockRows, 2560)), 32);
}

}  // namespace
}  // namespace lieq
