#include "lieq/container/engines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/container/targets.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const ModelConfig kConfig{.architecture = "Qwen3ForCausalLM",
                          .layers = 2,
                          .hidden = 768,
                          .intermediate = 1536,
                          .heads = 12,
                          .kv_heads = 4,
                          .head_dim = 64,
                          .vocab = 1000,
                          .tied = true};

ModelGrids Everywhere(const Grid& grid) {
  return ModelGrids::Uniform(2, grid);
}

std::vector<std::string> Containers(const std::vector<Fit>& fits) {
  std::vector<std::string> names;
  for (const Fit& fit : fits) names.emplace_back(fit.container);
  return names;
}

TEST(Engines, EachReadsAContainerThatThereIs) {
  for (const Engine& engine : Engines()) {
    EXPECT_EQ(FindTarget(engine.container).name, engine.container);
    EXPECT_TRUE(RunsIn(engine, Everywhere({.bits = 4, .group_size = 64}), kConfig)) << engine.name;
  }
}

TEST(Engines, TheGridThatAllShareFitsEverywhere) {
  const std::vector<Fit> fits = FitsOf(Everywhere({.bits = 2, .group_size = 64}), kConfig);

  EXPECT_EQ(FitsText(fits),
            "compressed-tensors (vLLM, transformers), gptq (GPTQModel), gguf (llama.cpp), mlx "
            "(mlx-lm)");
  EXPECT_EQ(ToJson(fits)["gguf"], (Record{"llama.cpp"}));
}

TEST(Engines, AGroupSizeThatOneDoesNotKnowIsSaid) {
  const ModelGrids grids = Everywhere({.bits = 4, .group_size = 48});

  EXPECT_THAT(Containers(FitsOf(grids, kConfig)), ElementsAre("compressed-tensors", "gptq"));
  EXPECT_EQ(FitsText(FitsOf(grids, kConfig)),
            "compressed-tensors (transformers), gptq (no engine known)");
  EXPECT_THAT(NotesOfEngines("compressed-tensors", grids, kConfig),
              ElementsAre(HasSubstr("vLLM does not run this model")));
  EXPECT_THAT(NotesOfEngines("gptq", grids, kConfig), SizeIs(2));
  for (const Index known : {32, 64, 128, 0}) {
    EXPECT_THAT(
        NotesOfEngines("compressed-tensors", Everywhere({.bits = 4, .group_size = known}), kConfig),
        IsEmpty())
        << known;
  }
}

TEST(Engines, OneLinearIsEnough) {
  ModelGrids grids = Everywhere({.bits = 4, .group_size = 64});
  grids.layers[1][static_cast<std::size_t>(Site::kDown)].offset = Offset::kHalf;

  EXPECT_THAT(FitsOf(grids, kConfig), IsEmpty());
  EXPECT_THAT(FitsText({}), HasSubstr("quantize --for"));
}

TEST(Engines, EndsCountWhereAContainerOrAnEngineHasNoPlaceForThem) {
  const ModelGrids grids = Everywhere({.bits = 4, .group_size = 64});
  const Grid byte{.bits = 8, .group_size = 64}, nibble{.bits = 4, .group_size = 64};
  ModelConfig untied = kConfig;
  untied.tied = false;

  EXPECT_EQ(
      FitsText(FitsOf({.layers = grids.layers, .ends = {.embedding = byte, .head = {}}}, kConfig)),
      "compressed-tensors (transformers), gguf (llama.cpp), mlx (mlx-lm)");
  EXPECT_EQ(FitsText(FitsOf({.layers = grids.layers, .ends = {.embedding = nibble, .head = {}}},
                            kConfig)),
            "compressed-tensors (no engine known), gguf (llama.cpp), mlx (mlx-lm)");
  EXPECT_EQ(FitsText(FitsOf({.layers = grids.layers, .ends = {.embedding = nibble, .head = nibble}},
                            untied)),
            "compressed-tensors (vLLM), gguf (llama.cpp), mlx (mlx-lm)");
  EXPECT_EQ(
      FitsText(FitsOf({.layers = grids.layers, .ends = {.embedding = {}, .head = byte}}, untied)),
      "compressed-tensors (vLLM, transformers), gguf (llama.cpp), mlx (mlx-lm)");
}

TEST(Engines, LlamaCppIsNotNamedForModelsThatNoGgufIsWrittenOf) {
  const ModelGrids grids = Everywhere({.bits = 4, .group_size = 64});
  const auto gguf = [&](const ModelConfig& config) {
    return FitsText(FitsOf(grids, config)).find("gguf") != std::string::npos;
  };
  ModelConfig config = kConfig;
  EXPECT_TRUE(gguf(config));
  config.shapes.assign(Size(config.layers), {.window = 64});
  EXPECT_FALSE(gguf(config));
  config.shapes.clear();
  config.rope.scaling = RopeScaling::kDynamic;
  EXPECT_FALSE(gguf(config));
  config.rope.scaling = RopeScaling::kNone;
  config.architecture = "MistralForCausalLM";
  EXPECT_TRUE(gguf(config));
}

}  // namespace
}  // namespace lieq
