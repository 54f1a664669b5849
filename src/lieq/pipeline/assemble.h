// Puts a finished model folder together from the source and the packed layers.
#pragma once

#include <filesystem>
#include <functional>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/output_files.h"

namespace lieq {

/// Linears, and the ends that have grids, become packed tensors, everything else stays
/// as it is. scale_type: F16 or BF16. untied: a head that is tied will be a matrix of its own.
[[nodiscard]] OutputFiles PlanOutput(const ModelFolder& model, const ModelGrids& grids,
                                     DType scale_type, bool untied = false);

/// Writes config.json, the weight files and the source's tokenizer and licence files into `folder`.
/// layer_file(layer, site) is the file that holds a linear's packed tensors, end_file that of
/// the ends'.
void AssembleModel(const ModelFolder& model, const ModelGrids& grids, const OutputFiles& files,
                   const std::function<std::filesystem::path(Index, Site)>& layer_file,
                   const std::filesystem::path& end_file, const std::filesystem::path& folder);

/// Opens what AssembleModel wrote, one layer at a time, and compares it with what it was made of:
/// the codes of the files, and of the model what is not quantized. Throws Error naming the first
/// difference, and whatever OpenModel refuses.
void ReadBack(const ModelFolder& model, const ModelGrids& grids,
              const std::function<std::filesystem::path(Index, Site)>& layer_file,
              const std::filesystem::path& end_file, const std::filesystem::path& folder);

}  // namespace lieq
