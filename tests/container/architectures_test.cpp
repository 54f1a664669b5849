// Every architecture in every container, on random models by transformers in ../shared/models-arch:
// with codes in place of their linears they survive, or are refused with a reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "lieq/base/error.h"
#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "lieq/container/model_folder.h"
#include "tests/support/places.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Case {
  std::string name;     // of the folder
  std::string no_gguf;  // what a refusal says; empty: it is written
};

class Architectures : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const fs::path source = fs::path(LIEQ_SOURCE_DIR) / "../shared/models-arch" / GetParam().name;
    if (!fs::exists(source)) GTEST_SKIP() << source << " is not there";
    model = OpenModel(source);
  }

  void Quantize() {
    model.quantized = true;
    const ModelConfig& config = model.weights.config;
    std::uint64_t seed = 0;
    for (Index layer = 0; layer < config.layers; ++layer) {
      for (const Site site : config.Sites(layer)) {
        const bool narrow = layer > 0 && UnitOf(site) == Unit::kGateUp;
        const Grid grid{.bits = narrow ? 2 : 4, .group_size = narrow ? 64 : 32};
        model.weights.layers[Size(layer)].At(site).weight = std::make_shared<const QMatrix>(
            RandomQMatrix(config.Out(layer, site), config.In(layer, site), grid, ++seed));
      }
    }
  }

  /// Why it is not written; empty where it was, and is the same.
  std::string Refusal(std::string_view container) {
    const Exporter& exporter = FindExporter(container);
    const TempFolder folder;
    const fs::path out = folder / "out";
    if (!exporter.one_file) fs::create_directory(out);
    try {
      exporter.write(model, out, {});
    } catch (const Error& error) {
      return error.problem().what;
    }
    const Comparison comparison = CompareModels(model, OpenModel(out));
    for (const Difference& each : comparison.differences) {
      ADD_FAILURE() << container << ": " << each.kind << " of " << each.tensor << ": "
                    << each.expected << ", " << each.found;
    }
    EXPECT_GT(comparison.linears, 0);
    return "";
  }

  ModelFolder model;
};

TEST_P(Architectures, SurviveInCompressedTensors) {
  Quantize();
  EXPECT_EQ(Refusal("compressed-tensors"), "");
}

TEST_P(Architectures, SurviveInGgufOrAreRefusedByName) {
  // Heads of the delta rule are narrower than a group here.
  const bool torn = model.weights.config.Mixes(Mixer::kGatedDelta);
  if (!torn) Quantize();
  const std::string refusal = Refusal("gguf");
  EXPECT_EQ(refusal.empty(), GetParam().no_gguf.empty()) << refusal;
  EXPECT_THAT(refusal, HasSubstr(GetParam().no_gguf));
}

TEST_P(Architectures, GroupsThatReachOverHeadsWhichMoveAreRefused) {
  if (!model.weights.config.Mixes(Mixer::kGatedDelta)) GTEST_SKIP();
  Quantize();
  EXPECT_THAT(Refusal("gguf"), HasSubstr("reach over heads"));
}

TEST_P(Architectures, OfGemmaSurviveInGgufWithTheScaleThatItHas) {
  if (model.weights.config.logit_cap == 0 && GetParam().name != "gemma3") GTEST_SKIP();
  Quantize();
  model.weights.config.attention_multiplier =
      1 / std::sqrt(static_cast<double>(model.weights.config.head_dim));
  EXPECT_EQ(Refusal("gguf"), "");
}

TEST_P(Architectures, OfExpertsSurviveStackedInMlxAndAreRefusedForGptq) {
  if (!model.weights.config.HasExperts()) GTEST_SKIP();
  Quantize();
  EXPECT_EQ(Refusal("mlx"), "");
  EXPECT_THAT(Refusal("gptq"), HasSubstr("no rules for modules"));
}

TEST_P(Architectures, OfExpertsInEveryLayerSurviveInGguf) {
  if (GetParam().name != "qwen3_moe") GTEST_SKIP();
  model.weights.layers.erase(model.weights.layers.begin());  // the one without
  model.weights.config.shapes.erase(model.weights.config.shapes.begin());
  --model.weights.config.layers;
  EXPECT_EQ(Refusal("gguf"), "") << "floats";
  Quantize();
  EXPECT_EQ(Refusal("gguf"), "");
  model.weights.config.experts.normalised = false;
  EXPECT_THAT(Refusal("gguf"), HasSubstr("add up to 1"));
}

INSTANTIATE_TEST_SUITE_P(
    Shared, Architectures,
    testing::Values(Case{"mistral", "no sliding windows"}, Case{"mistral-full", ""},
                    Case{"ministral", "no sliding windows"}, Case{"smollm3", ""},
                    Case{"granite", ""}, Case{"qwen2-yarn", ""}, Case{"llama-linear", ""},
                    Case{"llama-dynamic", "goes by the length"}, Case{"phi3", ""},
                    Case{"phi3-short", "no sliding windows"}, Case{"qwen3_5", ""},
                    Case{"gemma3", "scale of scores"}, Case{"gemma2", "scale of scores"},
                    Case{"olmo2", ""}, Case{"olmo3", ""}, Case{"exaone4", "no sliding windows"},
                    Case{"lfm2", ""}, Case{"ministral3", ""},
                    Case{"qwen3_moe", "experts in every layer"},
                    Case{"olmoe", "as many heads of keys"}),
    [](const auto& test) {
      std::string name = test.param.name;
      std::ranges::replace(name, '-', '_');
      return name;
    });

}  // namespace
}  // namespace lieq
