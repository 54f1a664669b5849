#include "lieq/container/exporters.h"

#include <fmt/format.h>

#include <array>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/container/engines.h"
#include "lieq/container/export_rows.h"

namespace lieq {
namespace {

constexpr std::array kExporters{
    Exporter{.name = "compressed-tensors",
             .description = "a folder for vLLM and transformers",
             .write = WriteCompressedTensors,
             .serve = ServeCompressedTensors},
    Exporter{.name = "gptq",
             .description = "a folder for GPTQModel, transformers and older vLLM",
             .write = WriteGptqFolder,
             .serve = ServeGptq,
             .sizes = GptqSizes},
    Exporter{.name = "mlx",
             .description = "a folder for mlx-lm",
             .write = WriteMlxFolder,
             .serve = ServeMlx,
             .sizes = MlxSizes},
    Exporter{.name = "gguf",
             .description = "a file for llama.cpp",
             .one_file = true,
             .takes_float = true,
             .write = WriteGguf,
             .notes = NotesOfGguf,
             .serve = ServeGguf,
             .sizes = GgufSizes},
};

}  // namespace

std::span<const Exporter> Exporters() noexcept {
  return kExporters;
}

const Exporter& FindExporter(std::string_view name) {
  return FindRow(kExporters, name, "no such container", "--to");
}

std::vector<std::string> NotesOn(const Exporter& exporter, const ModelFolder& source,
                                 const ExportSettings& settings) {
  std::vector<std::string> notes;
  if (!exporter.takes_float) {
    notes = NotesOfEngines(exporter.name, GridsOf(source, exporter.name), source.weights.config);
  }
  if (exporter.notes != nullptr) {
    const auto more = exporter.notes(source, settings);
    notes.insert(notes.end(), more.begin(), more.end());
  }
  return notes;
}

ModelGrids GridsOf(const ModelFolder& model, std::string_view option) {
  ModelGrids all{.layers = {}, .ends = model.ends};
  LayerGrids& grids = all.layers;
  const ModelConfig& config = model.weights.config;
  for (const LayerWeights& layer : model.weights.layers) {
    grids.emplace_back();
    for (const Site site : config.Sites(static_cast<Index>(grids.size()) - 1)) {
      const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&layer.At(site).weight);
      if (packed == nullptr) {
        throw Error({.what = "the model is not quantized",
                     .where = std::string(option) + ": " +
                              ModuleName(config, static_cast<Index>(grids.size()) - 1, site),
                     .expected = "codes and scales, as `lieq quantize` writes them",
                     .found = "a float matrix",
                     .hint = "quantize it first, with --for where the container holds few grids"});
      }
      grids.back()[static_cast<std::size_t>(site)] = (*packed)->grid();
    }
    for (const Unit unit : kAllUnits) {  // linears that the layer has not, as the others
      const Index index = static_cast<Index>(grids.size()) - 1;
      const Grid grid = grids.back()[static_cast<std::size_t>(SitesOf(unit).front())];
      for (const Site site : SitesOf(unit)) {
        if (!config.Has(index, site)) grids.back()[static_cast<std::size_t>(site)] = grid;
      }
    }
  }
  return all;
}

void CheckUnits(const LayerGrids& grids, const ModelConfig& config, std::string_view option) {
  for (std::size_t layer = 0; layer < grids.size(); ++layer) {
    for (const Site site : config.Sites(static_cast<Index>(layer))) {
      const Site first = SitesOf(UnitOf(site)).front();
      if (grids[layer][static_cast<std::size_t>(site)] ==
          grids[layer][static_cast<std::size_t>(first)]) {
        continue;
      }
      throw Error({.what = "linears that share their input have different grids",
                   .where = std::string(option) + ": " +
                            ModuleName(config, static_cast<Index>(layer), site),
                   .expected = "the grid of " + std::string(Name(first)),
                   .found = "another"});
    }
  }
}

void RequireHalfScales(const QMatrix& matrix, std::string_view container,
                       const std::string& module) {
  for (Index row = 0; row < matrix.rows(); ++row) {
    for (Index group = 0; group < matrix.groups(); ++group) {
      const float scale = matrix.scales()(row, group);
      if (ToFloat(ToF16(scale)) == scale) continue;
      throw Error({.what = "a scale that " + std::string(container) +
                           " does not hold: it stores them as F16",
                   .where = "--to " + std::string(container) + ": " + module + ", row " +
                            std::to_string(row) + ", group " + std::to_string(group),
                   .expected = "8 significant bits, a multiple of 2^-24, at most 65504",
                   .found = fmt::format("{}", scale),
                   .hint = "the weights are unusually small or large: `lieq quantize --for " +
                           std::string(container) + "` rounds scales to what it holds"});
    }
  }
}

ModelGrids CheckedGrids(const ModelFolder& source, std::string_view target) {
  ModelGrids grids = GridsOf(source, "--to " + std::string(target));
  CheckTarget(FindTarget(target), grids.layers, source.weights.config, "--to");
  return grids;
}

}  // namespace lieq
