// Puts a finished model folder together from the source and the packed layers.
#pragma once

#include <filesystem>
#include <functional>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/output_files.h"

namespace lieq {

/// Linears, and the ends that `edges` has grids for, become packed tensors, everything else stays
/// as it is. scale_type: F16 or BF16. untied: a head that is tied will be a matrix of its own.
[[nodiscard]] OutputFiles PlanOutput(const ModelFolder& model, const LayerGrids& grids,
                                     const EdgeGrids& edges, DType scale_type, bool untied = false);

/// Writes config.json, the weight files and the source's tokenizer and licence files into `folder`.
/// layer_file(layer, site) is the file that holds a linear's packed tensors, edge_file that of
/// the ends'.
void AssembleModel(const ModelFolder& model, const LayerGrids& grids, const EdgeGrids& edges,
                   const OutputFiles& files,
                   const std::function<std::filesystem::path(Index, Site)>& layer_file,
                   const std::filesystem::path& edge_file, const std::filesystem::path& folder);

/// Opens what AssembleModel wrote, one layer at a time, and compares it with what it was made of:
/// the codes of the files, and of the model what is not quantized. Throws Error naming the first
/// difference, and whatever OpenModel refuses.
void ReadBack(const ModelFolder& model, const LayerGrids& grids, const EdgeGrids& edges,
              const std::function<std::filesystem::path(Index, Site)>& layer_file,
              const std::filesystem::path& edge_file, const std::filesystem::path& folder);

}  // namespace lieq
