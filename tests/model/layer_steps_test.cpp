// The table of steps itself, and layers that are not alike against values by Hugging Face
// transformers.
#include "lieq/model/layer_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/io/json.h"
#include "lieq/model/decoder.h"
#include "lieq/model/forward.h"
#include "tests/support/error_of.h"
#include "tests/support/places.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

const ModelConfig kConfig{.architecture = "Qwen3ForCausalLM",
                          .layers = 4,
                          .hidden = 24,
                          .intermediate = 40,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 10,
                          .vocab = 270,
                          .max_positions = 64};

const std::array kShapes{LayerShape{}, LayerShape{.window = 3}, LayerShape{.rotates = false},
                         LayerShape{.window = 7, .rotates = false}};

/// What a step reads.
std::vector<LayerValue> Inputs(const LayerStep& step) {
  switch (step.kind) {
    case StepKind::kAttend:
      return {LayerValue::kQ, LayerValue::kK, LayerValue::kV};
    case StepKind::kActivate:
    case StepKind::kActivateGelu:
      return {LayerValue::kGate, LayerValue::kUp};
    case StepKind::kAdd:
    case StepKind::kMultiply:
    case StepKind::kGateBy:
    case StepKind::kSwishInto:
      return {step.from, step.to};
    case StepKind::kDelta:
      return {step.from, LayerValue::kNormed};
    default:
      return {step.from};
  }
}

/// Every way in which architectures order a layer.
std::vector<ModelConfig> EveryOrder() {
  std::vector<ModelConfig> all(9, kConfig);
  all[1].qk_norm = true;
  all[2].fused_qkv = all[2].fused_gate_up = true;
  all[3].gated_attention = all[3].qk_norm = true;
  all[4].norms = NormPlace::kAfter;
  all[4].qk_norm = all[4].whole_qk_norm = true;
  all[5].norms = NormPlace::kBoth;
  all[5].activation = Activation::kGeluTanh;
  all[6].residual_multiplier = 0.5;
  all[7].temperature = 0.1;
  all[8].conv_kernel = 4;
  all[8].delta = {.key_heads = 2, .value_heads = 4, .key_dim = 6, .value_dim = 8};
  return all;
}

TEST(StepsOf, ReadsOnlyWhatWasWrittenAndHasEveryLinearOnceInOrder) {
  for (const ModelConfig& config : EveryOrder()) {
    std::vector<LayerShape> shapes(kShapes.begin(), kShapes.end());
    if (config.conv_kernel > 0) {
      shapes = {{.mixer = Mixer::kGatedDelta}, {.mixer = Mixer::kShortConv}};
    }
    for (const LayerShape& shape : shapes) {
      const std::vector<LayerStep> steps = StepsOf(config, shape);

      std::set<LayerValue> written{LayerValue::kStream};
      std::vector<Site> sites;
      std::vector<Unit> units;
      for (const LayerStep& step : steps) {
        for (const LayerValue value : Inputs(step)) EXPECT_TRUE(written.contains(value));
        if (step.kind != StepKind::kProducts) {
          EXPECT_TRUE(step.linears.empty());
          written.insert(step.to);
          continue;
        }
        units.push_back(step.unit);
        EXPECT_EQ(&steps[ProductsOf(steps, step.unit)], &step);
        for (const StepLinear& linear : step.linears) {
          sites.push_back(linear.site);
          written.insert(linear.to);
          EXPECT_EQ(UnitOf(linear.site), step.unit);
          EXPECT_EQ(config.In(shape, linear.site), Width(config, shape, step.from));
          EXPECT_EQ(config.Out(shape, linear.site), Width(config, shape, linear.to));
        }
      }
      EXPECT_TRUE(std::ranges::equal(sites, config.Sites(shape)));
      EXPECT_TRUE(std::ranges::equal(units, kAllUnits));
      EXPECT_EQ(steps.back().to, LayerValue::kStream);
    }
  }
}

TEST(StepsOf, SendsTokensToExpertsWhereTheLayerHasSome) {
  ModelConfig config = kConfig;
  config.experts = {.count = 5, .used = 2, .inner = 12};
  config.qkv_clip = 3;
  const LayerShape shape{.experts = true};
  const std::vector<LayerStep> steps = StepsOf(config, shape);

  const auto route = std::ranges::find(steps, StepKind::kRoute, &LayerStep::kind);
  ASSERT_NE(route, steps.end());
  EXPECT_EQ(route->from, LayerValue::kNormed);
  EXPECT_EQ(route->to, LayerValue::kRoutes);
  EXPECT_EQ(std::ranges::count(steps, StepKind::kClip, &LayerStep::kind), 3);
  for (const LayerStep& step : steps) {
    if (step.kind != StepKind::kProducts) continue;
    EXPECT_EQ(step.experts, step.unit == Unit::kGateUp || step.unit == Unit::kDown);
    EXPECT_TRUE(!step.experts || &step > &*route);
  }
  EXPECT_EQ(Width(config, shape, LayerValue::kGate), 24);
  EXPECT_EQ(Width(config, shape, LayerValue::kRoutes), 4);
  EXPECT_EQ(config.Out(shape, Site::kDown), 5 * config.hidden);
  for (const LayerStep& step : StepsOf(config, {})) EXPECT_FALSE(step.experts);
}

TEST(StepsOf, HasWhatTheLayerHas) {
  for (const bool qk_norm : {false, true}) {
    for (const LayerShape& shape : kShapes) {
      ModelConfig config = kConfig;
      config.qk_norm = qk_norm;
      const std::vector<LayerStep> steps = StepsOf(config, shape);
      const auto count = [&](StepKind kind) {
        return std::ranges::count(steps, kind, &LayerStep::kind);
      };

      EXPECT_EQ(count(StepKind::kHeadNorm), qk_norm ? 2 : 0);
      EXPECT_EQ(count(StepKind::kRotate), shape.rotates ? 2 : 0);
      EXPECT_EQ(std::ranges::find(steps, StepKind::kAttend, &LayerStep::kind)->window,
                shape.window);
    }
  }
}

TEST(LayerShape, IsThatOfEveryLayerWhereNothingIsSaid) {
  ModelConfig config = kConfig;
  EXPECT_EQ(config.Shape(3).window, 0);
  EXPECT_TRUE(config.Shape(3).rotates);

  config.shapes = {kShapes.begin(), kShapes.end()};

  EXPECT_EQ(config.Shape(3).window, 7);
  EXPECT_FALSE(config.Shape(3).rotates);
  CheckConfig(config, "config.json");
}

TEST(LayerShape, IsRefusedWhereOnlySomeLayersHaveOneOrAWindowIsNegative) {
  ModelConfig config = kConfig;
  const auto refusal = [&] {
    return ErrorOf([&] {
      CheckConfig(config, "config.json");
      return 0;
    });
  };
  config.shapes.resize(3);
  EXPECT_NE(refusal().find("none, or all 4"), std::string::npos) << refusal();

  config.shapes = {{}, {}, {.window = -1}, {}};
  EXPECT_NE(refusal().find("sliding_window"), std::string::npos) << refusal();
}

/// A model whose layers differ, by transformers, as Llama's class and shapes of layers.
struct Case {
  std::string name;
  std::vector<LayerShape> shapes;
};

const LayerShape kWithoutRotation{.rotates = false};

class LayersThatDiffer : public testing::TestWithParam<Case> {};

TEST_P(LayersThatDiffer, GiveTheLossesAndTokensOfTransformers) {
  const fs::path source = fs::path(LIEQ_SOURCE_DIR) / "../shared/models-arch" / GetParam().name;
  if (!fs::exists(source / "golden.json")) {
    GTEST_SKIP() << source << " is not there: values of transformers are checked with it alone";
  }
  const TempFolder folder;
  Json config = ReadJson(source / "config.json");
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "llama";
  for (const char* key : {"sliding_window", "layer_types", "no_rope_layers",
                          "no_rope_layer_interval", "use_sliding_window"}) {
    config.erase(key);
  }
  WriteFileAtomically(folder / "config.json", config.dump());
  for (const char* file : {"model.safetensors", "tokenizer.json"}) {
    fs::create_symlink(fs::canonical(source / file), folder / file);
  }
  ModelFolder model = OpenModel(folder.path());
  model.weights.config.shapes = GetParam().shapes;
  CheckConfig(model.weights.config, "config.json");
  const Json golden = ReadJson(source / "golden.json");
  const auto length = golden["window"].get<Index>(), windows = golden["windows"].get<Index>();
  Matrix<TokenId> tokens(windows, length);
  for (Index w = 0; w < windows; ++w) {
    std::ranges::copy(golden["ids"][Size(w)].get<std::vector<TokenId>>(),
                      tokens.view().Row(w).begin());
  }
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);

  Forward forward(model.weights, *device, length);
  Hidden hidden = forward.Embed(tokens.view());
  for (Index layer = 0; layer < model.weights.config.layers; ++layer) forward.Layer(layer, hidden);
  Matrix<double> nll(windows, length - 1);
  forward.Nll(hidden, tokens.view(), nll.view());
  for (Index w = 0; w < windows; ++w) {
    double sum = 0;
    for (const double value : nll.view().Row(w)) sum += value;
    EXPECT_NEAR(sum / static_cast<double>(length - 1),
                golden["nll_per_window"][Size(w)].get<double>(), 2e-5);
  }

  const auto prompt = golden["greedy"]["prompt"].get<std::vector<TokenId>>();
  const auto greedy = golden["greedy"]["tokens"].get<std::vector<TokenId>>();
  const auto past = static_cast<Index>(prompt.size());
  Decoder decoder(model.weights, *device, 1, past + static_cast<Index>(greedy.size()));
  Matrix<float> logits(1, model.weights.config.vocab);
  decoder.Append({prompt.data(), 1, past}, logits.view());
  for (const TokenId expected : greedy) {
    const auto row = logits.view().Row(0);
    ASSERT_EQ(std::ranges::max_element(row) - row.begin(), expected)
        << "after " << decoder.length() << " tokens";
    decoder.Append({&expected, 1, 1}, logits.view());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, LayersThatDiffer,
    testing::Values(Case{"smollm3", {{}, {}, {}, kWithoutRotation, {}}},
                    Case{"mistral", std::vector<LayerShape>(4, {.window = 40})},
                    Case{"ministral", {{.window = 32}, {}, {.window = 32}, {}}}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lieq
