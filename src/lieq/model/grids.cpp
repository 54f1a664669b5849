#include "lieq/model/grids.h"

#include <algorithm>

namespace lieq {

std::string_view Name(End end) noexcept {
  return end == End::kEmbedding ? "embedding" : "head";
}

std::span<const End> EndsIn(const ModelConfig& config) noexcept {
  return std::span(kAllEnds).first(config.tied ? 1 : kMostEnds);
}

bool CanBeEnd(const Grid& grid) noexcept {
  return grid.symmetric() || grid.k_quant;
}

ModelGrids ModelGrids::Uniform(Index count, const Grid& grid) {
  std::array<Grid, kSites> layer;
  layer.fill(grid);
  return {.layers = LayerGrids(Size(count), layer), .ends = {}};
}

void ModelGrids::Set(Index layer, Unit unit, const Grid& grid) {
  for (const Site site : SitesOf(unit)) layers[Size(layer)][static_cast<std::size_t>(site)] = grid;
}

void ModelGrids::AddLayer(const std::array<Grid, kUnits>& units) {
  layers.emplace_back();
  for (const Unit unit : kAllUnits) {
    Set(layer_count() - 1, unit, units[static_cast<std::size_t>(unit)]);
  }
}

std::vector<Grid> GridsIn(const LayerGrids& layers) {
  std::vector<Grid> grids;
  for (const auto& layer : layers) {
    for (const Grid& grid : layer) {
      if (std::ranges::find(grids, grid) == grids.end()) grids.push_back(grid);
    }
  }
  return grids;
}

}  // namespace lieq
