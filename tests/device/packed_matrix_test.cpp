// Codes laid out sixteen rows side by side are the same weights.
#include "lieq/device/cpu/packed_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "lieq/base/hash.h"
#include "tests/support/device_matrices.h"
#include "tests/support/error_of.h"
#include "tests/support/packed_grids.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/stored_qmatrix.h"
#include "tests/support/temp_folder.h"

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

TEST(PackedMatrix, TheSameBytesOfNumbersInAFileAndOfFloats) {
  ThreadPool pool(2);
  const TempFolder folder;
  // With those that both types hold below f16's normal numbers and at the ends of its range, and
  // one that bf16 alone holds.
  for (const float odd : {0.0f, -0.0f, 0x1p-24f, -0x1.8p-17f, 0x1p-14f, 0x1.FEp-15f, 65280.0f,
                          -0x1p15f, 0x1p16f, 0x1p-30f}) {
    for (const Offset offset : {Offset::kSymmetric, Offset::kFloat}) {
      for (const DType type : {DType::kF16, DType::kBF16}) {
        const Grid grid{.bits = 4, .group_size = 32, .offset = offset};
        QMatrix q = RandomQMatrix(35, 96, grid, 7);
        q.scales()(34, 2) = odd;
        q.scales()(5, 0) = -odd;
        if (offset == Offset::kFloat) q.minima()(20, 1) = odd;
        if (Stored(odd, type) != odd) continue;

        const PackedMatrix found(StoredInFile(q, type, folder / "numbers"), pool);

        const PackedMatrix expected(q, pool);
        EXPECT_EQ(found.form(), expected.form());
        EXPECT_TRUE(std::ranges::equal(found.held(), expected.held())) << odd;
      }
    }
  }
}

/// A matrix that lies in a file.
class LaidOut {
 public:
  explicit LaidOut(const PackedMatrix& from)
      : bytes_(reinterpret_cast<const char*>(from.held().data()), from.held().size()) {
    rows_ = from.rows();
    cols_ = from.cols();
    form_ = from.form();
  }
  [[nodiscard]] std::string& bytes() { return bytes_; }
  [[nodiscard]] PackedMatrix Open(ThreadPool& pool) {
    WriteText(folder_ / "file", bytes_);
    const auto map = std::make_shared<const FileMap>(folder_ / "file");
    return {LaidOutMatrix(rows_, cols_, {.form = form_, .bytes = map->bytes(), .where = "it"}, map),
            pool};
  }

 private:
  TempFolder folder_;
  std::string bytes_;
  Index rows_ = 0, cols_ = 0;
  LaidOutForm form_;
};

TEST(PackedMatrix, IsTheSameWhereItLiesInAFile) {
  ThreadPool pool(2);
  std::uint64_t seed = 0;
  for (const Index cols : {Index{5}, Index{96}, Index{256}}) {
    for (const Grid& grid : PackedGrids(cols)) {
      SCOPED_TRACE(NameOf(grid));
      QMatrix q = RandomQMatrix(35, cols, grid, ++seed);
      if (seed % 3 == 0 && !grid.k_quant) q.scales()(3, 0) = 0x1.23p-40f;  // not of f16
      const PackedMatrix packed(q, pool);
      Matrix<float> expected(35, cols), found(35, cols);
      q.Dequantize(0, expected.view());

      const PackedMatrix opened = LaidOut(packed).Open(pool);
      opened.Dequantize(0, found.view());

      EXPECT_TRUE(SameBytes(found, expected));
      EXPECT_EQ(opened.shape(), packed.shape());
      EXPECT_TRUE(std::ranges::equal(opened.held(), packed.held()));
      EXPECT_EQ(PackedMatrix::BytesOf(packed.form(), 35, cols), std::ssize(packed.held()));
    }
  }
}

TEST(PackedMatrix, OfAFileIsTrustedInNothing) {
  ThreadPool pool(2);
  const auto refusal = [&](const Grid& grid, float scale, std::size_t from_end, char byte) {
    QMatrix q = RandomQMatrix(16, 256, grid, 1);
    if (!grid.k_quant) {
      q.scales()(3, 0) = scale;
      q.scales()(15, q.groups() - 1) = -1;  // whose exponent reaches into a float's third byte
    }
    LaidOut laid_out{PackedMatrix(q, pool)};
    laid_out.bytes()[laid_out.bytes().size() - from_end] = byte;
    return ProblemOf([&] { return laid_out.Open(pool).rows(); }).what;
  };
  const char kInfinite = 0x7C;
  EXPECT_NE(refusal({.bits = 2}, 1, 1, kInfinite).find("scales"), std::string::npos);
  EXPECT_NE(refusal({.bits = 2}, 0x1p-140f, 1, 0x7F).find("scales"), std::string::npos)
      << "of floats";
  EXPECT_NE(refusal({.bits = 3, .offset = Offset::kFloat}, 1, 1, kInfinite).find("minima"),
            std::string::npos);
  EXPECT_NE(refusal({.bits = 4, .offset = Offset::kInteger}, 1, 1, 16).find("zero-points"),
            std::string::npos);
  EXPECT_NE(refusal(FindKQuant("q4_k")->grid, 1, 1, 64).find("factors"), std::string::npos);
  EXPECT_NE(refusal(FindKQuant("q4_k")->grid, 1, 1, -1).find("factors"), std::string::npos);
  EXPECT_EQ(refusal(FindKQuant("q6_k")->grid, 1, 1, -128), "");

  LaidOut cut{PackedMatrix(RandomQMatrix(16, 256, {.bits = 2}, 1), pool)};
  cut.bytes().resize(cut.bytes().size() - 64);
  EXPECT_NE(ProblemOf([&] { return cut.Open(pool).rows(); }).what.find("size"), std::string::npos);
}

/// Of numbers that are the same on every machine.
QMatrix PlainQMatrix(Index cols, const Grid& grid, std::uint64_t seed) {
  QMatrix q = RandomQMatrix(35, cols, grid, seed);
  for (Index row = 0; row < q.rows(); ++row) {
    for (Index block = 0; block < q.supers(); ++block) {
      SuperBlock super = q.Super(row, block);
      super.d = static_cast<float>(1 + row) / 64;
      if (super.dmin != 0) super.dmin = static_cast<float>(2 + row) / 32;
      q.SetSuper(row, block, super);
    }
    if (grid.k_quant) continue;
    for (Index g = 0; g < q.groups(); ++g) {
      q.scales()(row, g) = static_cast<float>(1 + row + g) / 128;
      if (q.minima().size() > 0) q.minima()(row, g) = static_cast<float>(row - g) / 64;
    }
  }
  return q;
}

/// Files have these bytes: where this fails the layout has changed, and kPackedLayout has to.
TEST(PackedMatrix, TheLayoutIsTheOneThatFilesName) {
  ThreadPool pool(2);
  Hasher hasher;
  std::uint64_t seed = 0;
  for (const Index cols : {Index{5}, Index{96}, Index{256}}) {
    for (const Grid& grid : PackedGrids(cols)) {
      hasher.Add(PackedMatrix(PlainQMatrix(cols, grid, ++seed), pool).held());
    }
  }

  EXPECT_EQ(kPackedLayout, "sixteen-rows-1");
  EXPECT_EQ(hasher.Hex(), "efd17b0b8b75517232ec26bcafda78de");
}

}  // namespace
}  // namespace lieq
