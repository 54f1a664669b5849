// One changed bit of what was written, wherever it is, is found: it makes another model, or none.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "lieq/container/folder_writer.h"
#include "lieq/container/ggml_blocks.h"
#include "lieq/container/gguf_open.h"
#include "lieq/container/gptq_folder.h"
#include "lieq/container/mlx_folder.h"
#include "lieq/container/targets.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/spoilt_folder.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

std::vector<Grid> Grids() {
  std::vector<Grid> grids{{.bits = 2, .group_size = 64},
                          {.bits = 3, .group_size = 32},
                          {.bits = 4, .group_size = 64, .offset = Offset::kInteger},
                          {.bits = 8, .group_size = 128},
                          {.bits = 2, .group_size = 64, .offset = Offset::kHalf},
                          {.bits = 4, .group_size = 32, .offset = Offset::kFloat}};
  for (const KQuant& row : KQuants()) grids.push_back(row.grid);
  return grids;
}

ModelFolder Source(const TempFolder& folder, const Grid& grid) {
  return RandomQuantizedModel(
      folder / "model",
      {.architecture = "Qwen2ForCausalLM", .layers = 1, .hidden = 256, .heads = 8}, grid);
}

/// Where the bits of a tensor lie in a file.
struct Place {
  std::string tensor;
  fs::path file;
  std::size_t offset = 0, bits = 0;
};

std::vector<Place> PlacesOf(const fs::path& model) {
  std::vector<Place> places;
  if (IsGguf(model)) {
    const GgufFile file = GgufFile::Open(model);
    for (const GgufTensor& tensor : file.tensors()) {
      const auto offset = tensor.bytes.data() - file.map()->bytes().data();
      places.push_back(
          {tensor.name, model, static_cast<std::size_t>(offset), tensor.bytes.size() * 8});
    }
    return places;
  }
  const TensorFile file = TensorFile::OpenFolder(model);
  for (const auto& [name, tensor] : file.tensors()) {
    places.push_back({name, tensor.file, OffsetOf(file, tensor), tensor.bytes.size() * 8});
  }
  return places;
}

/// The first bit of every tensor, its last one and some between.
void ExpectEachFlipFound(const ModelFolder& source, const fs::path& out, const std::string& label) {
  ASSERT_TRUE(CompareModels(source, OpenModel(out)).equal()) << label;
  Rng rng(17);
  for (const Place& place : PlacesOf(out)) {
    const auto bits = static_cast<std::uint32_t>(place.bits);
    for (const std::size_t bit :
         {std::size_t{0}, place.bits - 1, Size(rng.Below(bits)), Size(rng.Below(bits))}) {
      FlipBitAt(place.file, 8 * place.offset + bit);
      bool found = true;
      const std::string error =
          ErrorOf([&] { found = !CompareModels(source, OpenModel(out)).equal(); });
      EXPECT_TRUE(found) << label << ": bit " << bit << " of " << place.tensor;
      FlipBitAt(place.file, 8 * place.offset + bit);
    }
  }
  EXPECT_TRUE(CompareModels(source, OpenModel(out)).equal()) << label;
}

TEST(FlippedBits, AreFoundInEveryFolderThatIsExported) {
  for (const Exporter& exporter : Exporters()) {
    if (exporter.one_file) continue;
    for (const Grid& grid : Grids()) {
      if (!FindTarget(exporter.name).holds(grid, 256)) continue;
      const TempFolder folder;
      const ModelFolder source = Source(folder, grid);
      fs::create_directory(folder / "out");
      exporter.write(source, folder / "out", {});
      ExpectEachFlipFound(source, folder / "out",
                          std::string(exporter.name) + ", " + std::to_string(grid.bits) +
                              " bits, " + std::string(Name(grid.offset)));
    }
  }
}

TEST(FlippedBits, AreFoundInFoldersOfOurOwn) {
  for (const Grid& grid : Grids()) {
    if (!NeedsOwnMethod(grid)) continue;
    const TempFolder folder;
    const ModelFolder source = Source(folder, grid);
    const PackedForm form{
        .specs =
            [](const std::string& module, const QMatrix& matrix) {
              return PackedSpecs(module, matrix.rows(), matrix.cols(), matrix.grid(), DType::kBF16);
            },
        .write = [](TensorWriter& writer, const std::string& module,
                    const QMatrix& matrix) { WritePacked(writer, module, matrix, DType::kBF16); }};
    Record config = FloatConfig(source);
    std::array<Grid, kSites> layer;
    layer.fill(grid);
    config["quantization_config"] = QuantizationConfig({.layers = {layer}});
    fs::create_directory(folder / "out");
    WriteModelFolder(source, config, form, "pt", folder / "out");
    ExpectEachFlipFound(
        source, folder / "out",
        grid.k_quant ? std::string(KQuantOf(grid).name) : std::string(Name(grid.offset)));
  }
}

/// Zero-points of 1 and more.
void LiftZeros(QMatrix& matrix) {
  for (Index row = 0; row < matrix.rows(); ++row) {
    for (std::uint8_t& zero : matrix.zeros().Row(row)) zero = std::max<std::uint8_t>(zero, 1);
  }
}
void LiftZeros(ModelFolder& model) {
  for (Linear& linear : model.weights.layers[0].linears) {
    auto copy = std::make_shared<QMatrix>(*std::get<std::shared_ptr<const QMatrix>>(linear.weight));
    LiftZeros(*copy);
    linear.weight = std::shared_ptr<const QMatrix>(std::move(copy));
  }
}

TEST(FlippedBits, AreFoundInGgufFilesOfEveryTypeThatIsWritten) {
  struct Row {
    const char* type;
    Grid grid;
  };
  const std::vector<Row> table{{"Q2_0", {.bits = 2, .group_size = 64}},
                               {"Q4_0", {.bits = 2, .group_size = 32}},
                               {"Q4_1", {.bits = 3, .group_size = 64, .offset = Offset::kInteger}},
                               {"Q5_0", {.bits = 4, .group_size = 64, .offset = Offset::kInteger}},
                               {"Q8_0", {.bits = 8, .group_size = 128}},
                               {"Q2_K", {.bits = 2, .group_size = 256, .offset = Offset::kInteger}},
                               {"Q2_K", KQuantOfBits(2)->grid},
                               {"Q3_K", KQuantOfBits(3)->grid},
                               {"Q4_K", KQuantOfBits(4)->grid}};
  for (const Row& row : table) {
    const TempFolder folder;
    ModelFolder source = Source(folder, row.grid);
    // By values alone, dmin says nothing where all minima of its super-block are 0.
    if (row.grid.offset == Offset::kInteger) LiftZeros(source);
    FindExporter("gguf").write(source, folder / "m.gguf", {.types = {row.type}});
    ExpectEachFlipFound(source, folder / "m.gguf", row.type);
  }
}

// ---- every single bit of one linear -------------------------------------------------------------

/// Two models of which one linear is read again and again, of bytes that lie in memory.
class EveryBit : public testing::Test {
 protected:
  using Parts = std::vector<RawTensor>;

  EveryBit() {
    MakeTinyModel(folder_ / "model", {.layers = 1});
    expected_ = found_ = OpenModel(folder_ / "model");
  }

  /// Writes a matrix in a container and gives what lies in the file.
  Parts Written(const std::vector<TensorSpec>& specs,
                const std::function<void(TensorWriter&)>& write) {
    TensorWriter writer(folder_ / "m.safetensors", specs, {});
    write(writer);
    writer.Commit();
    return ReadRaw(folder_ / "m.safetensors");
  }

  static TensorFile FileOf(const Parts& parts) {
    std::vector<TensorRef> refs;
    for (const RawTensor& part : parts) {
      refs.push_back({.name = part.spec.name,
                      .dtype = part.spec.dtype,
                      .shape = part.spec.shape,
                      .bytes = part.bytes,
                      .file = "m.safetensors"});
    }
    return TensorFile::Of("m.safetensors", std::move(refs), {});
  }

  /// carries: whether a bit of a tensor says anything.
  void ExpectEachFound(
      const std::string& label, Parts parts, const std::function<QMatrix(const Parts&)>& read,
      const std::function<bool(const RawTensor&, std::size_t)>& carries = [](const auto&, auto) {
        return true;
      }) {
    const auto matrix = [&] { return std::make_shared<const QMatrix>(read(parts)); };
    AnyMatrix& weight = found_.weights.layers[0].At(Site::kQ).weight;
    expected_.weights.layers[0].At(Site::kQ).weight = weight = matrix();
    ASSERT_TRUE(CompareModels(expected_, found_).equal()) << label;
    for (RawTensor& part : parts) {
      for (std::size_t bit = 0; bit < 8 * part.bytes.size(); ++bit) {
        if (!carries(part, bit)) continue;
        const std::byte mask{static_cast<unsigned char>(1u << bit % 8)};
        part.bytes[bit / 8] ^= mask;
        Comparison comparison;
        const std::string error = ErrorOf([&] {
          weight = matrix();
          comparison = CompareModels(expected_, found_);
        });
        part.bytes[bit / 8] ^= mask;
        if (!error.empty()) continue;
        ASSERT_FALSE(comparison.equal()) << label << ": bit " << bit << " of " << part.spec.name;
        EXPECT_EQ(comparison.differences[0].tensor, "model.layers.0.self_attn.q_proj") << label;
      }
    }
  }

  TempFolder folder_;
  ModelFolder expected_, found_;
};

std::string Label(const char* container, const Grid& grid) {
  return std::string(container) + ", " + std::to_string(grid.bits) + " bits, " +
         (grid.k_quant ? std::string(KQuantOf(grid).name) : std::string(Name(grid.offset)));
}

TEST_F(EveryBit, OfCompressedTensorsIsFound) {
  std::vector<Grid> grids;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      grids.push_back({.bits = bits, .group_size = 10, .offset = offset});
    }
  }
  for (const KQuant& row : KQuants()) grids.push_back(row.grid);
  for (const Grid& grid : grids) {
    // Rows and columns of streams end inside a word: set bits behind them are refused.
    const QMatrix matrix = RandomQMatrix(3, grid.k_quant ? 256 : 20, grid, 5);
    const DType type = DType::kBF16;
    ExpectEachFound(Label("compressed-tensors", grid),
                    Written(PackedSpecs("m", matrix.rows(), matrix.cols(), grid, type),
                            [&](TensorWriter& writer) { WritePacked(writer, "m", matrix, type); }),
                    [&](const Parts& parts) { return ReadPacked(FileOf(parts), "m", grid); });
  }
}

TEST_F(EveryBit, OfGptqIsFound) {
  for (const GptqVersion version : {GptqVersion::kV1, GptqVersion::kV2}) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const Offset offset : {Offset::kSymmetric, Offset::kInteger}) {
        const Index extent = bits == 3 ? 32 : 32 / bits;  // the least that fills whole words
        const Grid grid{.bits = bits, .group_size = extent / 2, .offset = offset};
        QMatrix matrix = RandomQMatrix(extent, extent, grid, 6);
        if (offset == Offset::kInteger) LiftZeros(matrix);  // version 1 has no 0
        ExpectEachFound(
            Label(version == GptqVersion::kV1 ? "GPTQ 1" : "GPTQ 2", grid),
            Written(GptqSpecs("m", matrix),
                    [&](TensorWriter& writer) { WriteGptq(writer, "m", matrix, version); }),
            [&](const Parts& parts) {
              return ReadGptq(FileOf(parts), "m", extent, extent, grid, version);
            });
      }
    }
  }
}

TEST_F(EveryBit, OfMlxIsFound) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      const Grid grid{.bits = bits, .group_size = 32, .offset = offset};
      QMatrix matrix = RandomQMatrix(2, 64, grid, 7);
      for (Index row = 0; row < 2; ++row) {  // times any zero-point they are 16-bit floats
        matrix.scales()(row, 0) = 5.0f / 512;
        matrix.scales()(row, 1) = -7.0f / 512;
      }
      const std::optional<DType> type = MlxScaleType(matrix, DType::kBF16);
      ASSERT_TRUE(type.has_value()) << Label("MLX", grid);
      const auto carries = [](const RawTensor& part, std::size_t bit) {
        std::uint16_t item = 0;
        std::memcpy(&item, part.bytes.data() + bit / 16 * 2, sizeof(item));
        const bool sign_of_zero = bit % 16 == 15 && item % 0x8000 == 0;  // says nothing
        return part.spec.name != "m.biases" || !sign_of_zero;
      };
      ExpectEachFound(
          Label("MLX", grid),
          Written(MlxSpecs("m", matrix, *type),
                  [&](TensorWriter& writer) { WriteMlx(writer, "m", matrix, *type); }),
          [&](const Parts& parts) {
            return ReadMlx(FileOf(parts), "m", 2, 64, {.bits = bits, .group_size = 32});
          },
          carries);
    }
  }
}

TEST_F(EveryBit, OfBlocksOfGgufIsFound) {
  for (const BlockType& type : BlockTypes()) {
    if (!type.grid) continue;
    const auto cols = static_cast<Index>(type.type().columns);
    Parts parts = {{{"m", DType::kU8, {2, cols}}, {}}};
    Rng rng(8);
    for (std::size_t i = 0; i < 2 * RowBytes(type.type(), cols); ++i) {
      // Exponents of F16 whose middle bit is 0 are finite, and those whose lowest is 1 not zero.
      parts[0].bytes.push_back(static_cast<std::byte>((rng.Below(256) & 0xEFu) | 0x04u));
    }
    ExpectEachFound(std::string(type.name), parts, [&](const Parts& all) {
      const GgufTensor tensor{
          .name = "m", .type = &type.type(), .shape = {2, cols}, .bytes = all[0].bytes};
      return DecodeBlocks(type, tensor, {}, "m");
    });
  }
}

}  // namespace
}  // namespace lieq
