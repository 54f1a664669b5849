#include "lieq/tensor/qmatrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/base/thread_pool.h"
#include "lieq/tensor/any_matrix.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/stored_qmatrix.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

std::vector<std::uint32_t> Packed(const std::vector<std::uint8_t>& codes, int bits) {
  std::vector<std::uint32_t> words(Size(CeilDiv(static_cast<Index>(codes.size()) * bits, 32)));
  PackCodes(codes, bits, words);
  return words;
}

// Words of the specification (P_b in docs/formats.md).
TEST(PackCodes, GivesTheGoldenWords) {
  std::vector<std::uint8_t> codes(16);
  for (std::size_t i = 0; i < 16; ++i) codes[i] = static_cast<std::uint8_t>(i % 4);
  EXPECT_EQ(Packed(codes, 2), (std::vector<std::uint32_t>{0xE4E4E4E4}));
  codes.resize(32);
  for (std::size_t i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(i % 8);
  EXPECT_EQ(Packed(codes, 3), (std::vector<std::uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA}));
  codes.resize(8);
  EXPECT_EQ(Packed(codes, 4), (std::vector<std::uint32_t>{0x76543210}));
  EXPECT_EQ(Packed({1, 2, 128, 255}, 8), (std::vector<std::uint32_t>{0xFF800201}));
}

TEST(QMatrix, ReadsNumbersWhereTheyLieInAFile) {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    for (const Offset offset : {Offset::kSymmetric, Offset::kInteger, Offset::kFloat}) {
      const Grid grid{.bits = 3, .group_size = 32, .offset = offset};
      const QMatrix own = RandomQMatrix(70, 96, grid, 5);
      const TempFolder folder;
      const QMatrix stored = StoredInFile(own, type, folder / "file");
      ASSERT_EQ(stored.stored_scales().items.size(), 70u * 3);

      const auto expect_equal = [&](const QMatrix& found, const QMatrix& expected) {
        Matrix<float> a(found.rows(), 96), b(found.rows(), 96);
        found.Dequantize(0, a.view());
        expected.Dequantize(0, b.view());
        EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data()));
      };
      expect_equal(stored.Slice(13, 20), own.Slice(13, 20));
      const auto half = std::make_shared<const QMatrix>(stored.Slice(0, 35));
      const auto rest = std::make_shared<const QMatrix>(stored.Slice(35, 35));
      const std::vector<std::shared_ptr<const QMatrix>> parts{half, rest};
      expect_equal(QMatrix::Stacked(parts), own);
      stored.Release(3, 60);
      expect_equal(stored, own);

      QMatrix changed = stored;
      changed.scales()(69, 2) = 0.5f;
      EXPECT_TRUE(changed.stored_scales().empty());
      EXPECT_EQ(std::as_const(changed).scales()(69, 2), 0.5f);
      EXPECT_EQ(std::as_const(changed).scales()(0, 0), own.scales()(0, 0));
      expect_equal(stored, own);
      QMatrix copied(70, 96, grid);
      for (Index row = 0; row < 70; ++row) copied.CopyRow(row, stored);
      expect_equal(copied, own);
      changed = stored;
      changed.CopyRow(1, own);
      expect_equal(changed, own);
    }
  }
}

TEST(QMatrix, ManyThreadsMayBeTheFirstToAskForFloats) {
  const TempFolder folder;
  const QMatrix own = RandomQMatrix(400, 256, {.bits = 2, .group_size = 16}, 5);
  const QMatrix stored = StoredInFile(own, DType::kBF16, folder / "file");
  ThreadPool pool(4);
  pool.ParallelFor(400, [&](Index row, int) {
    EXPECT_TRUE(std::ranges::equal(stored.scales().Row(row), own.scales().Row(row)));
  });
}

TEST(QMatrix, ReadsMappedWordsAndCopiesThemBeforeItWrites) {
  const Grid grid{.bits = 4, .group_size = 16};
  const QMatrix own = RandomQMatrix(600, 64, grid, 3);
  const TempFolder folder;
  WriteText(folder / "words", std::string(reinterpret_cast<const char*>(own.words().data()),
                                          own.words().size_bytes()));
  auto file = std::make_shared<const FileMap>(folder / "words");
  const std::span<const std::uint32_t> words(
      reinterpret_cast<const std::uint32_t*>(file->bytes().data()), own.words().size());
  QMatrix mapped(600, 64, grid, words, file);
  std::ranges::copy(std::span(own.scales().data(), Size(own.scales().size())),
                    mapped.scales().data());
  EXPECT_EQ(std::as_const(mapped).words().data(), words.data());
  QMatrix changed = mapped;
  const std::weak_ptr<const FileMap> held = file;
  file.reset();

  const auto widened = [](const QMatrix& matrix) {
    Matrix<float> out(matrix.rows(), matrix.cols());
    matrix.Dequantize(0, out.view());
    return std::vector<float>(out.data(), out.data() + out.size());
  };
  EXPECT_EQ(widened(mapped), widened(own));
  mapped.Release(3, 500);
  own.Release(0, 600);  // nothing to give back
  EXPECT_EQ(widened(mapped), widened(own));
  changed.SetRow(1, std::vector<std::uint8_t>(64, 5));
  EXPECT_NE(widened(changed), widened(own));
  EXPECT_EQ(widened(mapped), widened(own));
  EXPECT_FALSE(held.expired());
  mapped = {};
  EXPECT_TRUE(held.expired());  // the changed one has words of its own
}

class PackRoundTrip : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(PackRoundTrip, GivesTheCodesBack) {
  const auto [bits, count] = GetParam();
  Rng rng(static_cast<std::uint64_t>(count * 10 + bits));
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  for (auto& code : codes) code = static_cast<std::uint8_t>(rng.Below(1u << bits));

  const auto words = Packed(codes, bits);
  std::vector<std::uint8_t> back(codes.size());
  UnpackCodes(words, bits, back);

  EXPECT_EQ(back, codes);
}
INSTANTIATE_TEST_SUITE_P(Shapes, PackRoundTrip,
                         testing::Combine(testing::Values(2, 3, 4, 5, 6, 8),
                                          testing::Values(1, 2, 10, 11, 31, 32, 33, 64, 97, 576)));

TEST(QMatrix, DequantizesByItsDefinition) {
  for (const Offset offset : kAllOffsets) {
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      const Grid grid{.bits = bits, .group_size = 32, .offset = offset};
      const QMatrix matrix = RandomQMatrix(5, 96, grid, static_cast<std::uint64_t>(bits));
      Matrix<float> wide(3, 96);
      std::vector<std::uint8_t> codes(96);

      matrix.Dequantize(1, wide.view());

      for (Index r = 0; r < 3; ++r) {
        matrix.GetRow(r + 1, codes);
        for (Index c = 0; c < 96; ++c) {
          const double scale = static_cast<double>(matrix.scales()(r + 1, c / 32));
          const double code = codes[Size(c)];
          double expected = 0;
          switch (offset) {
            case Offset::kSymmetric:
              expected = scale * (code - (1 << (bits - 1)));
              break;
            case Offset::kHalf:
              expected = scale * (code - ((1 << bits) - 1) / 2.0);
              break;
            case Offset::kInteger:
              expected = scale * (code - matrix.zeros()(r + 1, c / 32));
              break;
            case Offset::kFloat:
              expected = scale * code + static_cast<double>(matrix.minima()(r + 1, c / 32));
              break;
          }
          EXPECT_EQ(wide(r, c), static_cast<float>(expected)) << Name(offset);
          if (offset == Offset::kFloat) continue;
          EXPECT_EQ(static_cast<double>(wide(r, c)), expected);  // exact
        }
      }
    }
  }
}

// dequantize_row_q2_K to _q6_K of llama.cpp (ggml-quants.c), with the codes and factors
// taken out of their bytes.
float LlamaCppValue(const KQuant& kind, const SuperBlock& super, Index column, int code) {
  const auto group = Size(column / kind.grid.group_size);
  if (!kind.has_minima()) {
    const float dl = super.d * static_cast<float>(super.scales[group]);
    return dl * static_cast<float>(static_cast<std::int8_t>(code - kind.grid.middle()));
  }
  const float dl = super.d * static_cast<float>(super.scales[group]);
  const float ml = super.dmin * static_cast<float>(super.minima[group]);
  return dl * static_cast<float>(code) - ml;
}

TEST(QMatrix, KQuantsMeanWhatLlamaCppMakesOfThem) {
  for (const KQuant& kind : KQuants()) {
    const QMatrix matrix = RandomQMatrix(7, 768, kind.grid, 5);
    Matrix<float> wide(7, 768);
    std::vector<std::uint8_t> codes(768);

    matrix.Dequantize(0, wide.view());

    for (Index r = 0; r < 7; ++r) {
      matrix.GetRow(r, codes);
      for (Index c = 0; c < 768; ++c) {
        const float expected =
            LlamaCppValue(kind, matrix.Super(r, c / 256), c % 256, codes[Size(c)]);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(wide(r, c)), std::bit_cast<std::uint32_t>(expected))
            << kind.name << ", row " << r << ", column " << c;
      }
    }
  }
}

TEST(QMatrix, KQuantsTakeTheBitsOfLlamaCpp) {
  constexpr std::array kBits{2.625, 3.4375, 4.5, 5.5, 6.5625};
  ASSERT_EQ(KQuants().size(), kBits.size());
  for (std::size_t i = 0; i < kBits.size(); ++i) {
    const KQuant& kind = KQuants()[i];
    const QMatrix matrix(3, 512, kind.grid);
    EXPECT_EQ(static_cast<double>(matrix.stored_bits()), kBits[i] * 3 * 512) << kind.name;
    EXPECT_EQ(KQuantOfBits(kind.grid.bits), &kind);
    EXPECT_EQ(&KQuantOf(kind.grid), &kind);
    EXPECT_EQ(RowStep(kind.grid, 512), 256);
  }
  EXPECT_EQ(KQuantOfBits(8), nullptr);
}

TEST(QMatrix, CopiesRowsWhole) {
  std::vector<Grid> grids{{.bits = 3, .group_size = 32, .offset = Offset::kInteger},
                          {.bits = 2, .group_size = 64, .offset = Offset::kFloat}};
  for (const KQuant& kind : KQuants()) grids.push_back(kind.grid);
  for (const Grid& grid : grids) {
    const QMatrix from = RandomQMatrix(3, 256, grid, 8);
    QMatrix to = RandomQMatrix(3, 256, grid, 9);
    const QMatrix before = to;
    Matrix<float> found(3, 256), wanted(3, 256), kept(3, 256);

    to.CopyRow(1, from);

    to.Dequantize(0, found.view());
    from.Dequantize(0, wanted.view());
    before.Dequantize(0, kept.view());
    for (Index r = 0; r < 3; ++r) {
      EXPECT_TRUE(std::ranges::equal(found.view().Row(r), (r == 1 ? wanted : kept).view().Row(r)));
    }
    for (Index block = 0; block < to.supers(); ++block) {
      EXPECT_EQ(to.Super(1, block), from.Super(1, block));
    }
  }
}

TEST(QMatrix, IsTheSameInPartsAndStackedAgain) {
  for (const Grid& grid :
       {Grid{.bits = 3, .group_size = 32},
        Grid{.bits = 4, .group_size = 0, .offset = Offset::kInteger},
        Grid{.bits = 2, .group_size = 16, .offset = Offset::kFloat}, KQuantOfBits(4)->grid}) {
    const QMatrix all = RandomQMatrix(12, 256, grid, 3);
    std::vector<std::shared_ptr<const QMatrix>> parts;
    for (Index row = 0; row < 12; row += 4) {
      parts.push_back(std::make_shared<const QMatrix>(all.Slice(row, 4)));
      Matrix<float> of_part(4, 256), of_all(4, 256);
      parts.back()->Dequantize(0, of_part.view());
      all.Dequantize(row, of_all.view());
      EXPECT_TRUE(std::equal(of_all.data(), of_all.data() + of_all.size(), of_part.data()));
    }
    const QMatrix again = QMatrix::Stacked(parts);
    EXPECT_TRUE(std::ranges::equal(again.words(), all.words()));
    Matrix<float> a(12, 256), b(12, 256);
    all.Dequantize(0, a.view());
    again.Dequantize(0, b.view());
    EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data()));
    EXPECT_EQ(again.stored_bits(), all.stored_bits());
  }
}

TEST(StackedRows, AreRowsOfTheirParts) {
  const std::vector<float> low{1, 2, 3, 4}, high{5, 6, 7, 8};
  const AnyMatrix stacked = std::make_shared<const StackedRows>(std::vector<StackedRows::Part>{
      View<const float, 2>(low.data(), 2, 2), View<const float, 2>(high.data(), 2, 2)});
  Matrix<float> middle(2, 2);
  WidenRows(stacked, 1, middle.view());
  EXPECT_EQ(Rows(stacked), 4);
  EXPECT_EQ(middle(0, 1), 4);
  EXPECT_EQ(middle(1, 0), 5);
  EXPECT_EQ(TypeOf(stacked), DType::kF32);
  const AnyMatrix second = RowsOf(stacked, 2, 2);
  EXPECT_EQ(MappedBytes(second).data(), std::as_bytes(std::span(high)).data());
}

TEST(QMatrix, CountsStoredBits) {
  EXPECT_EQ(QMatrix(4, 128, {.bits = 2, .group_size = 64}).stored_bits(), 4 * 128 * 2 + 8 * 16);
  EXPECT_EQ(QMatrix(4, 128, {.bits = 4, .group_size = 0, .offset = Offset::kInteger}).stored_bits(),
            4 * 128 * 4 + 4 * (16 + 4));
  EXPECT_EQ(QMatrix(4, 128, {.bits = 2, .offset = Offset::kHalf}).stored_bits(),
            4 * 128 * 2 + 8 * 16);
  EXPECT_EQ(QMatrix(4, 128, {.bits = 2, .offset = Offset::kFloat}).stored_bits(),
            4 * 128 * 2 + 8 * 32);
}

TEST(QMatrix, HoldsTheOffsetsOfItsKindAlone) {
  for (const Offset offset : kAllOffsets) {
    const QMatrix matrix(3, 64, {.bits = 2, .group_size = 32, .offset = offset});
    EXPECT_EQ(matrix.zeros().size(), offset == Offset::kInteger ? 6 : 0);
    EXPECT_EQ(matrix.minima().size(), offset == Offset::kFloat ? 6 : 0);
    EXPECT_EQ(OffsetFromName(Name(offset)), offset);
  }
  EXPECT_EQ(OffsetFromName("asymmetric"), std::nullopt);
}

TEST(RoundScale, IsExactInBothHalfFormatsAndNearest) {
  Rng rng(7);
  for (int i = 0; i < 20000; ++i) {
    const auto scale = static_cast<float>(rng.Normal() * std::exp2(32 * rng.Uniform() - 25));

    const float rounded = RoundScale(scale);

    ASSERT_EQ(ToFloat(ToF16(rounded)), rounded);
    ASSERT_EQ(ToFloat(ToBf16(rounded)), rounded);
    if (std::fabs(scale) > 0x1p-17f) {
      ASSERT_LE(std::fabs(rounded - scale), std::fabs(scale) * 0x1p-8f);
    } else {  // f16's step
      ASSERT_LE(std::fabs(rounded - scale), std::fabs(rounded) == 0x1p-24f ? 0x1p-24f : 0x1p-25f);
    }
    ASSERT_GE(std::fabs(rounded), 0x1p-24f);
    ASSERT_EQ(std::signbit(rounded), std::signbit(scale));
  }
  EXPECT_EQ(RoundScale(0.0f), 0x1p-14f);
  EXPECT_EQ(RoundScale(1e9f), 65280.0f);
  EXPECT_EQ(RoundScale(-1e-30f), -0x1p-24f);
}

TEST(RoundMinimum, IsExactInBothHalfFormatsAndNearest) {
  // Every value that both hold, from 0 up.
  std::vector<float> held{0.0f};
  for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {
    const float value = ToFloat(Bf16{static_cast<std::uint16_t>(bits)});
    if (value > 0 && ToFloat(ToF16(value)) == value) held.push_back(value);
  }
  EXPECT_EQ(held.back(), 65280.0f);
  Rng rng(8);
  for (int i = 0; i < 20000; ++i) {
    const auto minimum = static_cast<float>(rng.Normal() * std::exp2(45 * rng.Uniform() - 28));

    const float rounded = RoundMinimum(minimum);

    const auto above = std::ranges::lower_bound(held, std::fabs(minimum));
    const float most = above == held.end() ? held.back() : *above;
    const float least = above == held.begin() ? most : *(above - 1);
    ASSERT_TRUE(std::fabs(rounded) == most || std::fabs(rounded) == least) << minimum;
    ASSERT_LE(std::fabs(std::fabs(rounded) - std::fabs(minimum)),
              std::min(std::fabs(most - std::fabs(minimum)), std::fabs(std::fabs(minimum) - least)))
        << minimum;
    ASSERT_TRUE(rounded == 0 || std::signbit(rounded) == std::signbit(minimum));
  }
  for (const float value : held) {
    ASSERT_EQ(RoundMinimum(value), value);
    ASSERT_EQ(RoundMinimum(-value), -value);
  }
  EXPECT_FALSE(std::signbit(RoundMinimum(-1e-20f)));
  EXPECT_EQ(RoundMinimum(-1e9f), -65280.0f);
}

}  // namespace
}  // namespace lieq
