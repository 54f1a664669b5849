// A small random model in memory, whose weights a test may change before it runs them.
#pragma once

#include <vector>

#include "lieq/base/rng.h"
#include "lieq/model/weights.h"

namespace lieq {

struct MemoryModel {
  std::vector<Matrix<float>> matrices;  // what the views of `weights` point into
  Weights weights;

  MemoryModel(const ModelConfig& config, std::uint64_t seed) {
    Rng rng(seed);
    weights.config = config;
    weights.embedding = weights.head = Add(config.vocab, config.hidden, 0.2, rng);
    weights.final_norm.assign(Size(config.hidden), 1.0f);
    for (Index layer = 0; layer < config.layers; ++layer) {
      LayerWeights& row = weights.layers.emplace_back();
      for (const Site site : kAllSites) {
        row.At(site).weight = Add(config.Out(site), config.In(site), 0.1, rng);
      }
      row.attention_norm.assign(Size(config.hidden), 1.0f);
      row.mlp_norm.assign(Size(config.hidden), 1.0f);
      if (config.qk_norm) {
        row.q_norm.assign(Size(config.head_dim), 1.0f);
        row.k_norm.assign(Size(config.head_dim), 1.0f);
      }
    }
  }

  [[nodiscard]] Matrix<float>& At(Index layer, Site site) {
    return matrices[1 + Size(layer) * kSites + static_cast<std::size_t>(site)];
  }

  static ModelConfig Config(Index layers = 3) {
    return {.architecture = "Qwen3ForCausalLM",
            .layers = layers,
            .hidden = 32,
            .intermediate = 56,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 12,
            .vocab = 50,
            .max_positions = 64,
            .tied = true,
            .qk_norm = true};
  }

 private:
  View<const float, 2> Add(Index rows, Index cols, double scale, Rng& rng) {
    Matrix<float>& matrix = matrices.emplace_back(rows, cols);
    for (Index i = 0; i < matrix.size(); ++i) {
      matrix.data()[i] = static_cast<float>(scale * rng.Normal());
    }
    return matrix.view();
  }
};

/// Token ids [windows, length] below vocab.
inline std::vector<TokenId> RandomTokens(Index windows, Index length, Index vocab,
                                         std::uint64_t seed) {
  Rng rng(seed);
  std::vector<TokenId> tokens(Size(windows * length));
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(rng.Below(static_cast<std::uint32_t>(vocab)));
  }
  return tokens;
}

}  // namespace lieq
