#include "lieq/container/container_sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/container/exporters.h"
#include "lieq/container/targets.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::vector<const Exporter*> Sized() {
  std::vector<const Exporter*> sized;
  for (const Exporter& exporter : Exporters()) {
    if (exporter.sizes != nullptr) sized.push_back(&exporter);
  }
  return sized;
}

/// Bytes of the weight files that an export writes.
std::uint64_t Written(const Exporter& exporter, const ModelFolder& model, const TempFolder& folder,
                      const ExportSettings& settings) {
  const fs::path out = folder / "out";
  fs::remove_all(out);
  if (!exporter.one_file) fs::create_directory(out);
  exporter.write(model, out, settings);
  if (exporter.one_file) return fs::file_size(out);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(out)) {
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  }
  return bytes;
}

/// The ends on these grids too.
void QuantizeEnds(ModelFolder& model, const EndGrids& ends) {
  Weights& weights = model.weights;
  const auto codes = [&](const Grid& grid, std::uint64_t seed) {
    return std::make_shared<const QMatrix>(
        RandomQMatrix(weights.config.vocab, weights.config.hidden, grid, seed));
  };
  model.ends = ends;
  if (ends.embedding) weights.embedding = codes(*ends.embedding, 91);
  if (ends.head) weights.head = codes(*ends.head, 92);
  if (weights.config.tied) weights.head = weights.embedding;
}

ModelGrids GridsIn(const ModelFolder& model) {
  ModelGrids grids{.layers = {}, .ends = model.ends};
  for (const LayerWeights& layer : model.weights.layers) {
    grids.layers.emplace_back();
    for (const Site site : kAllSites) {
      const auto& matrix = *std::get<std::shared_ptr<const QMatrix>>(layer.At(site).weight);
      grids.layers.back()[static_cast<std::size_t>(site)] = matrix.grid();
    }
  }
  return grids;
}

TEST(ContainerSizes, AreTheBytesOfWhatIsWritten) {
  const std::vector<TinyModelOptions> models{
      {.hidden = 256, .heads = 8},
      {.architecture = "LlamaForCausalLM", .tied = false, .llama3_rope = true},
      {.architecture = "LlamaForCausalLM", .attention_bias = true, .mlp_bias = true},
      {.architecture = "Qwen2ForCausalLM", .tied = false, .dtype = DType::kF16},
      {.architecture = "Qwen3ForCausalLM", .layers = 12},
      {.architecture = "Qwen3ForCausalLM", .tied = false, .dtype = DType::kF32}};
  std::vector<Grid> grids;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const Index group : {32, 64, 128, 256}) {
        grids.push_back({.bits = bits, .group_size = group, .offset = offset});
      }
    }
  }
  for (const KQuant& row : KQuants()) grids.push_back(row.grid);
  const std::vector<std::optional<Grid>> of_ends{std::nullopt, Grid{.bits = 8, .group_size = 64},
                                                 Grid{.bits = 4, .group_size = 32}};
  int exact = 0, nearly = 0;
  for (const Exporter* exporter : Sized()) {
    const ContainerTarget& target = FindTarget(exporter->name);
    std::size_t turn = 0;
    for (const TinyModelOptions& options : models) {
      const TempFolder folder;
      MakeTinyModel(folder / "float", options);
      const ModelFolder source = OpenModel(folder / "float");
      const auto sizes = exporter->sizes(source);
      for (std::size_t first = 0; first < grids.size(); ++first) {
        const Grid &one = grids[first], &other = grids[(first + 7) % grids.size()];
        const auto fits = [&](const Grid& grid) {
          return std::ranges::all_of(kAllSites, [&](Site site) {
            const Index cols = source.weights.config.In(site);
            return cols % RowStep(grid, cols) == 0 && target.holds(grid, cols);
          });
        };
        if (!fits(one) || !fits(other)) continue;
        ModelFolder model = RandomQuantizedModel(
            folder / "model", options,
            [&](Index layer, Unit unit) { return layer == 0 || unit == Unit::kO ? one : other; });
        if (target.packs_ends) {
          QuantizeEnds(model,
                       {of_ends[turn % 3], options.tied ? std::nullopt : of_ends[(turn + 1) % 3]});
          ++turn;
        }
        const ModelGrids planned = GridsIn(model);
        const std::string label =
            options.architecture + " as " + std::string(exporter->name) + ", " +
            std::to_string(one.bits) + " bits " + std::string(Name(one.offset)) + " and " +
            std::to_string(other.bits) + " bits " + std::string(Name(other.offset));

        const std::uint64_t written = Written(*exporter, model, folder, {.counted = true});

        if (sizes->IsExact(planned)) {
          ++exact;
          EXPECT_EQ(sizes->Whole(planned), written) << label;
        } else {  // a letter for each tensor of scales and biases
          ++nearly;
          EXPECT_GE(sizes->Whole(planned), written) << label;
          EXPECT_LE(sizes->Whole(planned),
                    written + 8 + 2 * static_cast<std::uint64_t>(7 * options.layers + 2))
              << label;
        }
      }
    }
  }
  EXPECT_GT(exact, 60);
  EXPECT_GT(nearly, 3);
}

TEST(ContainerSizes, OfMatricesAddUpToTheWhole) {
  const TempFolder folder;
  MakeTinyModel(folder / "float", {.layers = 12, .hidden = 256, .heads = 8, .tied = false});
  const ModelFolder source = OpenModel(folder / "float");
  const Grid narrow{.bits = 2, .group_size = 64}, wide{.bits = 8, .group_size = 32};
  for (const Exporter* exporter : Sized()) {
    const auto sizes = exporter->sizes(source);
    ModelGrids grids = ModelGrids::Uniform(12, narrow);
    const auto base = static_cast<std::int64_t>(sizes->Whole(grids));
    std::int64_t more = 0;
    for (Index layer = 0; layer < 12; layer += 5) {
      for (const Site site : SitesOf(Unit::kGateUp)) {
        more += sizes->OfLinear(layer, site, wide) - sizes->OfLinear(layer, site, narrow);
      }
      grids.Set(layer, Unit::kGateUp, wide);
    }
    if (FindTarget(exporter->name).packs_ends) {
      more += sizes->OfEnd(End::kHead, wide) - sizes->OfEnd(End::kHead, std::nullopt);
      grids.ends.head = wide;
    }
    const auto whole = static_cast<std::int64_t>(sizes->Whole(grids));
    // Headers of folders list a packed head as three tensors.
    EXPECT_NEAR(static_cast<double>(whole - base), static_cast<double>(more),
                exporter->one_file ? 0 : 400)
        << exporter->name;
  }
}

TEST(ContainerSizes, RefuseWhatTheContainerDoesNotHold) {
  const TempFolder folder;
  MakeTinyModel(folder / "float", {.layers = 2});
  const ModelFolder source = OpenModel(folder / "float");
  for (const Exporter* exporter : Sized()) {
    const auto sizes = exporter->sizes(source);
    ModelGrids grids = ModelGrids::Uniform(2, {.bits = 4, .group_size = 64});
    grids.Set(1, Unit::kDown, {.bits = 4, .group_size = 16, .offset = Offset::kHalf});
    const Problem layer = ProblemOf([&] { (void)sizes->Whole(grids); });
    EXPECT_THAT(layer.where, HasSubstr("layer 1, down")) << exporter->name;
    grids = ModelGrids::Uniform(2, {.bits = 4, .group_size = 64});
    grids.ends.embedding = {.bits = 3, .group_size = 16};
    const Problem end = ProblemOf([&] { (void)sizes->Whole(grids); });
    EXPECT_THAT(end.where, HasSubstr("embedding")) << exporter->name;
  }
}

TEST(ContainerSizes, WhatAFileSaysOfItsOriginTakesTheRoomThatWasCounted) {
  const TempFolder folder;
  const Exporter& gguf = FindExporter("gguf");
  const ModelFolder model = RandomQuantizedModel(folder / "model", {}, MixedGrid);
  const auto write = [&](ExportSettings settings) {
    settings.counted = true;
    return Written(gguf, model, folder, settings);
  };
  const std::uint64_t bytes = gguf.sizes(model)->Whole(GridsIn(model));
  const std::string small = R"({"kind":"quantized model","layers":[1,2]})";
  EXPECT_EQ(write({.record = small}), bytes);
  EXPECT_EQ(ParseRecord(OpenModel(folder / "out").record, "record").dump(), small);
  // The longest is left out, whatever it is.
  const std::string long_layers =
      R"({"kind":"quantized model","layers":")" + std::string(20'000, 'x') + R"(","command":"c"})";
  EXPECT_EQ(write({.base_model = "someone/model", .license = "mit", .record = long_layers}), bytes);
  EXPECT_EQ(ParseRecord(OpenModel(folder / "out").record, "record").dump(),
            R"({"kind":"quantized model","command":"c"})");
  EXPECT_LT(Written(gguf, model, folder, {.record = small}), bytes) << "nothing is counted";
}

}  // namespace
}  // namespace lieq
