// Puts a finished model folder together from the source and the packed layers.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"

namespace lieq {

/// The tensors of the finished model, in order, split into shards of at most 5 GB of data.
struct OutputFiles {
  struct File {
    std::string name;
    std::vector<TensorSpec> specs;
    std::uint64_t bytes = 0;  // of the finished file
  };
  std::vector<File> files;
  std::uint64_t bytes = 0;  // of all weight files together
};

/// Linears, and the ends that `edges` has grids for, become packed tensors, everything else stays
/// as it is. scale_type: F16 or BF16. untied: a head that is tied will be a matrix of its own.
[[nodiscard]] OutputFiles PlanOutput(const ModelFolder& model, const LayerGrids& grids,
                                     const EdgeGrids& edges, DType scale_type, bool untied = false);

/// Scales are stored in the model's own 16-bit type; for a float32 model in bf16. Their values are
/// the same in both (RoundScale).
[[nodiscard]] DType ScaleType(DType model) noexcept;

/// Writes config.json, the weight files and the source's tokenizer and licence files into `folder`.
/// layer_file(layer, site) is the file that holds a linear's packed tensors, edge_file that of the
/// ends'.
void AssembleModel(const ModelFolder& model, const LayerGrids& grids, const EdgeGrids& edges,
                   const OutputFiles& files,
                   const std::function<std::filesystem::path(Index, Site)>& layer_file,
                   const std::filesystem::path& edge_file, const std::filesystem::path& folder);

}  // namespace lieq
