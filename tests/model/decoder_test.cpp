#include "lieq/model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr double kTolerance = 1e-4;  // of the issue that asked for this check

Matrix<TokenId> RandomTokens(Index sequences, Index length, Index vocab) {
  Rng rng(7);
  Matrix<TokenId> tokens(sequences, length);
  for (Index i = 0; i < tokens.size(); ++i) {
    tokens.data()[i] = static_cast<TokenId>(rng.Below(static_cast<std::uint32_t>(vocab)));
  }
  return tokens;
}

/// [sequences * length, vocab]: after every token, by the pass over whole windows.
Matrix<float> AllLogits(const Weights& weights, Device& device, View<const TokenId, 2> tokens) {
  Forward forward(weights, device, tokens.cols());
  Hidden hidden = forward.Embed(tokens);
  for (Index layer = 0; layer < weights.config.layers; ++layer) forward.Layer(layer, hidden);
  const DeviceMatrix logits = device.Alloc(tokens.size(), weights.config.vocab);
  forward.Logits(hidden.x.view(), logits.view());
  Matrix<float> host(tokens.size(), weights.config.vocab);
  device.Download(logits.view(), host.view());
  return host;
}

/// Appends the tokens in pieces of these lengths and compares what comes after each piece.
void ExpectSameLogits(const Weights& weights, Device& device, const Matrix<TokenId>& tokens,
                      const std::vector<Index>& pieces, double tolerance = kTolerance) {
  const Index sequences = tokens.rows(), length = tokens.cols(), vocab = weights.config.vocab;
  const Matrix<float> expected = AllLogits(weights, device, tokens.view());
  Decoder decoder(weights, device, sequences, length + 3);
  Matrix<float> logits(sequences, vocab);
  for (const Index piece : pieces) {
    decoder.Append(tokens.view().Cols(decoder.length(), piece), logits.view());
    for (Index s = 0; s < sequences; ++s) {
      for (Index t = 0; t < vocab; ++t) {
        ASSERT_NEAR(logits(s, t), expected(s * length + decoder.length() - 1, t), tolerance)
            << "sequence " << s << ", after token " << decoder.length() << ", logit " << t;
      }
    }
  }
  ASSERT_EQ(decoder.length(), length);
}

class DecoderOf : public testing::TestWithParam<TinyModelOptions> {
 protected:
  DecoderOf() {
    MakeTinyModel(folder / "model", GetParam());
    model = OpenModel(folder / "model");
  }
  TempFolder folder;
  ModelFolder model;
  ThreadPool pool{2};
  std::unique_ptr<Device> device = MakeCpuDevice(pool);
};

TEST_P(DecoderOf, GivesTheLogitsOfTheWholePassAtEveryPosition) {
  const Matrix<TokenId> tokens = RandomTokens(1, 40, GetParam().vocab);
  ExpectSameLogits(model.weights, *device, tokens, std::vector<Index>(40, 1));
}

TEST_P(DecoderOf, TakesPromptsInPiecesAndSequencesSideBySide) {
  const Matrix<TokenId> tokens = RandomTokens(3, 150, GetParam().vocab);
  ExpectSameLogits(model.weights, *device, tokens, {1, 7, 133, 1, 1, 2, 5});
}

TEST_P(DecoderOf, HoldsKeysAndValuesInFewerBits) {
  const Matrix<TokenId> tokens = RandomTokens(2, 40, GetParam().vocab);
  // At most 0.022 was seen with 8 bits, which move a number by up to a 254th of a head's largest;
  // half precision moves it by a 16th of that.
  for (const auto& [type, tolerance] :
       {std::pair(CacheType::kF16, 3e-3), std::pair(CacheType::kInt8, 0.05)}) {
    const auto narrow = MakeCpuDevice(pool, {.cache = type});
    EXPECT_NE(narrow->description().find(std::string(Name(type)) + " cache"), std::string::npos);
    ExpectSameLogits(model.weights, *narrow, tokens, {30, 1, 1, 8}, tolerance);
  }
}

TEST_P(DecoderOf, RunsSequencesOfDifferentLengthsInOneBatch) {
  constexpr Index kSequences = 4, kLength = 60;
  const Index vocab = GetParam().vocab;
  const Matrix<TokenId> tokens = RandomTokens(kSequences, kLength, vocab);
  const Matrix<float> expected = AllLogits(model.weights, *device, tokens.view());
  Decoder decoder(model.weights, *device, kSequences, kLength);
  Rng rng(3);
  for (int step = 0; step < 25; ++step) {
    std::vector<SequenceTokens> parts;
    for (Index s = kSequences - 1; s >= 0; --s) {
      if (rng.Below(5) == 0) decoder.Rewind(decoder.length(s) / 2, s);
      const Index left = kLength - decoder.length(s);
      if (left == 0 || rng.Below(3) == 0) continue;
      const Index count = 1 + static_cast<Index>(rng.Below(static_cast<std::uint32_t>(
                                  std::min<Index>(left, rng.Below(4) == 0 ? 30 : 2))));
      parts.push_back({s, tokens.view().Row(s).subspan(Size(decoder.length(s)), Size(count))});
    }
    if (parts.empty()) continue;
    Matrix<float> logits(static_cast<Index>(parts.size()), vocab);

    decoder.Append(parts, logits.view());

    for (std::size_t p = 0; p < parts.size(); ++p) {
      const Index s = parts[p].sequence, row = s * kLength + decoder.length(s) - 1;
      for (Index t = 0; t < vocab; ++t) {
        ASSERT_NEAR(logits(static_cast<Index>(p), t), expected(row, t), kTolerance)
            << "step " << step << ", sequence " << s << ", logit " << t;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderOf,
                         testing::Values(TinyModelOptions{.architecture = "LlamaForCausalLM"},
                                         TinyModelOptions{.architecture = "LlamaForCausalLM",
                                                          .heads = 3,
                                                          .kv_heads = 1,
                                                          .head_dim = 10,
                                                          .tied = false,
                                                          .llama3_rope = true},
                                         TinyModelOptions{.architecture = "Qwen2ForCausalLM",
                                                          .kv_heads = 4},
                                         TinyModelOptions{.architecture = "GraniteForCausalLM"},
                                         TinyModelOptions{.architecture = "Qwen3ForCausalLM"}),
                         [](const auto& test) {
                           return test.param.architecture +
                                  (test.param.llama3_rope ? "WithLlama3Rope" : "");
                         });

TEST(Decoder, GivesTheLogitsOfLayersOfSeveralShapes) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.layers = 4});
  ModelFolder model = OpenModel(folder / "model");
  model.weights.config.shapes = {{.window = 5}, {.rotates = false}, {}, {.window = 9}};
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Matrix<TokenId> tokens = RandomTokens(2, 40, model.weights.config.vocab);

  ExpectSameLogits(model.weights, *device, tokens, {1, 12, 20, 1, 1, 5});
}

TEST(Decoder, RunsPromptsLongerThanABatch) {
  const TempFolder folder;
  MakeTinyModel(
      folder / "model",
      {.layers = 1, .hidden = 32, .intermediate = 32, .heads = 2, .kv_heads = 1, .head_dim = 8});
  const ModelFolder model = OpenModel(folder / "model");
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Index length = kBatchRows / 24 + 5;
  const Matrix<TokenId> tokens = RandomTokens(24, length, model.weights.config.vocab);

  ExpectSameLogits(model.weights, *device, tokens, {length});
}

TEST(Decoder, SplitsAPromptThatStandsBesideOthersInTheBatch) {
  const TempFolder folder;
  MakeTinyModel(
      folder / "model",
      {.layers = 1, .hidden = 32, .intermediate = 32, .heads = 2, .kv_heads = 1, .head_dim = 8});
  const ModelFolder model = OpenModel(folder / "model");
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Index length = kBatchRows + 40, vocab = model.weights.config.vocab;
  const Matrix<TokenId> tokens = RandomTokens(2, length, vocab);
  const Matrix<float> expected = AllLogits(model.weights, *device, tokens.view());
  Decoder decoder(model.weights, *device, 2, length);
  Matrix<float> logits(2, vocab);

  const SequenceTokens parts[] = {{1, tokens.view().Row(1).first(30)}, {0, tokens.view().Row(0)}};
  decoder.Append(parts, logits.view());

  for (Index t = 0; t < vocab; ++t) {
    ASSERT_NEAR(logits(0, t), expected(length + 29, t), kTolerance);
    ASSERT_NEAR(logits(1, t), expected(length - 1, t), kTolerance);
  }
}

TEST(Decoder, LetsGoOfCodesThatTheDeviceHasLaidOut) {
  const TempFolder folder;
  MakeTinyModel(folder / "model");
  ModelFolder model = OpenModel(folder / "model");
  std::vector<std::weak_ptr<const QMatrix>> codes;
  for (LayerWeights& layer : model.weights.layers) {
    for (Linear& linear : layer.linears) {
      const auto matrix = std::make_shared<const QMatrix>(
          RandomQMatrix(Rows(linear.weight), Cols(linear.weight), {.bits = 2, .group_size = 0}, 1));
      linear.weight = matrix;
      codes.push_back(matrix);
    }
  }
  const auto held = [&] {
    return std::ranges::count_if(codes, [](const auto& code) { return !code.expired(); });
  };
  ThreadPool pool(2);
  const auto packed = MakeCpuDevice(pool, {.kernels = std::string(kPackedKernels)});
  const auto plain = MakeCpuDevice(pool);
  const auto all = static_cast<std::ptrdiff_t>(codes.size());
  {
    const Decoder reads_them(Weights(model.weights), *plain, 1, 4);
    EXPECT_EQ(held(), all);
  }
  const Decoder laid_out(std::move(model.weights), *packed, 1, 4);
  EXPECT_EQ(held(), 0);
}

TEST(Decoder, IsTheSameForAnyThreads) {
  const TempFolder folder;
  MakeTinyModel(folder / "model");
  const ModelFolder model = OpenModel(folder / "model");
  const Matrix<TokenId> tokens = RandomTokens(2, 30, model.weights.config.vocab);
  std::vector<float> first;
  for (const int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    const auto device = MakeCpuDevice(pool);
    Decoder decoder(model.weights, *device, 2, 30);
    Matrix<float> logits(2, model.weights.config.vocab);
    decoder.Append(tokens.view().Cols(0, 29), logits.view());
    decoder.Append(tokens.view().Cols(29, 1), logits.view());
    const std::vector<float> values(logits.data(), logits.data() + logits.size());
    if (threads == 1) first = values;
    EXPECT_EQ(values, first) << threads << " threads";
  }
}

TEST(Decoder, RefusesTokensOutsideTheVocabulary) {
  const TempFolder folder;
  MakeTinyModel(folder / "model");
  const ModelFolder model = OpenModel(folder / "model");
  ThreadPool pool(1);
  const auto device = MakeCpuDevice(pool);
  Decoder decoder(model.weights, *device, 1, 4);
  Matrix<float> logits(1, model.weights.config.vocab);
  Matrix<TokenId> tokens(1, 1);
  tokens(0, 0) = static_cast<TokenId>(model.weights.config.vocab);

  EXPECT_NE(ErrorOf([&] {
              decoder.Append(tokens.view(), logits.view());
              return 0;
            }).find("outside the model's vocabulary"),
            std::string::npos);
}

}  // namespace
}  // namespace lieq
