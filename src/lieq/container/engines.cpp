#include "lieq/container/engines.h"

#include <algorithm>
#include <array>

#include "lieq/container/gguf_limits.h"
#include "lieq/container/targets.h"

namespace lieq {
namespace {

bool AsItIs(const Grid&, Index) noexcept {
  return true;
}

/// CompressedTensorsWNA16 and its kernels know three group sizes, and whole rows; no 5 or 6 bits.
bool Vllm(const Grid& grid, Index cols) noexcept {
  if (grid.bits == 5 || grid.bits == 6) return false;
  const Index group = GroupColumns(grid, cols);
  const bool sized = group == cols || group == 32 || group == 64 || group == 128;
  return sized && (grid.symmetric() || grid.bits < 8);
}

/// Its version of the library makes room for zero-points that are not packed.
bool Transformers(const Grid& grid, Index) noexcept {
  return grid.symmetric();
}

/// It asks an embedding for a tensor named weight, which only codes in bytes have
/// (docs/serving.md).
bool TransformersEnds(const EndGrids& ends, const ModelConfig&) noexcept {
  return !ends.embedding || IsByteEmbedding(*ends.embedding);
}

/// Its lookup (CompressedTensorsEmbeddingWNA16Int) takes packed codes alone, whole ones in a word,
/// and of models whose head is tied none.
bool VllmEnds(const EndGrids& ends, const ModelConfig& config) noexcept {
  const auto whole = [](const Grid& grid) { return !grid.k_quant && 32 % grid.bits == 0; };
  if (ends.head && !whole(*ends.head)) return false;
  if (!ends.embedding) return true;
  return !config.tied && !IsByteEmbedding(*ends.embedding) && whole(*ends.embedding);
}

bool VllmGptq(const Grid& grid, Index cols) noexcept {
  return Vllm(grid, cols) && grid.symmetric() && grid.bits >= 4;
}

bool GptqModel(const Grid& grid, Index cols) noexcept {
  constexpr Index kLeast = 16, kMost = 1024;
  const Index group = GroupColumns(grid, cols);
  const bool power = (group & (group - 1)) == 0;
  return cols % 32 == 0 && (group == cols || (power && group >= kLeast && group <= kMost));
}

constexpr std::array kEngines{
    Engine{.name = "vLLM",
           .container = "compressed-tensors",
           .takes = "2, 3, 4 and 8 bits in groups of 32, 64 and 128 and whole rows, at 8 bits "
                    "symmetric, and an embedding "
                    "of floats, or of 4 bits where the head is a matrix of its own",
           .runs = Vllm,
           .loads_ends = VllmEnds},
    Engine{.name = "transformers",
           .container = "compressed-tensors",
           .takes = "symmetric grids, and an embedding of floats or 8 bits",
           .runs = Transformers,
           .loads_ends = TransformersEnds},
    Engine{.name = "vLLM",
           .container = "gptq",
           .takes = "4 and 8 bits, symmetric, in groups of 32, 64 and 128 or whole rows",
           .runs = VllmGptq},
    Engine{.name = "GPTQModel",
           .container = "gptq",
           .takes = "groups of 16 to 1024 by powers of two and whole rows",
           .runs = GptqModel},
    Engine{.name = "llama.cpp", .container = "gguf", .takes = "all", .runs = AsItIs},
    Engine{.name = "mlx-lm", .container = "mlx", .takes = "all", .runs = AsItIs},
};

bool HoldsAllEnds(const ContainerTarget& target, const EndGrids& ends, const ModelConfig& config) {
  return std::ranges::all_of(
      kAllEnds, [&](End end) { return !ends.At(end) || HoldsEnds(target, *ends.At(end), config); });
}

}  // namespace

std::span<const Engine> Engines() noexcept {
  return kEngines;
}

bool RunsIn(const Engine& engine, const ModelGrids& grids, const ModelConfig& config) {
  if (engine.loads_ends != nullptr && !engine.loads_ends(grids.ends, config)) return false;
  for (Index layer = 0; layer < grids.layer_count(); ++layer) {
    const auto& of_layer = grids.layers[Size(layer)];
    const bool runs = std::ranges::all_of(config.Sites(layer), [&](Site site) {
      return engine.runs(of_layer[static_cast<std::size_t>(site)], config.In(layer, site));
    });
    if (!runs) return false;
  }
  return true;
}

std::vector<Fit> FitsOf(const ModelGrids& grids, const ModelConfig& config) {
  std::vector<Fit> fits;
  for (const ContainerTarget* target : HoldersOf(grids.layers, config)) {
    if (!HoldsAllEnds(*target, grids.ends, config)) continue;
    if (target->name == "gguf" && WhyNoGguf(config)) continue;
    fits.push_back({target->name, RunnersOf(target->name, grids, config)});
  }
  return fits;
}

std::vector<std::string_view> RunnersOf(std::string_view container, const ModelGrids& grids,
                                        const ModelConfig& config) {
  std::vector<std::string_view> names;
  for (const Engine& engine : kEngines) {
    if (engine.container == container && RunsIn(engine, grids, config)) {
      names.push_back(engine.name);
    }
  }
  return names;
}

std::string FitsText(const std::vector<Fit>& fits) {
  if (fits.empty()) {
    return "LieQ's own folders alone; `quantize --for CONTAINER` takes grids that one holds";
  }
  std::string text;
  for (const Fit& fit : fits) {
    text += (text.empty() ? "" : ", ") + std::string(fit.container) + " (";
    for (std::size_t i = 0; i < fit.engines.size(); ++i) {
      text += (i == 0 ? "" : ", ") + std::string(fit.engines[i]);
    }
    text += fit.engines.empty() ? "no engine known)" : ")";
  }
  return text;
}

Record ToJson(const std::vector<Fit>& fits) {
  Record record = Record::object();
  for (const Fit& fit : fits) record[std::string(fit.container)] = fit.engines;
  return record;
}

std::vector<std::string> NotesOfEngines(std::string_view container, const ModelGrids& grids,
                                        const ModelConfig& config) {
  std::vector<std::string> notes;
  for (const Engine& engine : kEngines) {
    if (engine.container != container || RunsIn(engine, grids, config)) continue;
    notes.push_back(std::string(engine.name) + " does not run this model: of " +
                    std::string(container) + " it takes " + std::string(engine.takes));
  }
  return notes;
}

}  // namespace lieq
