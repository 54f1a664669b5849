// Codes laid out sixteen rows side by side are the same weights.
#include "lieq/device/cpu/packed_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/device_matrices.h"
#include "tests/support/packed_grids.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

void ExpectTheSameWeights(const QMatrix& q) {
  ThreadPool pool(3);
  const PackedMatrix packed(q, pool);
  Matrix<float> expected(q.rows(), q.cols()), found(q.rows(), q.cols());
  q.Dequantize(0, expected.view());

  packed.Dequantize(0, found.view());

  EXPECT_TRUE(SameBytes(found, expected));
}

class PackedMatrixOf : public testing::TestWithParam<Index> {};  // columns

TEST_P(PackedMatrixOf, EveryGridWidensToTheSameBits) {
  const Index cols = GetParam();
  std::uint64_t seed = 0;
  for (const Grid& grid : PackedGrids(cols)) {
    for (const Index rows : {Index{1}, Index{16}, Index{35}, Index{130}}) {
      SCOPED_TRACE(NameOf(grid) + ", " + std::to_string(rows) + " rows");
      ExpectTheSameWeights(RandomQMatrix(rows, cols, grid, ++seed));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Columns, PackedMatrixOf,
                         testing::Values(1, 5, 31, 32, 37, 48, 64, 96, 100, 256, 640));

TEST(PackedMatrix, KeepsScalesThatF16DoesNotHold) {
  for (const float scale : {0x1.23p-40f, 0x1.000002p0f, 1e30f, 0x1p-140f}) {
    QMatrix q = RandomQMatrix(19, 128, {.bits = 4, .offset = Offset::kFloat}, 1);
    q.scales()(18, 1) = scale;
    ExpectTheSameWeights(q);
    q.scales()(18, 1) = 1;
    q.minima()(17, 0) = scale;
    ExpectTheSameWeights(q);
  }
}

TEST(PackedMatrix, TakesTheBytesOfItsCodesAndOfScalesOf16Bits) {
  ThreadPool pool(1);
  for (const int bits : {2, 3, 4, 6, 8}) {
    const Grid grid{.bits = bits, .group_size = 64, .offset = Offset::kFloat};
    const QMatrix q = RandomQMatrix(64, 512, grid, 1);

    EXPECT_EQ(8 * PackedMatrix(q, pool).bytes(), q.stored_bits()) << bits;
  }
}

TEST(PackedMatrix, TakesSixBitsForCodesOfEightThatNeedNoMore) {
  ThreadPool pool(2);
  for (const Offset offset : {Offset::kSymmetric, Offset::kFloat}) {
    const std::uint8_t first = offset == Offset::kSymmetric ? 96 : 0;
    for (const Index cols : {Index{5}, Index{32}, Index{96}}) {
      QMatrix q = RandomQMatrix(70, cols, {.bits = 8, .group_size = 0, .offset = offset}, 1);
      std::vector<std::uint8_t> codes(Size(cols));
      for (Index row = 0; row < q.rows(); ++row) {
        for (std::size_t i = 0; i < codes.size(); ++i) {
          codes[i] = static_cast<std::uint8_t>(first + (Size(row) + i) % 64);
        }
        q.SetRow(row, codes);
      }

      EXPECT_EQ(PackedMatrix(q, pool).shape().bits, 6);
      ExpectTheSameWeights(q);
      codes.back() = static_cast<std::uint8_t>(first + 64);
      q.SetRow(69, codes);
      EXPECT_EQ(PackedMatrix(q, pool).shape().bits, 8);
      ExpectTheSameWeights(q);
    }
  }
}

TEST(PackedMatrix, RowsFromTheMiddleAreThoseOfTheWhole) {
  ThreadPool pool(2);
  const QMatrix q = RandomQMatrix(50, 96, {.bits = 3, .group_size = 32}, 1);
  const PackedMatrix packed(q, pool);
  Matrix<float> expected(20, 96), found(20, 96);
  q.Dequantize(13, expected.view());

  packed.Dequantize(13, found.view());

  EXPECT_TRUE(SameBytes(found, expected));
}

}  // namespace
}  // namespace lieq
