// What goes through a model, on a GPU against the processor.
#include <array>
#include <string>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/diagnose/damage.h"
#include "lieq/diagnose/importance.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/evaluate/token_trees.h"
#include "lieq/model/decoder.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/layer_quantizer.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 16, kLength = 40;

class CudaDrivers : public BothDevices {
 protected:
  void SetUp() override {
    BothDevices::SetUp();
    if (IsSkipped()) return;
    const TinyModelOptions options{.architecture = "Qwen2ForCausalLM",
                                   .layers = 2,
                                   .hidden = 64,
                                   .intermediate = 128,
                                   .heads = 2,
                                   .kv_heads = 1};
    MakeTinyModel(folder / "model", options);
    models[0] = OpenModel(folder / "model");
    models[1] = RandomQuantizedModel(folder / "coarse", options, {.bits = 2, .group_size = 32});
    models[0].weights.config.shapes = {{}, {.window = 5, .rotates = false}};  // layers not alike
    for (Index i = 0; i < kWindows * kLength; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
    grids.fill({.bits = 2, .group_size = 32});
  }
  [[nodiscard]] View<const TokenId, 2> windows(Index count = kWindows) const {
    return {tokens.data(), count, kLength};
  }

  TempFolder folder;
  std::array<ModelFolder, 2> models;  // of floats, and of codes
  std::vector<TokenId> tokens;
  std::array<Grid, kSites> grids;
};

TEST_F(CudaDrivers, PerplexityIsTheProcessors) {
  for (const ModelFolder& model : models) {
    const PerplexityResult a = MeasurePerplexity(model.weights, *cpu, windows(), test.context);
    const PerplexityResult b = MeasurePerplexity(model.weights, *gpu, windows(), test.context);
    for (std::size_t w = 0; w < a.window_nll.size(); ++w) {
      EXPECT_NEAR(a.window_nll[w], b.window_nll[w], 1e-5 * a.window_nll[w]) << w;
    }
    const auto rounded = MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16});
    const PerplexityResult c = MeasurePerplexity(model.weights, *rounded, windows(), test.context);
    EXPECT_NEAR(a.mean_nll, c.mean_nll, 5e-3 * a.mean_nll);
  }
}

TEST_F(CudaDrivers, PerplexityIsTheSameBytesEachTime) {
  std::vector<double> first;
  for (int round = 0; round < 2; ++round) {
    const auto device = MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16});
    const PerplexityResult found =
        MeasurePerplexity(models[0].weights, *device, windows(), test.context);
    if (round > 0) {
      EXPECT_EQ(found.window_nll, first);
    }
    first = found.window_nll;
  }
}

TEST_F(CudaDrivers, TokensOneByOneHaveTheLogitsOfTheProcessors) {
  for (const ModelFolder& model : models) {
    std::array<Matrix<float>, 2> logits;
    for (const std::size_t i : {0u, 1u}) {
      Decoder decoder(model.weights, i == 0 ? *cpu : *gpu, 2, kLength);
      logits[i] = Matrix<float>(2, model.weights.config.vocab);
      for (const Index count : {20, 1, 1, 3, 9}) {
        decoder.Append(windows(2).Cols(decoder.length(), count), logits[i].view());
      }
    }
    EXPECT_LE(LargestDifference(logits[0], logits[1]), 2e-4);
  }
}

TEST_F(CudaDrivers, SequencesThatShareABeginningAreScoredAsByTheProcessor) {
  std::vector<ScoredSequence> sequences;
  for (const Index length : {9, 5, 12}) {
    sequences.push_back({{tokens.begin(), tokens.begin() + length}, 3});
    sequences.push_back(sequences.back());
    sequences.back().ids.back() = 7;
  }
  const auto score = [&](Device& device) {
    return ScoreSequences(models[0].weights, device, sequences, "scoring", test.context)
        .log_likelihoods;
  };
  const auto a = score(*cpu), b = score(*gpu);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4) << i;
}

TEST_F(CudaDrivers, DamageAndImportanceAreTheProcessors) {
  std::array<Damage, 2> damages;
  std::array<Importance, 2> importances;
  for (const std::size_t i : {0u, 1u}) {
    Device& device = i == 0 ? *cpu : *gpu;
    DamageMeter meter(models[0].weights, device, windows(3), test.context, 3 * 8 * 288);
    damages[i] = meter.Model(models[1].weights);
    importances[i] = MeasureImportance(models[0].weights, device, windows(2), test.context);
  }
  for (std::size_t w = 0; w < damages[0].window_kl.size(); ++w) {
    EXPECT_NEAR(damages[0].window_kl[w], damages[1].window_kl[w], 1e-4) << w;
  }
  for (std::size_t layer = 0; layer < 2; ++layer) {
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
      const auto &a = importances[0].squares[layer][unit], &b = importances[1].squares[layer][unit];
      ASSERT_EQ(a.size(), b.size());
      for (std::size_t c = 0; c < a.size(); ++c) EXPECT_NEAR(a[c], b[c], 1e-4 * a[c]);
    }
  }
}

TEST_F(CudaDrivers, LayersAreQuantizedAsWellAsByTheProcessor) {
  for (const char* method : {"gptq", "best"}) {
    std::array<std::vector<QuantizedLayer>, 2> layers;
    for (const std::size_t i : {0u, 1u}) {
      LayerQuantizer quantizer(models[0].weights, i == 0 ? *cpu : *gpu, {.method = method},
                               windows(), test.context);
      for (Index layer = 0; layer < 2; ++layer) layers[i].push_back(quantizer.Quantize(grids));
    }
    for (std::size_t layer = 0; layer < 2; ++layer) {
      double errors[2] = {0, 0};
      for (std::size_t site = 0; site < kSites; ++site) {
        for (const std::size_t i : {0u, 1u}) errors[i] += layers[i][layer].reports[site].error;
      }
      // A code that falls to the other side moves all behind it: errors agree, not codes.
      EXPECT_NEAR(errors[0], errors[1], 0.05 * errors[0]) << method << ", layer " << layer;
    }
  }
}

TEST_F(CudaDrivers, CandidatesAreRoundedAsWellAsByTheProcessor) {
  const std::array<Grid, 2> candidates{
      Grid{.bits = 2, .group_size = 32},
      Grid{.bits = 4, .group_size = 64, .offset = Offset::kInteger}};
  for (const char* method : {"gptq", "best"}) {
    std::array<std::vector<QuantizedLayer>, 2> found;
    for (const std::size_t i : {0u, 1u}) {
      CandidateQuantizer quantizer(models[0].weights, i == 0 ? *cpu : *gpu, {.method = method},
                                   windows(), test.context);
      found[i] = quantizer.Quantize(candidates);
    }
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      double errors[2] = {0, 0};
      for (std::size_t site = 0; site < kSites; ++site) {
        for (const std::size_t i : {0u, 1u}) errors[i] += found[i][c].reports[site].error;
      }
      EXPECT_NEAR(errors[0], errors[1], 0.05 * errors[0]) << method << ", candidate " << c;
    }
  }
}

}  // namespace
}  // namespace lieq
