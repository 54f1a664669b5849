#include "lieq/container/ggml_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <set>

#include "lieq/base/rng.h"
#include "lieq/container/targets.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/error_of.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

using testing::HasSubstr;

std::vector<std::byte> Encoded(const BlockType& type, const QMatrix& matrix) {
  const std::size_t bytes = RowBytes(type.type(), matrix.cols());
  std::vector<std::byte> out(Size(matrix.rows()) * bytes);
  std::vector<std::uint8_t> codes(Size(matrix.cols()));
  for (Index row = 0; row < matrix.rows(); ++row) {
    matrix.GetRow(row, codes);
    type.encode(matrix, row, codes, std::span(out).subspan(Size(row) * bytes, bytes));
  }
  return out;
}

QMatrix Decoded(const BlockType& type, std::span<const std::byte> bytes, Index rows, Index cols,
                std::span<const Index> order = {}) {
  const GgufTensor tensor{.name = "t", .type = &type.type(), .shape = {rows, cols}, .bytes = bytes};
  return DecodeBlocks(type, tensor, order, "t");
}

Matrix<float> Values(const QMatrix& matrix) {
  Matrix<float> values(matrix.rows(), matrix.cols());
  matrix.Dequantize(0, values.view());
  return values;
}

std::string Hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const auto value = std::to_integer<std::size_t>(byte);
    text += (text.empty() ? "" : " ");
    text += kDigits[value / 16];
    text += kDigits[value % 16];
  }
  return text;
}

std::string Repeated(const std::string& part, int times) {
  std::string text = part;
  for (int i = 1; i < times; ++i) text += " " + part;
  return text;
}

/// Element e of a block, in float, from nothing but the layouts of docs/formats.md.
float Element(std::string_view type, const std::byte* bytes, std::size_t e) {
  const auto u8 = [&](std::size_t at) { return std::to_integer<int>(bytes[at]); };
  const auto f16 = [&](std::size_t at) {
    return ToFloat(F16{static_cast<std::uint16_t>(u8(at) | u8(at + 1) << 8)});
  };
  const auto nibble = [&](std::size_t at) {
    return e < 16 ? u8(at + e) & 15 : u8(at + e - 16) >> 4;
  };
  const auto plane = [&](std::size_t at) {
    return (u8(at + 32 * (e / 128) + e % 32) >> (2 * (e % 128 / 32))) & 3;
  };
  const auto real = [](int value) { return static_cast<float>(value); };
  if (type == "Q8_0") return f16(0) * real(u8(2 + e) > 127 ? u8(2 + e) - 256 : u8(2 + e));
  if (type == "Q4_0") return f16(0) * real(nibble(2) - 8);
  if (type == "Q4_1") return f16(0) * real(nibble(4)) + f16(2);
  if (type == "Q5_0") return f16(0) * real(nibble(6) + 16 * (u8(2 + e / 8) >> e % 8 & 1) - 16);
  if (type == "Q2_0") return f16(0) * real((u8(2 + e / 4) >> (2 * (e % 4)) & 3) - 1);
  if (type == "TQ2_0") return f16(64) * real(plane(0) - 1);
  if (type == "Q2_K") {
    const int factors = u8(e / 16);
    return f16(80) * real(factors & 15) * real(plane(16)) - f16(82) * real(factors >> 4);
  }
  if (type == "Q3_K") {
    const std::size_t j = e / 16;
    const int low = j < 8 ? u8(96 + j) & 15 : u8(96 + j - 8) >> 4;
    const int scale = low | (u8(104 + j % 4) >> (2 * (j / 4)) & 3) << 4;
    return f16(108) * real(scale - 32) * real(plane(32) + 4 * (u8(e % 32) >> e / 32 & 1) - 4);
  }
  if (type == "Q4_K" || type == "Q5_K") {
    const auto at = [&](std::size_t i) { return u8(4 + i); };
    const std::size_t a = e / 32, nibbles = type == "Q4_K" ? 16 : 48;
    const int scale = a < 4 ? at(a) & 63 : (at(a + 4) & 15) | (at(a - 4) >> 6) << 4;
    const int minimum = a < 4 ? at(a + 4) & 63 : at(a + 4) >> 4 | (at(a) >> 6) << 4;
    const int byte = u8(nibbles + 32 * (e / 64) + e % 32);
    const int fifth = type == "Q4_K" ? 0 : u8(16 + e % 32) >> a & 1;
    return f16(0) * real(scale) * real((e % 64 < 32 ? byte & 15 : byte >> 4) + 16 * fifth) -
           f16(2) * real(minimum);
  }
  if (type == "Q6_K") {
    // ggml-quants.c: halves of 128, in each of them four columns from two bytes and one
    const std::size_t half = e / 128, l = e % 32, quarter = e % 128 / 32;
    const int low = u8(64 * half + l + (quarter % 2 == 1 ? 32 : 0));
    const int high = u8(128 + 32 * half + l) >> (2 * quarter) & 3;
    const int code = (quarter < 2 ? low & 15 : low >> 4) | high << 4;
    const int scale = u8(192 + 8 * half + l / 16 + 2 * quarter);
    return f16(208) * real(scale > 127 ? scale - 256 : scale) * real(code - 32);
  }
  ADD_FAILURE() << type;
  return 0;
}

class EveryBlockType : public testing::TestWithParam<std::string_view> {
 protected:
  const BlockType& type_ = *FindBlockType(GetParam());
};

constexpr std::string_view kWithGrids[]{"TQ2_0", "Q2_0", "Q2_K", "Q3_K", "Q4_0", "Q4_K",
                                        "Q4_1",  "Q5_0", "Q5_K", "Q6_K", "Q8_0"};

TEST_P(EveryBlockType, DecodesRandomBytesAsTheLayoutSays) {
  const auto [id, name, columns, bytes] = type_.type();
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Rng rng(seed);
    const Index rows = 1 + rng.Below(3), cols = Index{columns} * (1 + rng.Below(3));
    std::vector<std::byte> file(Size(rows) * RowBytes(type_.type(), cols));
    for (std::byte& byte : file) byte = static_cast<std::byte>(rng.Below(256));
    // Random halves are not finite at times: in all of these types they are at even places.
    for (std::size_t i = 1; i < file.size(); i += 2) file[i] &= std::byte{0xBF};

    const QMatrix matrix = Decoded(type_, file, rows, cols);

    const Matrix<float> values = Values(matrix);
    for (Index i = 0; i < values.size(); ++i) {
      const std::size_t block = Size(i) / columns;
      EXPECT_EQ(values.data()[i], Element(name, file.data() + block * bytes, Size(i) % columns))
          << "seed " << seed << " element " << i;
    }
  }
}

TEST_P(EveryBlockType, RefusesAScaleThatIsNotFinite) {
  std::vector<std::byte> file(3 * type_.type().bytes, std::byte{0});
  std::fill(file.begin() + type_.type().bytes, file.begin() + 2 * type_.type().bytes,
            std::byte{0x7F});

  EXPECT_THAT(ErrorOf([&] { return Decoded(type_, file, 3, type_.type().columns); }),
              HasSubstr("found:    row 1"));
}

TEST_P(EveryBlockType, EncodesWhatItDecodedToTheSameValues) {
  if (type_.encode == nullptr) GTEST_SKIP() << "is read alone";
  Grid grid = *type_.grid;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Index rows = 1 + static_cast<Index>(seed % 3);
    const Index cols = Index{type_.type().columns} * (1 + static_cast<Index>(seed % 4));
    QMatrix matrix = RandomQMatrix(rows, cols, grid, seed);
    if (type_.name == "TQ2_0" || type_.name == "Q5_0") {  // they have fewer steps than their grid
      const bool ternary = type_.name == "TQ2_0";
      std::vector<std::uint8_t> codes(Size(cols));
      for (Index row = 0; row < rows; ++row) {
        matrix.GetRow(row, codes);
        for (std::uint8_t& code : codes) {
          code = static_cast<std::uint8_t>(ternary ? 1 + code % 3 : 112 + code % 32);
        }
        matrix.SetRow(row, codes);
      }
      if (!ternary) {  // decided by the grid, which could have any code
        EXPECT_FALSE(Holds(type_, matrix));
        continue;
      }
    }
    ASSERT_TRUE(Holds(type_, matrix));

    const QMatrix again = Decoded(type_, Encoded(type_, matrix), rows, cols);

    ASSERT_EQ(again.grid(), grid);
    const Matrix<float> values = Values(matrix), same = Values(again);
    ASSERT_EQ(std::memcmp(values.data(), same.data(), Size(values.size()) * sizeof(float)), 0);
    EXPECT_TRUE(std::ranges::equal(again.words(), matrix.words())) << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EveryBlockType, testing::ValuesIn(kWithGrids),
                         [](const auto& name) { return std::string(name.param); });

TEST(BlockTypes, AreAllCoveredAbove) {
  std::set<std::string_view> names(std::begin(kWithGrids), std::end(kWithGrids));
  for (const BlockType& type : BlockTypes()) {
    EXPECT_EQ(names.contains(type.name), type.grid.has_value()) << type.name;
    EXPECT_NE(FindGgmlType(type.name), nullptr) << type.name;
  }
}

/// Every grid and group size there is, random and extreme, through every type that says it holds
/// it.
TEST(BlockTypes, GiveBackTheValuesOfEveryMatrixTheyHold) {
  int held = 0;
  for (const int bits : {2, 3, 4, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const Index group : {16, 32, 64, 128, 256, 0}) {
        for (std::uint64_t seed = 1; seed <= 4; ++seed) {
          const Grid grid{.bits = bits, .group_size = group, .offset = offset};
          QMatrix matrix = RandomQMatrix(2, 512, grid, seed);
          if (seed == 2) {  // extreme codes alone
            std::vector<std::uint8_t> codes(512);
            for (std::size_t i = 0; i < codes.size(); ++i) {
              codes[i] = static_cast<std::uint8_t>(i % 2 == 0 ? 0 : grid.levels() - 1);
            }
            matrix.SetRow(0, codes);
          }
          if (seed >= 3) {  // one scale and zero-point for all: what super-blocks want
            for (Index row = 0; row < 2; ++row) {
              std::ranges::fill(matrix.scales().Row(row), seed == 3 ? -0x1p-9f : 0x1.5p-4f);
              if (offset == Offset::kInteger) {
                std::ranges::fill(matrix.zeros().Row(row),
                                  static_cast<std::uint8_t>(seed == 3 ? 1 : grid.levels() - 1));
              }
              if (offset == Offset::kFloat) {
                std::ranges::fill(matrix.minima().Row(row), seed == 3 ? 0.0f : -0x1.1p-3f);
              }
            }
          }
          const Matrix<float> values = Values(matrix);
          for (const BlockType& type : BlockTypes()) {
            if (!Holds(type, matrix)) continue;
            ++held;
            const std::vector<std::byte> bytes = Encoded(type, matrix);
            if (!type.grid) continue;
            const Matrix<float> again = Values(Decoded(type, bytes, 2, 512));
            for (Index i = 0; i < values.size(); ++i) {
              ASSERT_EQ(values.data()[i], again.data()[i])
                  << type.name << " of " << bits << " bits, " << Name(offset) << ", group " << group
                  << ", seed " << seed << ", element " << i;
            }
          }
          EXPECT_THAT(TypesThatHold(matrix), HasSubstr("F32"));
        }
      }
    }
  }
  EXPECT_GT(held, 800);
}

/// One row of the table of grids and types in docs/formats.md.
struct Fit {
  Grid grid;
  std::string_view types;
  int zero = -1;  // of integer offsets, in every group
};

TEST(BlockTypes, HoldTheGridsThatTheTableSays) {
  const auto grid = [](int bits, Index group, Offset offset = Offset::kSymmetric) {
    return Grid{.bits = bits, .group_size = group, .offset = offset};
  };
  const Fit fits[] = {
      {grid(2, 64), "Q2_0, Q4_0, Q4_1, Q5_0, Q8_0, F16, BF16, F32"},
      {grid(2, 32), "Q4_0, Q4_1, Q5_0, Q8_0, F16, BF16, F32"},
      {grid(2, 16), "F16, BF16, F32"},
      {grid(2, 256), "Q2_0, Q2_K, Q3_K, Q4_0, Q4_K, Q4_1, Q5_0, Q5_K, Q6_K, Q8_0, F16, BF16, F32"},
      {grid(2, 64, Offset::kInteger), "Q2_0, Q4_0, Q4_1, Q5_0, Q8_0, F16, BF16, F32", 1},
      {grid(2, 64, Offset::kInteger), "Q4_0, Q4_1, Q5_0, Q8_0, F16, F32", 0},
      {grid(2, 256, Offset::kHalf),
       "Q2_K, Q3_K, Q4_0, Q4_K, Q4_1, Q5_0, Q5_K, Q6_K, Q8_0, F16, F32"},
      {grid(2, 64, Offset::kFloat), "Q4_1, F32"},
      {grid(3, 64), "Q4_0, Q4_1, Q5_0, Q8_0, F16, F32"},
      {grid(3, 256), "Q3_K, Q4_0, Q4_K, Q4_1, Q5_0, Q5_K, Q6_K, Q8_0, F16, F32"},
      {grid(4, 32), "Q4_0, Q4_1, Q5_0, Q8_0, F16, F32"},
      {grid(4, 64, Offset::kInteger), "Q5_0, Q8_0, F32", 15},
      {grid(4, 256, Offset::kInteger), "Q4_K, Q5_0, Q5_K, Q6_K, Q8_0, F32", 15},
      {grid(4, 32, Offset::kFloat), "Q4_1, F32"},
      {grid(8, 32), "Q8_0, F32"},
      {grid(8, 32, Offset::kInteger), "Q8_0, F32", 127},
      {grid(8, 32, Offset::kInteger), "F32", 3},
  };
  for (const Fit& fit : fits) {
    QMatrix matrix = RandomQMatrix(4, 512, fit.grid, 5);
    std::vector<std::uint8_t> codes(512);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<std::uint8_t>((i * 7 + i / 13) % Size(fit.grid.levels()));
    }
    for (Index row = 0; row < 4; ++row) {
      matrix.SetRow(row, codes);
      // Eight significant bits, the most that scales by RoundScale have.
      std::ranges::fill(matrix.scales().Row(row), row % 2 == 0 ? 0x1.FEp-6f : -0x1.02p-5f);
      if (fit.zero >= 0) {
        std::ranges::fill(matrix.zeros().Row(row), static_cast<std::uint8_t>(fit.zero));
      }
      for (Index g = 0; fit.grid.group_size < 256 && g < matrix.groups(); g += 2) {
        matrix.scales()(row, g) = 0x1.4p-5f;  // super-blocks have one unit
      }
      if (fit.grid.offset == Offset::kFloat) {
        std::ranges::fill(matrix.minima().Row(row), 0x1.56p-7f);
      }
    }
    EXPECT_EQ(TypesThatHold(matrix), fit.types)
        << fit.grid.bits << " bits, group " << fit.grid.group_size << ", " << Name(fit.grid.offset)
        << ' ' << fit.zero;
  }
}

TEST(BlockTypes, HoldKQuantGridsInTheirOwnTypeAlone) {
  for (const KQuant& kind : KQuants()) {
    const QMatrix matrix = RandomQMatrix(2, 512, kind.grid, 3);
    for (const BlockType& type : BlockTypes()) {
      EXPECT_EQ(Holds(type, matrix), type.grid == kind.grid || type.name == "F32")
          << kind.name << ' ' << type.name;
    }
  }
}

TEST(BlockTypes, RefuseScalesThatF16DoesNotHold) {
  for (const float scale : {1e6f, 0x1.001p-3f, 0x1p-30f}) {
    QMatrix matrix = RandomQMatrix(1, 256, {.bits = 2, .group_size = 64}, 1);
    std::ranges::fill(matrix.scales().Row(0), scale);
    EXPECT_FALSE(Holds(*FindBlockType("Q2_0"), matrix)) << scale;
    EXPECT_FALSE(Holds(*FindBlockType("Q4_1"), matrix)) << scale;
    EXPECT_FALSE(Holds(*FindBlockType("Q8_0"), matrix)) << scale;
  }
}

// ---- golden bytes: of llama.cpp's own quantizers and readers ------------------------------------

QMatrix OneRow(const Grid& grid, Index cols, float scale, int zero = -1) {
  QMatrix matrix(1, cols, grid);
  std::vector<std::uint8_t> codes(Size(cols));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(i % Size(grid.levels()));
  }
  matrix.SetRow(0, codes);
  std::ranges::fill(matrix.scales().Row(0), scale);
  if (zero >= 0) std::ranges::fill(matrix.zeros().Row(0), static_cast<std::uint8_t>(zero));
  return matrix;
}

TEST(Golden, Q2_0MirrorsSymmetricCodes) {
  const BlockType& type = *FindBlockType("Q2_0");
  EXPECT_EQ(Hex(Encoded(type, OneRow({.bits = 2, .group_size = 64}, 64, 0.25f))),
            "00 B4 " + Repeated("1B", 16));
  EXPECT_EQ(Hex(Encoded(type, OneRow({.bits = 2, .group_size = 64, .offset = Offset::kInteger}, 64,
                                     0.25f, 1))),
            "00 34 " + Repeated("E4", 16));
}

TEST(Golden, Q2_KHasTheZeroInItsMinima) {
  EXPECT_EQ(
      Hex(Encoded(*FindBlockType("Q2_K"), OneRow({.bits = 2, .group_size = 256}, 256, 0.25f))),
      Repeated("21", 16) + " " + Repeated("00 55 AA FF", 16) + " 00 34 00 34");
}

TEST(Golden, Q3_KHasScalesOfOne) {
  const auto bytes =
      Encoded(*FindBlockType("Q3_K"), OneRow({.bits = 3, .group_size = 256}, 256, 0.25f));
  EXPECT_EQ(Hex(std::span(bytes).subspan(96, 12)), Repeated("11", 8) + " " + Repeated("AA", 4));
}

TEST(Golden, Q4_KSpreadsItsFactors) {
  const KQuant& kind = *KQuantOfBits(4);
  QMatrix matrix(1, 256, kind.grid);
  SuperBlock super{.d = 1, .dmin = 1};
  const auto factors = [&] {
    matrix.SetSuper(0, 0, super);
    const auto bytes = Encoded(*FindBlockType("Q4_K"), matrix);
    return Hex(std::span(bytes).subspan(4, 12));
  };
  for (std::size_t g = 0; g < 8; ++g) super.scales[g] = 1, super.minima[g] = 8;
  EXPECT_EQ(factors(), "01 01 01 01 08 08 08 08 81 81 81 81");
  for (std::size_t g = 0; g < 8; ++g) {
    super.scales[g] = static_cast<std::int8_t>(10 + 5 * g);
    super.minima[g] = static_cast<std::uint8_t>(3 + 7 * g);
  }
  EXPECT_EQ(factors(), "4A 8F 94 99 43 8A 91 D8 FE 63 D8 4D");
}

TEST(DecodeBlocks, PutsRowsWhereTheOrderSays) {
  const BlockType& type = *FindBlockType("Q4_0");
  const QMatrix matrix = RandomQMatrix(4, 64, *type.grid, 9);
  const std::vector<Index> order{2, 0, 3, 1};

  const QMatrix moved = Decoded(type, Encoded(type, matrix), 4, 64, order);

  const Matrix<float> from = Values(matrix), to = Values(moved);
  for (Index row = 0; row < 4; ++row) {
    EXPECT_TRUE(std::ranges::equal(to.view().Row(order[Size(row)]), from.view().Row(row)));
  }
}

TEST(RoundToBlocks, KeepsEveryValueWithinHalfAStep) {
  Rng rng(4);
  const BlockType& type = *FindBlockType("Q8_0");
  for (const float size : {1.0f, 1e4f, 1e-6f, 0.0f}) {
    std::vector<float> values(96);
    for (float& value : values) value = size * static_cast<float>(rng.Normal());
    values[40] = size * 1e2f;  // an outlier
    std::vector<std::byte> bytes(RowBytes(type.type(), 96));

    ASSERT_TRUE(type.round(values, bytes));

    const QMatrix matrix = Decoded(type, bytes, 1, 96);
    const Matrix<float> again = Values(matrix);
    for (Index i = 0; i < 96; ++i) {
      // Half a step, and what the largest loses where f16 rounds the step down: 127 times 2^-11 of
      // it, or 2^-25 below f16's normal numbers.
      const float step = std::fabs(matrix.scales()(0, i / 32));
      EXPECT_NEAR(again(0, i), values[Size(i)], 0.5f * step + 127 * (step * 0x1p-11f + 0x1p-25f))
          << size;
    }
  }
}

TEST(RoundToBlocks, KeepsTernaryWeightsExactly) {
  const BlockType& type = *FindBlockType("TQ2_0");
  Rng rng(5);
  std::vector<float> values(512), large(512);
  for (std::size_t i = 0; i < 512; ++i) {
    values[i] = 0.0625f * (static_cast<float>(rng.Below(3)) - 1);
    large[i] = static_cast<float>(rng.Normal());
  }
  std::vector<std::byte> bytes(RowBytes(type.type(), 512));
  ASSERT_TRUE(type.round(values, bytes));
  const Matrix<float> again = Values(Decoded(type, bytes, 1, 512));
  for (Index i = 0; i < 512; ++i) EXPECT_EQ(again(0, i), values[Size(i)]);

  ASSERT_TRUE(type.round(large, bytes));  // others become the nearest of -d, 0 and d
  const QMatrix matrix = Decoded(type, bytes, 1, 512);
  const Matrix<float> rounded = Values(matrix);
  for (Index i = 0; i < 512; ++i) {
    const float d = std::fabs(matrix.scales()(0, i / 256));
    EXPECT_LE(std::fabs(rounded(0, i) - large[Size(i)]), 0.5f * d * 1.001f);
  }
}

TEST(RoundToBlocks, RefusesWhatIsNotFiniteOrTooLarge) {
  std::vector<std::byte> bytes(256);
  for (const std::string_view name : {"F32", "F16", "BF16", "Q8_0"}) {
    const BlockType& type = *FindBlockType(name);
    const auto out = std::span(bytes).first(RowBytes(type.type(), 32));
    std::vector<float> values(32, 0.5f);
    EXPECT_TRUE(type.round(values, out)) << name;
    values[7] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(type.round(values, out)) << name;
    values[7] = -std::numeric_limits<float>::infinity();
    EXPECT_FALSE(type.round(values, out)) << name;
    values[7] = 1e30f;
    EXPECT_EQ(type.round(values, out), name == "F32" || name == "BF16") << name;
  }
}

TEST(GgmlBlocks, AGridHasTheTypeThatHoldsAllItsMatrices) {
  std::vector<Grid> grids;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const Index group : {16, 32, 64, 96, 128, 192, 256, 512, 0}) {
        grids.push_back({.bits = bits, .group_size = group, .offset = offset});
      }
    }
  }
  for (const KQuant& row : KQuants()) grids.push_back(row.grid);
  int held = 0;
  for (const Grid& grid : grids) {
    for (const Index cols : {32, 64, 96, 192, 256, 320, 576, 768, 1024, 1536}) {
      if (cols % RowStep(grid, cols) != 0) continue;
      const std::string label =
          std::to_string(grid.bits) + " bits, " + std::string(Name(grid.offset)) + ", groups of " +
          std::to_string(grid.group_size) + ", rows of " + std::to_string(cols);

      const BlockType* type = TypeOfGrid(grid, cols);

      // Of rows that are no whole blocks the table of targets says nothing.
      if (type == nullptr) {
        EXPECT_TRUE(!FindTarget("gguf").holds(grid, cols) || cols % 64 != 0) << label;
        continue;
      }
      EXPECT_TRUE(FindTarget("gguf").holds(grid, cols)) << label << ": " << type->name;
      ++held;
      std::vector<QMatrix> matrices;
      for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        matrices.push_back(RandomQMatrix(3, cols, grid, seed));
        EXPECT_TRUE(Holds(*type, matrices.back())) << label << ": " << type->name << ", " << seed;
      }
      for (const BlockType& other : BlockTypes()) {
        if (&other == type) break;  // the rest are wider
        EXPECT_FALSE(IsUsualType(other, grid.bits) &&
                     std::ranges::all_of(
                         matrices, [&](const QMatrix& matrix) { return Holds(other, matrix); }))
            << label << ": " << other.name << " is narrower";
      }
    }
  }
  EXPECT_GT(held, 100);
}

}  // namespace
}  // namespace lieq
