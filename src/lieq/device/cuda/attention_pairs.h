// Attention in bf16 arithmetic (attention_pairs.cu): factors of 16 bits, of heads of at most 128
// columns.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {

/// Heads of this many columns are held in as many as 64 or 128; 0: they are too wide.
[[nodiscard]] constexpr Index PairColumns(Index head_dim) noexcept {
  return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 0;
}

/// Tokens of a tile.
inline constexpr Index kPairRows = 64;

/// Numbers of heads in tiles of kPairRows tokens, as shared memory has them (attention_pairs.cuh):
/// [tiles, heads, planes, kPairRows, columns] of bf16. Two planes: sums of a high part and a low
/// one; one: the high part.
struct PairTiles {
  std::uint16_t* data = nullptr;
  std::int32_t heads = 0, planes = 0;
};
/// Elements of them.
[[nodiscard]] constexpr Index PairElements(Index tiles, Index heads, int planes,
                                           Index head_dim) noexcept {
  return tiles * heads * planes * kPairRows * PairColumns(head_dim);
}

/// What is taken apart, times a factor.
template <class From>
struct PairSource {
  Block<const From> from;
  float factor;
  PairTiles to;
};
inline constexpr std::size_t kMostPairSources = 4;
/// Which rows: of spans, whose tokens begin with tile Span::held; or where `spans` is null, of
/// `count` windows of `tokens` rows each, one behind the other. tokens: of spans, the most that one
/// has. Rows behind the last of a tile become zeros.
struct PairRows {
  const Span* spans = nullptr;
  Index count = 0, tokens = 0;
};
template <class From>
void MakePairs(std::span<const PairSource<From>> sources, Index head_dim, const PairRows& rows,
               cudaStream_t stream);

/// arguments: tiles of kPairRows queries; keys and values are taken from the pairs, of two planes.
template <class Key>
void AttentionOfPairs(const AttentionArguments<Key>& arguments, const PairTiles& keys,
                      const PairTiles& values, cudaStream_t stream);

}  // namespace lieq::cuda
