// Gradients of whole models against differences of the forward pass.
#include "lieq/model/backward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>

#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/forward.h"
#include "tests/support/device_matrices.h"
#include "tests/support/error_of.h"
#include "tests/support/random_matrix.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kLayers = 3, kWindows = 3, kLength = 11;

struct Case {
  std::string name, architecture;
  bool tied, biases;
  std::vector<LayerShape> shapes = {};
};

/// A tiny model whose queries and keys are large enough for attention to prefer some tokens, and
/// random tokens.
struct Bench {
  explicit Bench(const Case& wanted) {
    MakeTinyModel(temp.path() / "model", {.architecture = wanted.architecture,
                                          .layers = kLayers,
                                          .hidden = 40,
                                          .intermediate = 72,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 12,
                                          .vocab = 270,
                                          .tied = wanted.tied,
                                          .attention_bias = wanted.biases,
                                          .mlp_bias = wanted.biases,
                                          .dtype = DType::kF32});
    model = OpenModel(temp.path() / "model");
    model.weights.config.shapes = wanted.shapes;
    for (LayerWeights& layer : model.weights.layers) {
      for (const Site site : {Site::kQ, Site::kK}) {
        AnyMatrix& weight = layer.At(site).weight;
        Matrix<float>& large = enlarged.emplace_back(Rows(weight), Cols(weight));
        WidenRows(weight, 0, large.view());
        for (Index i = 0; i < large.size(); ++i) large.data()[i] *= 4;
        weight = std::as_const(large).view();
      }
    }
    Rng rng(7);
    ids.resize(Size(kWindows * kLength));
    for (TokenId& id : ids) id = static_cast<TokenId>(rng.Below(270));
  }

  [[nodiscard]] View<const TokenId, 2> tokens() const { return {ids.data(), kWindows, kLength}; }

  /// Summed NLL from the input of layer `begin` on.
  double LossFrom(const Weights& weights, Index begin, const Matrix<float>& x) {
    Forward forward(weights, *device, kLength);
    Hidden hidden{device->Alloc(x.rows(), x.cols()), kWindows, kLength};
    device->Upload(x.view(), hidden.x.view());
    for (Index layer = begin; layer < kLayers; ++layer) forward.Layer(layer, hidden);
    Matrix<double> nll(kWindows, kLength - 1);
    forward.Nll(hidden, tokens(), nll.view());
    return std::accumulate(nll.data(), nll.data() + nll.size(), 0.0);
  }

  TempFolder temp;
  ModelFolder model;
  std::vector<Matrix<float>> enlarged;
  std::vector<TokenId> ids;
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
};

/// All gradients of a model, on the host.
struct Gradients {
  std::vector<Matrix<float>> inputs;                          // of each layer: x
  std::vector<Matrix<float>> of_inputs;                       // dloss/dx
  std::vector<std::array<Matrix<float>, kSites>> of_outputs;  // dloss/dy
};

Gradients AllGradients(Bench& bench) {
  Gradients all;
  Device& device = *bench.device;
  const Weights& weights = bench.model.weights;
  Forward forward(weights, device, kLength);
  Backward backward(weights, device, kLength);
  Hidden hidden = forward.Embed(bench.tokens());
  const Index rows = hidden.x.rows(), width = hidden.x.cols();
  for (Index layer = 0; layer < kLayers; ++layer) {
    device.Download(hidden.x.view(), all.inputs.emplace_back(rows, width).view());
    forward.Layer(layer, hidden);
  }
  all.of_inputs.resize(kLayers);
  all.of_outputs.resize(kLayers);
  const DeviceMatrix gradient = device.Alloc(rows, width);
  backward.Head(hidden, bench.tokens(), gradient.view());
  for (Index layer = kLayers - 1; layer >= 0; --layer) {
    auto& outputs = all.of_outputs[Size(layer)];
    device.Upload(all.inputs[Size(layer)].view(), hidden.x.view());
    backward.Layer(layer, weights.layers[Size(layer)], hidden.x.view(), kLength, gradient.view(),
                   [&](Site site, Index first, DeviceView<const float> dy) {
                     Matrix<float>& host = outputs[static_cast<std::size_t>(site)];
                     if (host.size() == 0) host = Matrix<float>(rows, dy.cols());
                     device.Download(dy, host.view().Rows(first, dy.rows()));
                   });
    all.of_inputs[Size(layer)] = Matrix<float>(rows, width);
    device.Download(gradient.view(), all.of_inputs[Size(layer)].view());
  }
  return all;
}

/// Sums of gradient and direction, and of the squares of their products: what the sum would be,
/// were all signs random.
struct Along {
  double sum = 0, squares = 0;
  void Add(float gradient, float direction) {
    const double term = static_cast<double>(gradient) * static_cast<double>(direction);
    sum += term;
    squares += term * term;
  }
};

constexpr double kStep = 1e-3;

/// Of a slope: the loss is float logits of 30 positions, some 3e-6; h⁴ is the rest, next to the
/// gradient's size.
double Tolerance(double h, double squares) {
  return 3e-6 / h + 5e-4 * std::sqrt(squares);
}

/// Central differences of fourth order: errors of h⁴, so that h may be large beside the rounding.
template <class Function>
double Slope(double h, const Function& loss) {
  return (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
}

class BackwardTest : public testing::TestWithParam<Case> {};

TEST_P(BackwardTest, OutputsOfLinearsHaveTheSlopesOfTheLoss) {
  Bench bench(GetParam());
  const Gradients all = AllGradients(bench);

  for (Index layer = 0; layer < kLayers; ++layer) {
    for (const Site site : kAllSites) {
      const Matrix<float>& dy = all.of_outputs[Size(layer)][static_cast<std::size_t>(site)];
      ASSERT_EQ(dy.cols(), bench.model.weights.config.Out(site));
      for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        // A bias that is moved moves y of all tokens: the slope is the sum over tokens.
        const Matrix<float> direction = RandomMatrix(1, dy.cols(), seed);
        Along expected;
        for (Index t = 0; t < dy.rows(); ++t) {
          for (Index o = 0; o < dy.cols(); ++o) expected.Add(dy(t, o), direction(0, o));
        }
        // Steps are small beside y: the residual stream is some 0.05, y before a product some 0.3.
        const double h = site == Site::kO || site == Site::kDown ? kStep : 5 * kStep;
        const double found = Slope(h, [&](double step) {
          Weights moved = bench.model.weights;
          std::vector<float>& bias = moved.layers[Size(layer)].At(site).bias;
          bias.resize(Size(dy.cols()));
          for (Index o = 0; o < dy.cols(); ++o) {
            bias[Size(o)] += static_cast<float>(step) * direction(0, o);
          }
          return bench.LossFrom(moved, layer, all.inputs[Size(layer)]);
        });
        EXPECT_NEAR(found, expected.sum, Tolerance(h, expected.squares))
            << "layer " << layer << ", " << Name(site);
      }
    }
  }
}

TEST_P(BackwardTest, InputsOfLayersHaveTheSlopesOfTheLossTokenByToken) {
  Bench bench(GetParam());
  const Gradients all = AllGradients(bench);

  for (Index layer = 0; layer < kLayers; ++layer) {
    const Matrix<float>& dx = all.of_inputs[Size(layer)];
    for (Index token = 0; token < dx.rows(); ++token) {
      const Matrix<float> direction = RandomMatrix(1, dx.cols(), static_cast<std::uint64_t>(token));
      Along expected;
      for (Index c = 0; c < dx.cols(); ++c) expected.Add(dx(token, c), direction(0, c));
      const double found = Slope(kStep, [&](double step) {
        Matrix<float> moved = all.inputs[Size(layer)].Clone();
        for (Index c = 0; c < dx.cols(); ++c) {
          moved(token, c) += static_cast<float>(step) * direction(0, c);
        }
        return bench.LossFrom(bench.model.weights, layer, moved);
      });
      EXPECT_NEAR(found, expected.sum, Tolerance(kStep, expected.squares))
          << "layer " << layer << ", row " << token;
      if (token % kLength == kLength - 1) {
        EXPECT_EQ(expected.squares, 0) << "of the last token of a window";
      }
    }
  }
}

TEST_P(BackwardTest, SensitivityIsTheMeanSquareOverTheRowsOfAUnit) {
  Bench bench(GetParam());
  const Gradients all = AllGradients(bench);

  const OutputSensitivity found = MeasureOutputSensitivity(bench.model.weights, *bench.device,
                                                           bench.tokens(), bench.test.context);

  ASSERT_EQ(found.weights.size(), Size(kLayers));
  for (Index layer = 0; layer < kLayers; ++layer) {
    for (const Unit unit : kAllUnits) {
      const auto& weights = found.weights[Size(layer)][static_cast<std::size_t>(unit)];
      ASSERT_EQ(weights.size(), Size(kWindows * kLength));
      for (Index t = 0; t < kWindows * kLength; ++t) {
        double sum = 0, count = 0;
        for (const Site site : SitesOf(unit)) {
          const auto& dy = all.of_outputs[Size(layer)][static_cast<std::size_t>(site)];
          for (const float d : dy.view().Row(t)) {
            sum += static_cast<double>(d) * static_cast<double>(d);
            count += 1;
          }
        }
        ASSERT_NEAR(weights[Size(t)], sum / count, 1e-6 * sum / count);
        EXPECT_EQ(weights[Size(t)] == 0, t % kLength == kLength - 1);
      }
    }
  }
}

/// All that a step of training makes, on the host.
struct Passed : public WeightObserver {
  explicit Passed(Device& on) : device(on) {}
  void Add(DeviceView<const float> values) {
    device.Download(values, all.emplace_back(values.rows(), values.cols()).view());
  }
  WeightSums OfLinear(Site, DeviceView<const float> x, DeviceView<const float> dy) override {
    Add(x);
    Add(dy);
    return {};
  }
  void OfNorm(LayerVector, DeviceView<const float> x, DeviceView<const float> dy) override {
    Add(x);
    Add(dy);
  }
  void OfFinalNorm(DeviceView<const float>, DeviceView<const float>) override {}
  void OfHead(DeviceView<const float>, DeviceView<const float>) override {}

  Device& device;
  std::vector<Matrix<float>> all;
};

/// The passes forward and backward of `windows` windows, the layers from `first_saved` on with
/// their activations saved. twice: into memory that holds those of a pass already.
Passed PassedWith(Bench& bench, Index windows, Index first_saved, bool twice = false) {
  Device& device = *bench.device;
  const Weights& weights = bench.model.weights;
  Matrix<TokenId> tokens(windows, kLength);
  for (Index w = 0; w < windows; ++w) {
    for (Index t = 0; t < kLength; ++t) {
      tokens(w, t) = bench.ids[Size((w * 7 + t * (w + 1)) % (kWindows * kLength))];
    }
  }
  Forward forward(weights, device, kLength);
  Backward backward(weights, device, kLength);
  Hidden hidden = forward.Embed(std::as_const(tokens).view());
  const Index rows = hidden.x.rows(), width = hidden.x.cols();
  const DeviceMatrix streams = device.Alloc((kLayers + 1) * rows, width);
  const auto stream = [&](Index layer) { return streams.view().Rows(layer * rows, rows); };
  device.Copy(hidden.x.view(), stream(0));
  std::array<SavedActivations, kLayers> saved;
  for (int pass = 0; pass < (twice ? 2 : 1); ++pass) {
    for (Index layer = 0; layer < kLayers; ++layer) {
      backward.LayerForward(layer, weights.layers[Size(layer)], stream(layer), kLength,
                            stream(layer + 1), layer < first_saved ? nullptr : &saved[Size(layer)]);
    }
  }
  device.Copy(stream(kLayers), hidden.x.view());
  Passed passed(device);
  passed.Add(stream(kLayers));
  const DeviceMatrix gradient = device.Alloc(rows, width);
  backward.Head(hidden, std::as_const(tokens).view(), gradient.view());
  for (Index layer = kLayers - 1; layer >= 0; --layer) {
    const LayerWeights& of_layer = weights.layers[Size(layer)];
    if (layer < first_saved) {
      backward.Layer(layer, of_layer, stream(layer), kLength, gradient.view(), {}, &passed);
    } else {
      backward.LayerBack(layer, of_layer, stream(layer), kLength, saved[Size(layer)],
                         gradient.view(), {}, &passed);
    }
    passed.Add(gradient.view());
  }
  return passed;
}

/// One batch of a layer, and three of which the last is smaller.
constexpr std::array kManyWindows{kWindows, 2 * (kGradientRows / kLength) + 5};

TEST_P(BackwardTest, LayersThatWereSavedHaveTheBitsOfLayersThatRunAgain) {
  Bench bench(GetParam());
  for (const Index windows : kManyWindows) {
    const Passed expected = PassedWith(bench, windows, kLayers);

    for (const Index first_saved : {Index{0}, Index{1}, kLayers - 1}) {
      const Passed found = PassedWith(bench, windows, first_saved, /*twice=*/first_saved == 1);

      ASSERT_EQ(found.all.size(), expected.all.size());
      for (std::size_t i = 0; i < found.all.size(); ++i) {
        ASSERT_TRUE(SameBytes(found.all[i], expected.all[i]))
            << windows << " windows, saved from layer " << first_saved << " on, matrix " << i;
      }
    }
  }
}

TEST_P(BackwardTest, ItsPassForwardIsThatOfForward) {
  Bench bench(GetParam());
  Forward forward(bench.model.weights, *bench.device, kLength);
  Backward backward(bench.model.weights, *bench.device, kLength);
  Hidden hidden = forward.Embed(bench.tokens());
  const DeviceMatrix x = bench.device->Alloc(hidden.x.rows(), hidden.x.cols());
  const DeviceMatrix y = bench.device->Alloc(hidden.x.rows(), hidden.x.cols());
  for (Index layer = 0; layer < kLayers; ++layer) {
    bench.device->Copy(hidden.x.view(), x.view());
    const Matrix<float> before = Downloaded(*bench.device, x);

    backward.LayerForward(layer, bench.model.weights.layers[Size(layer)], x.view(), kLength,
                          y.view(), nullptr);

    forward.Layer(layer, hidden);
    EXPECT_TRUE(SameBytes(Downloaded(*bench.device, y), Downloaded(*bench.device, hidden.x)));
    EXPECT_TRUE(SameBytes(Downloaded(*bench.device, x), before)) << "what it read";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, BackwardTest,
    testing::Values(Case{"llama", "LlamaForCausalLM", true, false},
                    Case{"llama_untied_biases", "LlamaForCausalLM", false, true},
                    Case{"qwen2", "Qwen2ForCausalLM", true, false},
                    Case{"qwen2_untied", "Qwen2ForCausalLM", false, false},
                    Case{"qwen3", "Qwen3ForCausalLM", true, false},
                    Case{"qwen3_untied", "Qwen3ForCausalLM", false, false},
                    Case{"granite", "GraniteForCausalLM", true, false},
                    Case{"hunyuan", "HunYuanDenseV1ForCausalLM", true, false},
                    Case{"layers_of_three_shapes",
                         "Qwen3ForCausalLM",
                         true,
                         false,
                         {{.window = 4}, {.rotates = false}, {}}},
                    Case{"windows_without_rotation",
                         "LlamaForCausalLM",
                         true,
                         false,
                         {{.window = 1}, {.window = 5, .rotates = false}, {.window = kLength}}}),
    [](const auto& test) { return test.param.name; });

const Case kQwen3{"qwen3", "Qwen3ForCausalLM", true, false};

TEST(OutputSensitivity, IsTheSameForAnyThreads) {
  Bench bench(kQwen3);
  OutputSensitivity first;
  for (const int threads : {1, 2, 7}) {
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);

    OutputSensitivity found =
        MeasureOutputSensitivity(bench.model.weights, *device, bench.tokens(), test.context);

    if (threads == 1)
      first = std::move(found);
    else
      EXPECT_EQ(found.weights, first.weights) << threads << " threads";
  }
}

TEST(OutputSensitivity, OfAWindowDoesNotDependOnTheOthersNorOnBatches) {
  Bench bench(kQwen3);
  constexpr Index kMany = kGradientRows / kLength + 50;  // two batches inside a layer
  Rng rng(8);
  std::vector<TokenId> ids = bench.ids;
  while (static_cast<Index>(ids.size()) < kMany * kLength) {
    ids.push_back(static_cast<TokenId>(rng.Below(270)));
  }
  const View<const TokenId, 2> many{ids.data(), kMany, kLength};
  const auto measured = [&](View<const TokenId, 2> tokens, Index most_kept) {
    return MeasureOutputSensitivity(bench.model.weights, *bench.device, tokens, bench.test.context,
                                    most_kept);
  };
  const OutputSensitivity all = measured(many, Index{1} << 28);
  const Index window = kLayers * kLength * bench.model.weights.config.hidden;
  const auto expect_same = [&](const OutputSensitivity& found, Index first, Index count) {
    for (Index layer = 0; layer < kLayers; ++layer) {
      for (std::size_t unit = 0; unit < kUnits; ++unit) {
        for (Index t = 0; t < count; ++t) {
          // Tiles of products lie elsewhere: float rounding in another order.
          const float expected = all.weights[Size(layer)][unit][Size(first + t)];
          ASSERT_NEAR(found.weights[Size(layer)][unit][Size(t)], expected, 1e-4f * expected);
        }
      }
    }
  };

  expect_same(measured(many, 0), 0, many.size());             // window by window
  expect_same(measured(many, 100 * window), 0, many.size());  // the last batch is smaller
  expect_same(measured(many.Rows(1, 3), window), kLength, 3 * kLength);
  expect_same(measured(many.Rows(kMany - 2, 2), window), (kMany - 2) * kLength, 2 * kLength);
}

TEST(OutputSensitivity, SaysWhereTheModelIsNotFinite) {
  Bench bench(kQwen3);
  Matrix<float> embedding(270, 40);
  WidenRows(bench.model.weights.embedding, 0, embedding.view());
  embedding(269, 3) = std::numeric_limits<float>::quiet_NaN();
  bench.model.weights.embedding = std::as_const(embedding).view();
  std::ranges::replace(bench.ids, 269, 268);
  bench.ids[2 * kLength + 4] = 269;

  const std::string error = ErrorOf([&] {
    return MeasureOutputSensitivity(bench.model.weights, *bench.device, bench.tokens(),
                                    bench.test.context, 0)
        .weights.size();
  });

  EXPECT_NE(error.find("not finite"), std::string::npos) << error;
  EXPECT_NE(error.find("window 2, "), std::string::npos) << error;
}

TEST(OutputSensitivity, StopsWhenAsked) {
  Bench bench(kQwen3);
  std::stop_source stop;
  stop.request_stop();
  Context context{bench.test.pool, bench.test.log, bench.test.progress, stop.get_token()};

  EXPECT_THROW(
      (void)MeasureOutputSensitivity(bench.model.weights, *bench.device, bench.tokens(), context),
      Stopped);
}

}  // namespace
}  // namespace lieq
