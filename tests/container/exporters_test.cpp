#include "lieq/container/exporters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/container/targets.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

/// Where an export of that row goes, ready to be written.
fs::path OutputOf(const Exporter& exporter, const TempFolder& folder) {
  fs::path out = folder / "out";
  fs::remove_all(out);
  if (!exporter.one_file) fs::create_directory(out);
  return out;
}

std::string Differences(const Comparison& comparison) {
  std::string text;
  for (const Difference& each : comparison.differences) {
    text += each.kind + " of " + each.tensor + ": " + each.expected + ", " + each.found + "\n";
  }
  return text;
}

void ExpectSurvives(const Exporter& exporter, const ModelFolder& source, const TempFolder& folder,
                    const std::string& label) {
  const fs::path out = OutputOf(exporter, folder);
  exporter.write(source, out, {});
  const Comparison comparison = CompareModels(source, OpenModel(out));
  EXPECT_EQ(Differences(comparison), "") << exporter.name << ": " << label;
  EXPECT_EQ(comparison.linears, source.weights.config.layers * kSites);
}

std::vector<Grid> EveryGrid() {
  std::vector<Grid> grids;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const Index group : {Index{32}, Index{128}, Index{256}, Index{0}}) {
        grids.push_back({.bits = bits, .group_size = group, .offset = offset});
      }
    }
  }
  for (const KQuant& row : KQuants()) grids.push_back(row.grid);
  return grids;
}

TEST(Exporters, EveryOneIsATargetToo) {
  for (const Exporter& exporter : Exporters()) {
    EXPECT_EQ(FindTarget(exporter.name).name, exporter.name);
    EXPECT_EQ(&FindExporter(exporter.name), &exporter);
  }
  EXPECT_THAT(ErrorOf([] { (void)FindExporter("onnx"); }), HasSubstr("compressed-tensors"));
}

TEST(Exporters, GridsThatAContainerHoldsSurviveAndOthersAreRefused) {
  for (const Grid& grid : EveryGrid()) {
    const TempFolder folder;
    const ModelFolder source =
        RandomQuantizedModel(folder / "model", {.layers = 1, .hidden = 256, .heads = 8}, grid);
    const std::string label = std::to_string(grid.bits) + " bits, " +
                              std::string(Name(grid.offset)) + ", group " +
                              std::to_string(grid.group_size);
    for (const Exporter& exporter : Exporters()) {
      if (FindTarget(exporter.name).holds(grid, 256)) {
        ExpectSurvives(exporter, source, folder, label);
        continue;
      }
      const fs::path out = OutputOf(exporter, folder);
      const Problem problem = ProblemOf([&] { exporter.write(source, out, {}); });
      EXPECT_THAT(problem.what, HasSubstr("does not hold")) << exporter.name << ": " << label;
      EXPECT_TRUE(!fs::exists(out) || fs::is_empty(out)) << exporter.name << ": " << label;
    }
  }
}

TEST(Exporters, EveryArchitectureSurvivesWithMixedWidths) {
  const std::vector<TinyModelOptions> models{
      {.architecture = "LlamaForCausalLM", .tied = false, .llama3_rope = true},
      {.architecture = "LlamaForCausalLM", .attention_bias = true, .mlp_bias = true},
      {.architecture = "Qwen2ForCausalLM", .tied = false, .dtype = DType::kF16},
      {.architecture = "SmolLM3ForCausalLM", .layers = 5},
      {.architecture = "Qwen3ForCausalLM", .layers = 12},
      {.architecture = "Qwen3ForCausalLM", .tied = false, .dtype = DType::kF32}};
  for (const Exporter& exporter : Exporters()) {
    for (const TinyModelOptions& options : models) {
      const TempFolder folder;
      const ModelFolder source = RandomQuantizedModel(folder / "model", options, MixedGrid);
      ExpectSurvives(exporter, source, folder, options.architecture);
    }
  }
}

TEST(Exporters, AFloatModelIsRefusedByThoseThatHoldCodesAlone) {
  const TempFolder folder;
  MakeTinyModel(folder / "model");
  const ModelFolder source = OpenModel(folder / "model");
  for (const Exporter& exporter : Exporters()) {
    const fs::path out = OutputOf(exporter, folder);
    if (exporter.takes_float) {
      ExpectSurvives(exporter, source, folder, "float");
    } else {
      EXPECT_THAT(ErrorOf([&] { exporter.write(source, out, {}); }),
                  AllOf(HasSubstr("not quantized"), HasSubstr(std::string(exporter.name))));
    }
  }
}

TEST(Exporters, SayHowToServeWhatTheyWrote) {
  const TempFolder folder;
  const ModelFolder source = RandomQuantizedModel(folder / "model", {}, MixedGrid);
  for (const Exporter& exporter : Exporters()) {
    EXPECT_THAT(exporter.serve(source, "some/where"), HasSubstr("some/where")) << exporter.name;
  }
}

TEST(Exporters, TellWhichContainersHoldWhatOneDoesNot) {
  const TempFolder folder;
  const ModelFolder source =
      RandomQuantizedModel(folder / "model", {}, {.group_size = 64, .offset = Offset::kHalf});
  const Exporter& exporter = FindExporter("compressed-tensors");
  const fs::path out = OutputOf(exporter, folder);

  const Problem problem = ProblemOf([&] { exporter.write(source, out, {}); });

  EXPECT_THAT(problem.where, HasSubstr("layer 0, q"));
  EXPECT_THAT(problem.found, HasSubstr("half"));
  EXPECT_THAT(problem.hint, HasSubstr("mlx"));
}

}  // namespace
}  // namespace lieq
