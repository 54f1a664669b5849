// One changed bit of what was written, wherever it is, is found: it makes another model, or none.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "lieq/container/folder_writer.h"
#include "lieq/container/targets.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
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

/// Every kind of tensor in the folder, several bits of each.
void ExpectEachFlipFound(const ModelFolder& source, const fs::path& out, const std::string& label) {
  ASSERT_TRUE(CompareModels(source, OpenModel(out)).equal()) << label;
  struct Place {
    std::string tensor;
    std::size_t bits;
  };
  std::vector<Place> places;
  {
    const TensorFile file = TensorFile::OpenFolder(out);
    for (const auto& [name, tensor] : file.tensors()) {
      places.push_back({name, tensor.bytes.size() * 8});
    }
  }
  Rng rng(17);
  for (const Place& place : places) {
    for (int flip = 0; flip < 3; ++flip) {
      const std::size_t bit =
          flip == 0 ? place.bits - 1 : rng.Below(static_cast<std::uint32_t>(place.bits));
      FlipBit(out, place.tensor, bit);
      bool found = true;
      const std::string error =
          ErrorOf([&] { found = !CompareModels(source, OpenModel(out)).equal(); });
      EXPECT_TRUE(found) << label << ": bit " << bit << " of " << place.tensor;
      FlipBit(out, place.tensor, bit);
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
    config["quantization_config"] = QuantizationConfig(LayerGrids{layer});
    fs::create_directory(folder / "out");
    WriteModelFolder(source, config, form, "pt", folder / "out");
    ExpectEachFlipFound(
        source, folder / "out",
        grid.k_quant ? std::string(KQuantOf(grid).name) : std::string(Name(grid.offset)));
  }
}

}  // namespace
}  // namespace lieq
