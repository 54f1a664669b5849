#include "lieq/transform/transforms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/transform/model_transformer.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr Index kWindows = 8, kLength = 24;

std::vector<TokenId> Tokens() {
  std::vector<TokenId> tokens;
  for (Index i = 0; i < kWindows * kLength; ++i) {
    tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
  }
  return tokens;
}

/// A model with all that it takes to be whole, transformed in memory.
struct Transformed {
  Weights weights;
  FloatEnds ends;
  std::vector<FloatLayer> layers;
  std::vector<std::vector<LayerChoices>> choices;
};

std::array<Grid, kSites> GridsOf(const Grid& grid) {
  std::array<Grid, kSites> grids;
  grids.fill(grid);
  return grids;
}

class TransformsTest : public testing::Test {
 protected:
  void Apply(const Weights& weights, const std::vector<std::string>& names, Transformed& result,
             const Grid& grid = {.bits = 2, .group_size = 0}, Clip clip = Clip::kSearch) {
    ModelTransformer transformer(weights, *device, ResolveTransforms(names),
                                 {.seed = 3, .norm_type = DType::kF32, .clip = clip}, windows(),
                                 test.context);
    result.weights = weights;
    result.weights.layers.clear();
    if (transformer.ends()) {
      result.ends = {transformer.ends()->embedding.Clone(), transformer.ends()->head.Clone(),
                     transformer.ends()->final_norm};
      result.weights.config.tied = false;
      result.weights.embedding = std::as_const(result.ends.embedding).view();
      result.weights.head = std::as_const(result.ends.head).view();
      result.weights.final_norm = result.ends.final_norm;
    }
    for (Index layer = 0; layer < weights.config.layers; ++layer) {
      TransformedLayer next = transformer.Next(GridsOf(grid));
      result.layers.push_back(std::move(next.layer));
      result.choices.push_back(std::move(next.choices));
    }
    for (const FloatLayer& layer : result.layers) result.weights.layers.push_back(layer.Views());
  }

  /// [windows, vocab] after all layers.
  Matrix<float> Logits(const Weights& weights) {
    Forward forward(weights, *device, kLength);
    Hidden hidden = forward.Embed(windows());
    for (Index layer = 0; layer < weights.config.layers; ++layer) forward.Layer(layer, hidden);
    Matrix<float> logits(kWindows, weights.config.vocab);
    forward.LastLogits(hidden, logits.view());
    return logits;
  }

  View<const TokenId, 2> windows() const { return {tokens.data(), kWindows, kLength}; }

  TempFolder folder;
  std::vector<TokenId> tokens = Tokens();
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
};

double LargestDifference(const Matrix<float>& a, const Matrix<float>& b) {
  double most = 0, size = 0;
  for (Index i = 0; i < a.size(); ++i) {
    most = std::max(most,
                    std::fabs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
    size = std::max(size, std::fabs(static_cast<double>(a.data()[i])));
  }
  return most / size;
}

std::vector<TinyModelOptions> Models() {
  const TinyModelOptions base{.layers = 2, .dtype = DType::kF32};
  std::vector<TinyModelOptions> models;
  for (const char* architecture : {"Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"}) {
    for (const bool tied : {true, false}) {
      TinyModelOptions options = base;
      options.architecture = architecture;
      options.tied = tied;
      models.push_back(options);
    }
  }
  TinyModelOptions biased = base;
  biased.architecture = "LlamaForCausalLM";
  biased.attention_bias = biased.mlp_bias = true;
  models.push_back(biased);
  TinyModelOptions odd = base;  // 36 * 2; heads of 20; five query heads to a KV head
  odd.hidden = 72;
  odd.intermediate = 60;
  odd.heads = 5;
  odd.kv_heads = 1;
  odd.head_dim = 20;
  models.push_back(odd);
  odd.hidden = 15;  // no Hadamard factor at all
  models.push_back(odd);
  TinyModelOptions wide = base;
  wide.heads = 4;
  wide.kv_heads = 4;
  wide.head_dim = 128;
  models.push_back(wide);
  return models;
}

TEST_F(TransformsTest, LeaveTheModelsFunctionAsItWas) {
  std::vector<std::vector<std::string>> lists;
  std::vector<std::string> all;
  for (const Transform& row : Transforms()) {
    lists.push_back({std::string(row.name)});
    all.emplace_back(row.name);
  }
  lists.push_back(all);
  int number = 0;
  for (const TinyModelOptions& options : Models()) {
    const std::string name = std::to_string(number++);
    MakeTinyModel(folder / name, options);
    const ModelFolder model = OpenModel(folder / name);
    const Matrix<float> expected = Logits(model.weights);
    for (const auto& list : lists) {
      // A group that divides every row, and several of them in one.
      const Index group = options.hidden % 32 == 0 && options.intermediate % 32 == 0 ? 32 : 0;
      Transformed transformed;
      Apply(model.weights, list, transformed, {.bits = 2, .group_size = group}, Clip::kNone);

      const Matrix<float> logits = Logits(transformed.weights);

      EXPECT_LT(LargestDifference(expected, logits), 1e-4) << name << " " << list.front();
    }
  }
}

/// The first layer of a model with channels of very different sizes: of v, up and both norms.
struct Uneven {
  explicit Uneven(const Weights& given, std::uint64_t seed) : weights(given) {
    Rng rng(seed);
    for (const Site site : kAllSites) {
      layer.At(site) = Matrix<float>(given.config.Out(site), given.config.In(site));
      WidenRows(given.layers[0].At(site).weight, 0, layer.At(site).view());
      layer.Bias(site) = given.layers[0].At(site).bias;
      if (site != Site::kV && site != Site::kUp) continue;
      for (Index r = 0; r < layer.At(site).rows(); ++r) {
        // Some channels dead, some beyond all others.
        const auto draw = rng.Below(20);
        const auto size = draw == 0   ? 0.0F
                          : draw == 1 ? 1e4F
                                      : static_cast<float>(std::exp(rng.Normal()));
        for (float& value : layer.At(site).view().Row(r)) value *= size;
      }
    }
    layer.q_norm = given.layers[0].q_norm;
    layer.k_norm = given.layers[0].k_norm;
    layer.attention_norm = given.layers[0].attention_norm;
    layer.mlp_norm = given.layers[0].mlp_norm;
    for (float& value : layer.attention_norm) value *= static_cast<float>(std::exp(rng.Normal()));
    layer.attention_norm[3] = 0;
    weights.layers[0] = layer.Views();
  }
  FloatLayer layer;
  Weights weights;
};

TEST_F(TransformsTest, ChangeTheWeights) {
  // A fold that did nothing would leave the function too.
  MakeTinyModel(folder / "model", {.layers = 1, .dtype = DType::kF32});
  const ModelFolder model = OpenModel(folder / "model");
  const Uneven uneven(model.weights, 1);
  for (const Transform& row : Transforms()) {
    Transformed transformed;
    Apply(uneven.weights, {std::string(row.name)}, transformed, {.bits = 2, .group_size = 32});
    bool changed = false;
    for (std::size_t site = 0; site < kSites; ++site) {
      changed |=
          LargestDifference(uneven.layer.weights[site], transformed.layers[0].weights[site]) > 1e-3;
    }
    EXPECT_TRUE(changed) << row.name;
    EXPECT_LT(LargestDifference(Logits(uneven.weights), Logits(transformed.weights)), 1e-4)
        << row.name;
  }
}

TEST_F(TransformsTest, FuseLeavesNormsOfOnes) {
  MakeTinyModel(folder / "model", {.layers = 2, .dtype = DType::kF32});
  const ModelFolder model = OpenModel(folder / "model");
  Transformed transformed;
  Apply(model.weights, {"fuse"}, transformed);
  const std::vector<float> ones(128, 1.0f);
  EXPECT_EQ(transformed.ends.final_norm, ones);
  for (const FloatLayer& layer : transformed.layers) {
    EXPECT_EQ(layer.attention_norm, ones);
    EXPECT_EQ(layer.mlp_norm, ones);
  }
}

TEST_F(TransformsTest, ChoicesNeverRaiseTheErrorTheyAreMadeBy) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const std::string name = std::to_string(seed);
    MakeTinyModel(folder / name, {.layers = 1, .dtype = DType::kF32, .seed = seed});
    const ModelFolder model = OpenModel(folder / name);
    const Uneven uneven(model.weights, seed);
    for (const int bits : {2, 4}) {
      Transformed transformed;
      Apply(uneven.weights, {"permute", "awq"}, transformed, {.bits = bits, .group_size = 32});
      ASSERT_EQ(transformed.choices[0].size(), 2u);
      for (const LayerChoices& row : transformed.choices[0]) {
        int changed = 0;
        for (const UnitChoice& choice : row) {
          EXPECT_LE(choice.after, choice.before);
          changed += choice.after < choice.before ? 1 : 0;
        }
        EXPECT_GT(changed, 0);
      }
    }
  }
}

TEST_F(TransformsTest, AnOrderThatOnlyRoundingTellsApartIsNotTaken) {
  MakeTinyModel(folder / "model", {.layers = 2, .head_dim = 32, .dtype = DType::kF32});
  const ModelFolder model = OpenModel(folder / "model");
  Transformed transformed;

  Apply(model.weights, {"permute"}, transformed, {.bits = 3, .group_size = 64});

  for (const auto& layer : transformed.choices) {
    const UnitChoice& o = layer[0][static_cast<std::size_t>(Unit::kO)];
    EXPECT_EQ(o.choice, "none") << "orders move channels inside a head, and two heads are a group";
  }
}

TEST_F(TransformsTest, GiveTheSameBytesForAnyNumberOfThreads) {
  MakeTinyModel(folder / "model", {.layers = 2});
  const ModelFolder model = OpenModel(folder / "model");
  std::vector<std::vector<float>> values;
  for (const int threads : {1, 3}) {
    TestContext other(threads);
    const std::unique_ptr<Device> its = MakeCpuDevice(other.pool);
    const std::vector<std::string> all{"rotate", "rotate-values", "permute", "awq"};
    ModelTransformer transformer(model.weights, *its, ResolveTransforms(all),
                                 {.seed = 1, .norm_type = DType::kBF16}, windows(), other.context);
    values.emplace_back();
    for (Index layer = 0; layer < 2; ++layer) {
      const TransformedLayer next = transformer.Next(GridsOf({.bits = 2, .group_size = 32}));
      for (const Matrix<float>& w : next.layer.weights) {
        values.back().insert(values.back().end(), w.data(), w.data() + w.size());
      }
    }
  }
  EXPECT_EQ(values[0], values[1]);
}

TEST_F(TransformsTest, ScalesFoldExactlyIntoNormsThatAreStoredInSixteenBits) {
  MakeTinyModel(folder / "model", {.layers = 1});
  const ModelFolder model = OpenModel(folder / "model");
  const std::vector<std::string> list{"awq"};
  ModelTransformer transformer(model.weights, *device, ResolveTransforms(list),
                               {.norm_type = DType::kBF16}, windows(), test.context);
  const TransformedLayer next = transformer.Next(GridsOf({.bits = 2, .group_size = 32}));
  const auto& before = model.weights.layers[0];
  Matrix<float> q(model.weights.config.Out(Site::kQ), model.weights.config.hidden);
  WidenRows(before.At(Site::kQ).weight, 0, q.view());
  const Matrix<float>& scaled = next.layer.weights[static_cast<std::size_t>(Site::kQ)];
  for (Index c = 0; c < q.cols(); ++c) {
    const float norm = next.layer.attention_norm[Size(c)];
    EXPECT_EQ(norm, ToFloat(ToBf16(norm)));
    const double expected =
        static_cast<double>(q(0, c)) * static_cast<double>(before.attention_norm[Size(c)]);
    EXPECT_NEAR(static_cast<double>(scaled(0, c)) * static_cast<double>(norm), expected,
                1e-6 * std::fabs(expected));
  }
}

std::vector<std::string_view> Names(const std::vector<std::string>& names) {
  std::vector<std::string_view> resolved;
  for (const Transform* row : ResolveTransforms(names)) resolved.push_back(row->name);
  return resolved;
}

TEST(ResolveTransforms, OrdersByTheTableAndAddsWhatIsNeeded) {
  EXPECT_THAT(Names({}), ElementsAre());
  EXPECT_THAT(Names({"awq", "rotate", "awq"}), ElementsAre("fuse", "rotate", "awq"));
  EXPECT_THAT(Names({"permute", "rotate-values"}), ElementsAre("rotate-values", "permute"));
  const std::vector<std::string> wrong{"turn"};
  EXPECT_THAT(ErrorOf([&] { return ResolveTransforms(wrong); }), HasSubstr("rotate-values"));
}

TEST(ResolveTransforms, RowsThatNeedCalibrationStandLast) {
  // ModelTransformer measures once, before the first of them.
  bool needed = false;
  for (const Transform& row : Transforms()) {
    EXPECT_TRUE(row.needs_calibration || !needed) << row.name;
    needed = row.needs_calibration;
  }
}

}  // namespace
}  // namespace lieq
