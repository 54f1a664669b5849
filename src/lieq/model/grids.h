// The grids of a model's matrices: what a plan chooses, quantizers fill and containers hold.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "lieq/model/config.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// [layers], by Site.
using LayerGrids = std::vector<std::array<Grid, kSites>>;

/// The matrices at both ends of a model. A tied model has the embedding alone.
enum class End : std::uint8_t { kEmbedding, kHead };
inline constexpr std::array kAllEnds{End::kEmbedding, End::kHead};
inline constexpr std::size_t kMostEnds = kAllEnds.size();
[[nodiscard]] std::string_view Name(End end) noexcept;  // "embedding", "head"
/// Those that a model has as matrices of their own.
[[nodiscard]] std::span<const End> EndsIn(const ModelConfig& config) noexcept;

/// Whether an end may have this grid: a symmetric one, for engines look rows up without
/// zero-points, or a K-quant.
[[nodiscard]] bool CanBeEnd(const Grid& grid) noexcept;

/// Their grids, where they are quantized.
struct EndGrids {
  std::optional<Grid> embedding, head;

  [[nodiscard]] std::optional<Grid>& At(End end) noexcept {
    return end == End::kEmbedding ? embedding : head;
  }
  [[nodiscard]] const std::optional<Grid>& At(End end) const noexcept {
    return end == End::kEmbedding ? embedding : head;
  }
  friend bool operator==(const EndGrids&, const EndGrids&) = default;
};

/// Of every matrix of a model that is quantized.
struct ModelGrids {
  LayerGrids layers;
  EndGrids ends;

  /// `count` layers whose units all have one grid; the ends are floats.
  [[nodiscard]] static ModelGrids Uniform(Index count, const Grid& grid);

  /// The grid of a unit whose linears share one: that of the first of them.
  [[nodiscard]] const Grid& At(Index layer, Unit unit) const {
    return layers[Size(layer)][static_cast<std::size_t>(SitesOf(unit).front())];
  }
  /// Gives all linears of a unit one grid.
  void Set(Index layer, Unit unit, const Grid& grid);
  /// Gives all linears of a layer one grid.
  void SetLayer(Index layer, const Grid& grid) { layers[Size(layer)].fill(grid); }
  void AddLayer(const std::array<Grid, kUnits>& units);

  [[nodiscard]] Index layer_count() const noexcept { return std::ssize(layers); }
  friend bool operator==(const ModelGrids&, const ModelGrids&) = default;
};

/// Every grid of the layers once, in the order in which they come.
[[nodiscard]] std::vector<Grid> GridsIn(const LayerGrids& layers);

}  // namespace lieq
