#include "lieq/container/compressed_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "lieq/base/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void WriteMatrix(const std::filesystem::path& path, const QMatrix& matrix, DType scale_type) {
  TensorWriter writer(
      path, PackedSpecs("m", matrix.rows(), matrix.cols(), matrix.grid(), scale_type), {});
  WritePacked(writer, "m", matrix, scale_type);
  writer.Commit();
}

void ExpectEqual(const QMatrix& a, const QMatrix& b) {
  ASSERT_EQ(a.rows(), b.rows());
  ASSERT_EQ(a.cols(), b.cols());
  ASSERT_EQ(a.grid(), b.grid());
  EXPECT_TRUE(std::ranges::equal(a.words(), b.words()));
  for (Index row = 0; row < a.rows(); ++row) {
    EXPECT_TRUE(std::ranges::equal(a.scales().Row(row), b.scales().Row(row)));
    if (a.grid().offset == Offset::kInteger) {
      EXPECT_TRUE(std::ranges::equal(a.zeros().Row(row), b.zeros().Row(row)));
    }
    if (a.grid().offset == Offset::kFloat) {
      EXPECT_TRUE(std::ranges::equal(a.minima().Row(row), b.minima().Row(row)));
    }
  }
}

template <class T>
std::vector<T> Items(const TensorRef& tensor) {
  std::vector<T> items(tensor.bytes.size() / sizeof(T));
  std::memcpy(items.data(), tensor.bytes.data(), tensor.bytes.size());
  return items;
}

using GridParameters = std::tuple<int, Index, Offset, DType>;
class PackedRoundTrip : public testing::TestWithParam<GridParameters> {};

TEST_P(PackedRoundTrip, GivesTheSameMatrix) {
  const auto [bits, group, offset, scale_type] = GetParam();
  const Grid grid{.bits = bits, .group_size = group, .offset = offset};
  std::vector<QMatrix> matrices;
  std::vector<TensorSpec> specs;
  for (const Index rows : {1, 5, 32, 67}) {  // streams of zero-points end inside a word
    for (const Index groups : {1, 3}) {
      // A whole row may end inside a word too.
      const Index cols = group == 0 ? 40 * groups + 1 : group * groups;
      const std::string module = std::to_string(matrices.size());
      std::ranges::move(PackedSpecs(module, rows, cols, grid, scale_type),
                        std::back_inserter(specs));
      matrices.push_back(RandomQMatrix(rows, cols, grid, matrices.size()));
    }
  }
  const TempFolder folder;

  TensorWriter writer(folder / "m.safetensors", specs, {});
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    WritePacked(writer, std::to_string(i), matrices[i], scale_type);
  }
  writer.Commit();

  const TensorFile file = TensorFile::Open(folder / "m.safetensors");
  const bool stored = offset == Offset::kInteger || offset == Offset::kFloat;
  EXPECT_EQ(file.tensors().size(), matrices.size() * (stored ? 4 : 3));
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    ExpectEqual(ReadPacked(file, std::to_string(i), grid), matrices[i]);
  }
}
INSTANTIATE_TEST_SUITE_P(Grids, PackedRoundTrip,
                         testing::Combine(testing::Values(2, 3, 4, 5, 6, 8),
                                          testing::Values(0, 16, 32, 48, 64, 128, 256),
                                          testing::ValuesIn(kAllOffsets),
                                          testing::Values(DType::kF16, DType::kBF16)));

TEST(PackedSupers, GiveTheSameMatrix) {
  for (const KQuant& kind : KQuants()) {
    for (const Index rows : {1, 7}) {
      for (const Index cols : {256, 768}) {  // factors of Q4_K end inside a word
        const QMatrix matrix = RandomQMatrix(rows, cols, kind.grid, 3);
        const TempFolder folder;
        WriteMatrix(folder / "m.safetensors", matrix, DType::kBF16);

        const TensorFile file = TensorFile::Open(folder / "m.safetensors");
        const QMatrix read = ReadPacked(file, "m", kind.grid);

        ExpectEqual(read, matrix);
        std::size_t bytes = 0;
        for (const auto& [name, tensor] : file.tensors()) {
          if (name != "m.weight_shape") bytes += tensor.bytes.size();
        }
        // Up to the end of a word in each row of factors, as many bits as they say.
        const auto bits = static_cast<std::size_t>(matrix.stored_bits());
        EXPECT_GE(8 * bytes, bits) << kind.name;
        EXPECT_LT(8 * bytes, bits + Size(rows) * 64) << kind.name;
        for (Index row = 0; row < rows; ++row) {
          for (Index block = 0; block < matrix.supers(); ++block) {
            EXPECT_EQ(read.Super(row, block), matrix.Super(row, block)) << kind.name;
          }
        }
      }
    }
  }
}

TEST(PackedSupers, RefuseWhatNoMatrixCanBe) {
  const Grid grid = KQuantOfBits(4)->grid;
  const QMatrix matrix = RandomQMatrix(2, 256, grid, 3);
  const TempFolder folder;
  WriteMatrix(folder / "whole.safetensors", matrix, DType::kF16);
  const TensorFile whole = TensorFile::Open(folder / "whole.safetensors");
  std::vector<RawTensor> good;
  for (const auto& [name, tensor] : whole.tensors()) {
    good.push_back(
        {{name, tensor.dtype, tensor.shape}, {tensor.bytes.begin(), tensor.bytes.end()}});
  }
  const auto error_with = [&](std::string_view suffix, const auto& change, const Grid& as) {
    std::vector<RawTensor> tensors = good;
    for (RawTensor& tensor : tensors) {
      if (tensor.spec.name.ends_with(suffix)) change(tensor);
    }
    WriteRaw(folder / "m.safetensors", tensors);
    return ErrorOf([&] { (void)ReadPacked(TensorFile::Open(folder / "m.safetensors"), "m", as); });
  };
  const auto nothing = [](RawTensor&) {};
  ASSERT_EQ(error_with("", nothing, grid), "");

  for (const std::string_view suffix : {"weight_scale_factor", "weight_minimum_factor",
                                        "weight_super_scale", "weight_super_minimum"}) {
    const auto renamed = [](RawTensor& tensor) { tensor.spec.name += "_"; };
    EXPECT_THAT(error_with(suffix, renamed, grid), HasSubstr(std::string(suffix)));
    const auto reshaped = [](RawTensor& tensor) {
      std::swap(tensor.spec.shape[0], tensor.spec.shape[1]);
      if (tensor.spec.shape[0] == tensor.spec.shape[1]) {
        tensor.spec.shape = {1, tensor.spec.shape[0] * tensor.spec.shape[1]};
      }
    };
    EXPECT_THAT(error_with(suffix, reshaped, grid), HasSubstr("wrong type or shape"));
  }
  const auto type = [](RawTensor& tensor) { tensor.spec.dtype = DType::kBF16; };
  EXPECT_THAT(error_with("weight_super_scale", type, grid), HasSubstr("wrong type or shape"));
  const auto infinite = [](RawTensor& tensor) {
    const std::uint16_t bits = 0x7C00;
    std::memcpy(tensor.bytes.data(), &bits, sizeof(bits));
  };
  EXPECT_THAT(error_with("weight_super_scale", infinite, grid), HasSubstr("is not finite"));
  EXPECT_THAT(error_with("weight_super_minimum", infinite, grid), HasSubstr("is not finite"));
  const auto tail = [](RawTensor& tensor) { tensor.bytes.back() |= std::byte{0x80}; };
  EXPECT_THAT(error_with("weight_scale_factor", tail, grid),
              HasSubstr("bits set behind the last factor"));
  const auto narrow = [](RawTensor& tensor) {
    const std::array<std::int64_t, 2> shape{2, 128};
    std::memcpy(tensor.bytes.data(), shape.data(), sizeof(shape));
  };
  EXPECT_THAT(error_with("weight_shape", narrow, grid),
              AllOf(HasSubstr("group size does not divide the row"), HasSubstr("256")));
  EXPECT_THAT(error_with("", nothing, KQuantOfBits(2)->grid), HasSubstr("wrong type or shape"));
}

/// weight_packed of one row of codes, as written.
std::vector<std::uint32_t> PackedRow(int bits, const std::vector<std::uint8_t>& codes) {
  const auto cols = static_cast<Index>(codes.size());
  QMatrix matrix(1, cols, {.bits = bits, .group_size = 0});
  matrix.SetRow(0, codes);
  matrix.scales()(0, 0) = 1.0f;
  const TempFolder folder;
  WriteMatrix(folder / "m.safetensors", matrix, DType::kBF16);
  return Items<std::uint32_t>(TensorFile::Open(folder / "m.safetensors").At("m.weight_packed"));
}

std::vector<std::uint8_t> Repeated(std::uint8_t below, std::size_t count) {
  std::vector<std::uint8_t> codes(count);
  for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint8_t>(i % below);
  return codes;
}

TEST(PackedFormat, GoldenVectors) {  // formats.md section 1.5
  EXPECT_THAT(PackedRow(2, Repeated(4, 16)), ElementsAre(0xE4E4E4E4u));
  EXPECT_THAT(PackedRow(3, Repeated(8, 32)), ElementsAre(0x88FAC688u, 0xC688FAC6u, 0xFAC688FAu));
  EXPECT_THAT(PackedRow(4, Repeated(8, 8)), ElementsAre(0x76543210u));
  EXPECT_THAT(PackedRow(8, {1, 2, 128, 255}), ElementsAre(0xFF800201u));
}

TEST(PackedFormat, ZeroPointsRunAlongTheRowsOfEachColumn) {
  QMatrix matrix(16, 4, {.bits = 2, .group_size = 2, .offset = Offset::kInteger});
  for (Index row = 0; row < 16; ++row) {
    matrix.scales()(row, 0) = matrix.scales()(row, 1) = 0.5f;
    matrix.zeros()(row, 0) = static_cast<std::uint8_t>(row % 4);
    matrix.zeros()(row, 1) = 3;
  }
  const TempFolder folder;

  WriteMatrix(folder / "m.safetensors", matrix, DType::kF16);

  const TensorFile file = TensorFile::Open(folder / "m.safetensors");
  EXPECT_EQ(Describe(file.At("m.weight_zero_point").dtype, file.At("m.weight_zero_point").shape),
            "I32 [1, 2]");
  EXPECT_THAT(Items<std::uint32_t>(file.At("m.weight_zero_point")),
              ElementsAre(0xE4E4E4E4u, 0xFFFFFFFFu));
  EXPECT_THAT(Items<std::int64_t>(file.At("m.weight_shape")), ElementsAre(16, 4));
  EXPECT_EQ(Describe(file.At("m.weight_shape").dtype, file.At("m.weight_shape").shape), "I64 [2]");
  EXPECT_EQ(Describe(file.At("m.weight_scale").dtype, file.At("m.weight_scale").shape),
            "F16 [16, 2]");
  EXPECT_EQ(Describe(file.At("m.weight_packed").dtype, file.At("m.weight_packed").shape),
            "I32 [16, 1]");
}

/// An embedding of 8 bits and the head beside it, written and opened.
class Ends : public testing::TestWithParam<bool> {  // tied
 protected:
  void SetUp() override {
    config.vocab = 37;
    config.hidden = 24;
    config.tied = GetParam();
    std::vector<TensorSpec> specs = EndSpecs(kEmbeddingModule, config, grid, DType::kBF16);
    const auto head_specs = EndSpecs(kHeadModule, config, grid, DType::kBF16);
    if (!config.tied) specs.insert(specs.end(), head_specs.begin(), head_specs.end());
    TensorWriter writer(folder / "m.safetensors", specs, {});
    WriteEnd(writer, kEmbeddingModule, config, embedding, DType::kBF16);
    if (!config.tied) WriteEnd(writer, kHeadModule, config, head, DType::kBF16);
    writer.Commit();
    file = TensorFile::Open(folder / "m.safetensors");
  }
  const Grid grid{.bits = 8, .group_size = 8};
  const QMatrix embedding = RandomQMatrix(37, 24, grid, 5), head = RandomQMatrix(37, 24, grid, 6);
  ModelConfig config;
  TempFolder folder;
  std::optional<TensorFile> file;
};

TEST_P(Ends, OfEightBitsAreBytesInTheEmbeddingAndWordsInTheHead) {
  const TensorRef& bytes = file->At("model.embed_tokens.weight");
  EXPECT_EQ(Describe(bytes.dtype, bytes.shape), "I8 [37, 24]");
  const std::vector<std::int8_t> items = Items<std::int8_t>(bytes);
  Matrix<float> meant(37, 24);
  embedding.Dequantize(0, meant.view());
  for (Index row = 0; row < 37; ++row) {
    for (Index col = 0; col < 24; ++col) {
      // What it means: an item times its scale.
      EXPECT_EQ(meant(row, col),
                static_cast<float>(items[Size(row * 24 + col)]) * embedding.scales()(row, col / 8));
    }
  }
  EXPECT_FALSE(file->Has("model.embed_tokens.weight_packed"));
  EXPECT_EQ(file->Has("lm_head.weight_packed"), !config.tied);
  EXPECT_EQ(Items<std::uint16_t>(file->At("model.embed_tokens.weight_scale")) ==
                Items<std::uint16_t>(file->At("lm_head.weight_scale")),
            config.tied);
  ExpectEqual(ReadPacked(*file, kEmbeddingModule, grid), embedding);
  if (!config.tied) ExpectEqual(ReadPacked(*file, kHeadModule, grid), head);
}

TEST_P(Ends, BytesAreReadOnTheirOwnGridAlone) {
  for (const Grid& other : {Grid{.bits = 4, .group_size = 8},
                            Grid{.bits = 8, .group_size = 8, .offset = Offset::kInteger},
                            Grid{.bits = 8, .group_size = 5}, Grid{.bits = 8, .group_size = 12}}) {
    EXPECT_THAT(ErrorOf([&] { return ReadPacked(*file, kEmbeddingModule, other); }),
                HasSubstr("model.embed_tokens.weight"))
        << other.bits << " " << other.group_size;
  }
}

INSTANTIATE_TEST_SUITE_P(TiedOrNot, Ends, testing::Bool());

TEST(WritePacked, RefusesScalesThatTheTypeDoesNotHold) {
  for (const float scale : {0.1f, 1e30f, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity()}) {
    for (const DType type : {DType::kF16, DType::kBF16}) {
      QMatrix matrix(2, 8, {.bits = 4, .group_size = 0});
      matrix.scales()(0, 0) = 1.0f;
      matrix.scales()(1, 0) = scale;
      const TempFolder folder;
      EXPECT_THAT(ErrorOf([&] {
                    WriteMatrix(folder / "m.safetensors", matrix, type);
                    return 0;
                  }),
                  AllOf(HasSubstr("m, row 1"), HasSubstr("cannot be stored exactly")));
      EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    }
  }
}

/// A 3-bit asymmetric module of 5 rows and two groups of 32 columns, to be spoilt.
class HostilePacked : public testing::Test {
 protected:
  static constexpr Grid kGrid{.bits = 3, .group_size = 32, .offset = Offset::kInteger};

  std::string ReadError(const Grid& grid = kGrid) {
    WriteRaw(folder_ / "m.safetensors", {shape_, packed_, zero_, scale_});
    const TensorFile file = TensorFile::Open(folder_ / "m.safetensors");
    return ErrorOf([&] { return ReadPacked(file, "m", grid); });
  }

  RawTensor shape_ = Raw<std::int64_t>("m.weight_shape", DType::kI64, {2}, {5, 64});
  RawTensor packed_ =
      Raw<std::uint32_t>("m.weight_packed", DType::kI32, {5, 6}, std::vector<std::uint32_t>(30, 7));
  RawTensor zero_ = Raw<std::uint32_t>("m.weight_zero_point", DType::kI32, {1, 2}, {0x7FFF, 0x1});
  RawTensor scale_ = Raw<std::uint16_t>("m.weight_scale", DType::kBF16, {5, 2},
                                        std::vector<std::uint16_t>(10, 0xBF80));
  TempFolder folder_;
};

TEST_F(HostilePacked, IsReadAsItStands) {
  EXPECT_THAT(ReadError(), IsEmpty());
  const QMatrix matrix = ReadPacked(TensorFile::Open(folder_ / "m.safetensors"), "m", kGrid);
  EXPECT_EQ(matrix.scales()(4, 1), -1.0f);
  EXPECT_EQ(matrix.zeros()(4, 0), 7);
  EXPECT_EQ(matrix.zeros()(0, 1), 1);
}

TEST_F(HostilePacked, NamesTheTensorThatIsMissing) {
  zero_.spec.name = "m.other";
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("tensor is missing"), HasSubstr("m.weight_zero_point")));
}

TEST_F(HostilePacked, ChecksTheShapeTensor) {
  using Shape = std::vector<std::int64_t>;
  for (const Shape& shape :
       {Shape{0, 64}, Shape{5, -64}, Shape{1, INT64_MAX}, Shape{INT64_MIN, 64}}) {
    shape_ = Raw("m.weight_shape", DType::kI64, {2}, shape);
    EXPECT_THAT(ReadError(), AllOf(HasSubstr("m.weight_shape"), HasSubstr("extent out of range")));
  }
  shape_ = Raw<std::int64_t>("m.weight_shape", DType::kI64, {2}, {5, 63});
  EXPECT_THAT(ReadError(), HasSubstr("group size does not divide the row"));
  shape_ = Raw<std::int64_t>("m.weight_shape", DType::kI64, {2}, {5, 16'777'216});
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("m.weight_packed"), HasSubstr("I32 [5, 1572864]")));
  shape_ = Raw<std::int64_t>("m.weight_shape", DType::kI64, {2}, {16'777'216, 64});
  EXPECT_THAT(ReadError(), HasSubstr("m.weight_packed"));
  shape_ = Raw<std::int32_t>("m.weight_shape", DType::kI32, {2}, {5, 64});
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("I64 [2]"), HasSubstr("I32 [2]")));
  shape_ = Raw<std::int64_t>("m.weight_shape", DType::kI64, {1}, {5});
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("I64 [2]"), HasSubstr("I64 [1]")));
}

TEST_F(HostilePacked, ChecksTypesAndShapesOfTheOthers) {
  zero_ =
      Raw<std::uint8_t>("m.weight_zero_point", DType::kI8, {5, 2}, std::vector<std::uint8_t>(10));
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("I32 [1, 2]"), HasSubstr("I8 [5, 2]")));
  scale_ = Raw<std::uint16_t>("m.weight_scale", DType::kBF16, {5}, std::vector<std::uint16_t>(5));
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("BF16 [5, 2]"), HasSubstr("BF16 [5]")));
  scale_ =
      Raw<std::uint32_t>("m.weight_scale", DType::kI32, {5, 2}, std::vector<std::uint32_t>(10));
  EXPECT_THAT(ReadError(), HasSubstr("F16, BF16 or F32"));
  packed_.spec.dtype = DType::kU32;
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("I32 [5, 6]"), HasSubstr("U32 [5, 6]")));
  EXPECT_THAT(ReadError({.bits = 4, .group_size = 32, .offset = Offset::kInteger}),
              HasSubstr("I32 [5, 8]"));
}

TEST_F(HostilePacked, TellsTheLayoutOfTenCodesToAWord) {
  packed_ =
      Raw<std::uint32_t>("m.weight_packed", DType::kI32, {5, 7}, std::vector<std::uint32_t>(35));
  EXPECT_THAT(ReadError(), HasSubstr("compressed-tensors 0.17"));
}

TEST_F(HostilePacked, RefusesBitsBehindTheLastCode) {
  zero_ = Raw<std::uint32_t>("m.weight_zero_point", DType::kI32, {1, 2}, {0x7FFF, 0x8000});
  EXPECT_THAT(ReadError(), AllOf(HasSubstr("m.weight_zero_point"), HasSubstr("column 1")));

  shape_ = Raw<std::int64_t>("m.weight_shape", DType::kI64, {2}, {5, 63});
  scale_ =
      Raw<std::uint16_t>("m.weight_scale", DType::kBF16, {5, 1}, std::vector<std::uint16_t>(5));
  std::vector<std::uint32_t> words(30);
  words[29] = 0x20000000;  // bit 189 of row 4: the first behind 63 codes
  packed_ = Raw("m.weight_packed", DType::kI32, {5, 6}, words);
  EXPECT_THAT(ReadError({.bits = 3, .group_size = 0}),
              AllOf(HasSubstr("m.weight_packed"), HasSubstr("row 4")));
}

TEST_F(HostilePacked, RefusesScalesThatAreNotFinite) {
  std::vector<std::uint16_t> scales(10, 0x3F80);
  for (const std::uint16_t bits : std::array<std::uint16_t, 3>{0x7F80, 0xFF80, 0x7FC0}) {
    scales[7] = bits;
    scale_ = Raw("m.weight_scale", DType::kBF16, {5, 2}, scales);
    EXPECT_THAT(ReadError(), AllOf(HasSubstr("scale is not finite"), HasSubstr("in row 3")));
  }
}

TEST_F(HostilePacked, ChecksMinima) {
  const Grid grid{.bits = 3, .group_size = 32, .offset = Offset::kFloat};
  EXPECT_THAT(ReadError(grid), AllOf(HasSubstr("tensor is missing"), HasSubstr("weight_minimum")));
  zero_ = Raw<float>("m.weight_minimum", DType::kF32, {5, 2}, std::vector<float>(10, -0.25f));
  EXPECT_THAT(ReadError(grid), IsEmpty());
  EXPECT_EQ(ReadPacked(TensorFile::Open(folder_ / "m.safetensors"), "m", grid).minima()(4, 1),
            -0.25f);
  zero_.spec.shape = {2, 5};
  EXPECT_THAT(ReadError(grid), AllOf(HasSubstr("weight_minimum"), HasSubstr("F32 [5, 2]")));
  std::vector<std::uint16_t> minima(10, 0x3F80);
  minima[3] = 0x7FC0;
  zero_ = Raw("m.weight_minimum", DType::kBF16, {5, 2}, minima);
  EXPECT_THAT(ReadError(grid), AllOf(HasSubstr("minimum is not finite"), HasSubstr("in row 1")));
}

TEST_F(HostilePacked, TakesFloatScalesToo) {
  scale_ = Raw<float>("m.weight_scale", DType::kF32, {5, 2}, std::vector<float>(10, 0.1f));
  EXPECT_THAT(ReadError(), IsEmpty());
}

}  // namespace
}  // namespace lieq
