// Random quantized models in memory, for containers to write.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "lieq/container/model_folder.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/tiny_model.h"

namespace lieq {

/// The tiny model of `options`, made in `folder`, with random codes in place of its linears.
/// grid_of(layer, unit): its grids.
[[nodiscard]] inline ModelFolder RandomQuantizedModel(
    const std::filesystem::path& folder, const TinyModelOptions& options,
    const std::function<Grid(Index, Unit)>& grid_of, std::uint64_t seed = 1) {
  MakeTinyModel(folder, options);
  ModelFolder model = OpenModel(folder);
  model.quantized = true;
  for (Index layer = 0; layer < options.layers; ++layer) {
    for (const Site site : kAllSites) {
      const ModelConfig& config = model.weights.config;
      model.weights.layers[Size(layer)].At(site).weight = std::make_shared<const QMatrix>(
          RandomQMatrix(config.Out(site), config.In(site), grid_of(layer, UnitOf(site)), ++seed));
    }
  }
  return model;
}

/// The same grid everywhere.
[[nodiscard]] inline ModelFolder RandomQuantizedModel(const std::filesystem::path& folder,
                                                      const TinyModelOptions& options,
                                                      const Grid& grid) {
  return RandomQuantizedModel(folder, options, [&](Index, Unit) { return grid; });
}

/// 4 bits in the first layer and the down projections, else 2.
[[nodiscard]] inline Grid MixedGrid(Index layer, Unit unit) {
  return {.bits = layer == 0 || unit == Unit::kDown ? 4 : 2, .group_size = 64};
}

}  // namespace lieq
