// Models of random codes in memory, of any size: for tests and benchmarks of running them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "lieq/base/rng.h"
#include "lieq/model/weights.h"

namespace lieq {

/// Codes uniform, scales of either sign around 0.03 / levels. The same for the same arguments.
[[nodiscard]] inline std::shared_ptr<const QMatrix> RandomCodes(Index rows, Index cols,
                                                                const Grid& grid,
                                                                std::uint64_t seed) {
  Rng rng(seed);
  auto matrix = std::make_shared<QMatrix>(rows, cols, grid);
  if (cols * grid.bits % 32 == 0) {  // every bit of every word is one of a code
    std::uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
    for (std::uint32_t& word : matrix->words()) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      word = static_cast<std::uint32_t>(state >> 16);
    }
  } else {
    std::vector<std::uint8_t> codes(Size(cols));
    for (Index row = 0; row < rows; ++row) {
      for (auto& code : codes) {
        code = static_cast<std::uint8_t>(rng.Below(static_cast<std::uint32_t>(grid.levels())));
      }
      matrix->SetRow(row, codes);
    }
  }
  const View<float, 2> scales = matrix->scales();
  for (Index i = 0; i < scales.size(); ++i) {
    const std::uint32_t drawn = rng.Below(64);
    const float size =
        0.01f * static_cast<float>(1 + drawn % 8) / static_cast<float>(grid.levels());
    scales.data()[i] = RoundScale(drawn < 32 ? size : -size);
  }
  return matrix;
}

/// Of the config's shape, linears of `grid`, embedding and head of `ends`. Layers share matrices of
/// one shape where `alike`, which fills the memory of a device and not that of the host.
[[nodiscard]] inline Weights RandomWeights(const ModelConfig& config, const Grid& grid,
                                           const Grid& ends, bool alike) {
  Weights weights;
  weights.config = config;
  std::map<std::pair<Index, Index>, std::shared_ptr<const QMatrix>> made;
  std::uint64_t seed = 1;
  const auto codes = [&](Index rows, Index cols) {
    auto& shared = made[{rows, cols}];
    if (!shared || !alike) shared = RandomCodes(rows, cols, grid, ++seed);
    return shared;
  };
  Rng rng(3);
  const auto around_one = [&](Index count) {
    std::vector<float> values(Size(count));
    for (float& value : values) value = static_cast<float>(1 + 0.1 * rng.Normal());
    return values;
  };
  const auto embedding = RandomCodes(config.vocab, config.hidden, ends, 77);
  weights.embedding = embedding;
  weights.head = config.tied ? embedding : RandomCodes(config.vocab, config.hidden, ends, 78);
  weights.final_norm = around_one(config.hidden);
  for (Index layer = 0; layer < config.layers; ++layer) {
    LayerWeights& to = weights.layers.emplace_back();
    to.attention_norm = around_one(config.hidden);
    to.mlp_norm = around_one(config.hidden);
    if (config.qk_norm) {
      to.q_norm = around_one(config.head_dim);
      to.k_norm = around_one(config.head_dim);
    }
    for (const Site site : config.Sites(layer)) {
      to.At(site).weight = codes(config.Out(layer, site), config.In(layer, site));
      if (!config.HasBias(layer, site)) continue;
      for (Index i = 0; i < config.Out(layer, site); ++i) {
        to.At(site).bias.push_back(static_cast<float>(0.1 * rng.Normal()));
      }
    }
  }
  return weights;
}

}  // namespace lieq
