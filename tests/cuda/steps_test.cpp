// Steps that a GPU records (Device::Repeat): tokens one by one, beside the processor's.
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/model/decoder.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/random_weights.h"

namespace lieq {
namespace {

ModelConfig Config(Index head_dim, Index heads, Index kv_heads, bool qk_norm) {
  ModelConfig config;
  config.layers = 3;
  config.hidden = 256;
  config.intermediate = 384;
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.vocab = 500;
  config.qk_norm = qk_norm;
  config.qkv_bias = !qk_norm;
  config.tied = qk_norm;
  return config;
}

std::vector<TokenId> Tokens(Index count, Index seed) {
  std::vector<TokenId> tokens;
  for (Index i = 0; i < count; ++i)
    tokens.push_back(static_cast<TokenId>((i * i + seed * i) % 499));
  return tokens;
}

class CudaSteps : public BothDevices {
 protected:
  /// Packed where the GPU runs that.
  std::unique_ptr<Device> Make(bool packed, CacheType cache = CacheType::kFloat) {
    DeviceOptions options{.cache = cache};
    if (packed) options.usual_kernels = kPackedKernels;
    return MakeCudaDevice(test.pool, options);
  }
  /// Largest difference over the largest size.
  static double Difference(View<const float, 2> a, View<const float, 2> b) {
    double most = 0;
    for (Index i = 0; i < a.rows(); ++i) {
      for (Index c = 0; c < a.cols(); ++c) {
        most = std::max(most, std::fabs(static_cast<double>(a(i, c))));
      }
    }
    return LargestDifference(a, b) / most;
  }

  /// Two sequences of different lengths, then tokens of both, of one, and of both again.
  void Compare(const ModelConfig& config, Device& device, Device& reference, Index prompt,
               double bound) {
    const Weights weights =
        RandomWeights(config, {.bits = 4, .group_size = 64}, {.bits = 8, .group_size = 32}, false);
    const Index capacity = prompt + 20;
    Decoder a(weights, reference, 3, capacity), b(weights, device, 3, capacity);
    const std::vector<TokenId> first = Tokens(prompt, 3), second = Tokens(7, 5),
                               more = Tokens(12, 11);
    Matrix<float> of_a(2, config.vocab), of_b(2, config.vocab);
    const auto append = [&](std::span<const SequenceTokens> parts) {
      const auto count = static_cast<Index>(parts.size());
      a.Append(parts, of_a.view().Rows(0, count));
      b.Append(parts, of_b.view().Rows(0, count));
      EXPECT_LT(Difference(of_a.view().Rows(0, count), of_b.view().Rows(0, count)), bound)
          << "behind " << b.length(0) << ", " << b.length(2);
    };
    append(std::vector<SequenceTokens>{{0, first}, {2, second}});
    for (Index i = 0; i < 8; ++i) {
      const std::span<const TokenId> token(more.data() + i, 1);
      std::vector<SequenceTokens> parts;
      if (i != 4) parts.push_back({2, token});
      if (i != 2) parts.push_back({0, token});
      append(parts);
    }
    a.Rewind(5, 0);
    b.Rewind(5, 0);
    append(std::vector<SequenceTokens>{{0, std::span<const TokenId>(more).first(1)}});
  }
};

TEST_F(CudaSteps, PlainOnesHaveTheLogitsOfTheProcessor) {
  for (const Index head_dim : {32, 64, 128}) {
    Compare(Config(head_dim, 4, 2, head_dim != 64), *Make(false), *cpu, 40, 2e-5);
  }
}

// Activations are rounded to 11 bits at each product; both ends of that are below 1 % here.
TEST_F(CudaSteps, PackedOnesAreNearTheProcessors) {
  for (const Index head_dim : {32, 64, 128}) {
    for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {4, 2}, {6, 2}, {8, 2}, {8, 1}}) {
      for (const bool norm : {true, false}) {
        Compare(Config(head_dim, heads, kv_heads, norm), *Make(true), *cpu, 40, 5e-3);
      }
    }
  }
}

TEST_F(CudaSteps, LongOnesAndWindowsToo) {
  ModelConfig config = Config(64, 4, 2, true);
  config.shapes = {{}, {.window = 100}, {.window = 5, .rotates = false}};
  Compare(config, *Make(true), *cpu, 2300, 5e-3);
  Compare(config, *Make(false), *cpu, 300, 2e-5);
}

TEST_F(CudaSteps, HalfCachesAreNearToo) {
  const auto reference = MakeCpuDevice(test.pool, {.cache = CacheType::kF16});
  Compare(Config(128, 8, 2, true), *Make(true, CacheType::kF16), *reference, 70, 5e-3);
  Compare(Config(64, 4, 2, false), *Make(false, CacheType::kF16), *reference, 70, 2e-3);
}

TEST_F(CudaSteps, WhatIsRecordedGivesTheSameBytesEachTime) {
  const ModelConfig config = Config(128, 4, 2, true);
  const Weights weights =
      RandomWeights(config, {.bits = 2, .group_size = 64}, {.bits = 4, .group_size = 64}, false);
  const std::vector<TokenId> tokens = Tokens(30, 3);
  Matrix<float> first(1, config.vocab), logits(1, config.vocab);
  for (int round = 0; round < 3; ++round) {
    const auto device = Make(true);
    Decoder decoder(weights, *device, 1, 40);
    for (const TokenId token : tokens) {
      decoder.Append(View<const TokenId, 2>(&token, 1, 1), logits.view());
    }
    if (round > 0) {
      EXPECT_TRUE(SameBytes(first, logits)) << round;
    }
    std::copy_n(logits.data(), logits.size(), first.data());
  }
}

TEST_F(CudaSteps, ManySequencesAreOneStep) {
  const ModelConfig config = Config(64, 4, 2, true);
  const Weights weights =
      RandomWeights(config, {.bits = 4, .group_size = 64}, {.bits = 8, .group_size = 32}, false);
  for (const Index sequences : {1, 5, 16, 17}) {
    const auto device = Make(true);
    Decoder a(weights, *cpu, sequences, 30), b(weights, *device, sequences, 30);
    Matrix<float> of_a(sequences, config.vocab), of_b(sequences, config.vocab);
    for (Index i = 0; i < 12; ++i) {
      const std::vector<TokenId> tokens = Tokens(sequences, i + 2);
      const View<const TokenId, 2> view(tokens.data(), sequences, 1);
      a.Append(view, of_a.view());
      b.Append(view, of_b.view());
      EXPECT_LT(Difference(of_a.view(), of_b.view()), 5e-3) << sequences << ", token " << i;
    }
  }
}

TEST_F(CudaSteps, WideOnesOfManySequencesShareColumns) {
  // Norms and gates of columns that blocks share, not evenly.
  for (const Index hidden : {1152, 2304}) {
    ModelConfig config = Config(64, 4, 2, true);
    config.layers = 2;
    config.hidden = hidden;
    config.intermediate = hidden + 64;
    const Weights weights =
        RandomWeights(config, {.bits = 2, .group_size = 64}, {.bits = 4, .group_size = 64}, false);
    for (const Index sequences : {2, 7, 16}) {
      const auto device = Make(true);
      Decoder a(weights, *cpu, sequences, 8), b(weights, *device, sequences, 8);
      for (Index i = 0; i < 4; ++i) {
        const std::vector<TokenId> tokens = Tokens(sequences, i + 2);
        const View<const TokenId, 2> view(tokens.data(), sequences, 1);
        EXPECT_LT(Difference(a.Append(view), b.Append(view)), 5e-3)
            << hidden << " columns, " << sequences << " sequences, token " << i;
      }
    }
  }
}

TEST_F(CudaSteps, ManySequencesBehindManyTokens) {
  // The more sequences, the fewer blocks share the keys of one: eight, four, two.
  for (const auto& [head_dim, heads, cache] : {std::tuple{64, 8, CacheType::kFloat},
                                               {128, 16, CacheType::kF16},
                                               {128, 32, CacheType::kF16},
                                               {64, 64, CacheType::kF16},
                                               {128, 64, CacheType::kFloat}}) {
    ModelConfig config = Config(head_dim, heads, 8, true);
    config.layers = 1;
    config.shapes = {{.window = head_dim == 64 ? 290 : 0}};
    const Weights weights =
        RandomWeights(config, {.bits = 4, .group_size = 64}, {.bits = 8, .group_size = 32}, false);
    const auto reference = MakeCpuDevice(test.pool, {.cache = cache});
    for (const Index sequences : {4, 8, 16}) {
      const auto device = Make(true, cache);
      const Index prompt = sequences == 8 ? 530 : 260;
      Decoder a(weights, *reference, sequences, prompt + 4),
          b(weights, *device, sequences, prompt + 4);
      const std::vector<TokenId> first = Tokens(sequences * prompt, 3);
      const View<const TokenId, 2> view(first.data(), sequences, prompt);
      EXPECT_LT(Difference(a.Append(view), b.Append(view)), 5e-3);
      for (Index i = 0; i < 3; ++i) {
        const std::vector<TokenId> tokens = Tokens(sequences, i + 2);
        const View<const TokenId, 2> one(tokens.data(), sequences, 1);
        EXPECT_LT(Difference(a.Append(one), b.Append(one)), 5e-3)
            << head_dim << " columns, " << heads << " heads, " << sequences << " sequences";
      }
    }
  }
}

TEST_F(CudaSteps, MemoryThatMovesIsSeen) {
  // A long prompt between two tokens takes larger buffers: what was recorded is made again.
  const ModelConfig config = Config(128, 4, 2, true);
  const Weights weights =
      RandomWeights(config, {.bits = 4, .group_size = 64}, {.bits = 8, .group_size = 32}, false);
  const auto device = Make(true);
  Decoder a(weights, *cpu, 1, 1200), b(weights, *device, 1, 1200);
  Matrix<float> of_a(1, config.vocab), of_b(1, config.vocab);
  for (const Index count : {1, 1, 3, 1, 40, 1, 700, 1, 1}) {
    const std::vector<TokenId> tokens = Tokens(count, 5);
    const View<const TokenId, 2> view(tokens.data(), 1, count);
    a.Append(view, of_a.view());
    b.Append(view, of_b.view());
    EXPECT_LT(Difference(of_a.view(), of_b.view()), 5e-3) << "behind " << b.length();
  }
}

}  // namespace
}  // namespace lieq
