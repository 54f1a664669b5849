// Which engines run what a container holds, as read from their code (docs/serving.md has the
// versions). To add one: a function and a row in engines.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/targets.h"
#include "lieq/model/config.h"

namespace lieq {

struct Engine {
  std::string_view name;       // "vLLM"
  std::string_view container;  // that it reads: a row of Targets()
  std::string_view takes;      // of the grids that the container holds, one line
  /// Whether it runs a linear on the grid. cols: of its rows.
  bool (*runs)(const Grid& grid, Index cols) noexcept;
  /// Whether it loads the model's ends; null: as they are.
  bool (*loads_ends)(const EndGrids& ends, const ModelConfig& config) noexcept = nullptr;
};

[[nodiscard]] std::span<const Engine> Engines() noexcept;

/// Whether the engine runs the whole model, given that its container holds it.
[[nodiscard]] bool RunsIn(const Engine& engine, const ModelGrids& grids, const ModelConfig& config);

/// A container that holds a model, and the engines that then run it.
struct Fit {
  std::string_view container;
  std::vector<std::string_view> engines;
};

/// In the order of Targets(), without the one that holds anything.
[[nodiscard]] std::vector<Fit> FitsOf(const ModelGrids& grids, const ModelConfig& config);

/// The engines that run the model in a container that holds it.
[[nodiscard]] std::vector<std::string_view> RunnersOf(std::string_view container,
                                                      const ModelGrids& grids,
                                                      const ModelConfig& config);

/// "compressed-tensors (vLLM, transformers), gguf (llama.cpp)", or what to do where none fits.
[[nodiscard]] std::string FitsText(const std::vector<Fit>& fits);

/// {"gguf": ["llama.cpp"], ...}
[[nodiscard]] Record ToJson(const std::vector<Fit>& fits);

/// One line for each engine of the container that does not run the model.
[[nodiscard]] std::vector<std::string> NotesOfEngines(std::string_view container,
                                                      const ModelGrids& grids,
                                                      const ModelConfig& config);

}  // namespace lieq
