// The functions of the rows of Exporters(), one file each, and what they share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/exporters.h"
#include "lieq/container/targets.h"

namespace lieq {

void WriteCompressedTensors(const ModelFolder& source, const std::filesystem::path& out,
                            const ExportSettings& settings);
/// The folder that `quantize` writes: of quant_method "lieq" where a grid is beyond
/// compressed-tensors.
void WriteOwnFolder(const ModelFolder& source, const std::filesystem::path& out);
[[nodiscard]] std::string ServeCompressedTensors(const ModelFolder& source,
                                                 const std::filesystem::path& out);

void WriteGptqFolder(const ModelFolder& source, const std::filesystem::path& out,
                     const ExportSettings& settings);
[[nodiscard]] std::string ServeGptq(const ModelFolder& source, const std::filesystem::path& out);
[[nodiscard]] std::unique_ptr<ContainerSizes> GptqSizes(const ModelFolder& source);

void WriteMlxFolder(const ModelFolder& source, const std::filesystem::path& out,
                    const ExportSettings& settings);
[[nodiscard]] std::string ServeMlx(const ModelFolder& source, const std::filesystem::path& out);
[[nodiscard]] std::unique_ptr<ContainerSizes> MlxSizes(const ModelFolder& source);

void WriteGguf(const ModelFolder& source, const std::filesystem::path& out,
               const ExportSettings& settings);
[[nodiscard]] std::string ServeGguf(const ModelFolder& source, const std::filesystem::path& out);
[[nodiscard]] std::unique_ptr<ContainerSizes> GgufSizes(const ModelFolder& source);

/// Types that llama.cpp multiplies with slowly.
[[nodiscard]] std::vector<std::string> NotesOfGguf(const ModelFolder& source,
                                                   const ExportSettings& settings);

/// The grids of a model whose linears are all quantized. Throws Error naming `option` and the first
/// linear that is float.
[[nodiscard]] ModelGrids GridsOf(const ModelFolder& model, std::string_view option);

/// Throws Error naming `container`, the module and its first scale that f16, in which the container
/// stores them, does not hold.
void RequireHalfScales(const QMatrix& matrix, std::string_view container,
                       const std::string& module);

/// GridsOf, once the container holds all of them (CheckTarget).
[[nodiscard]] ModelGrids CheckedGrids(const ModelFolder& source, std::string_view target);

/// Throws Error naming `option` where linears of a unit have different grids: engines fuse them.
void CheckUnits(const LayerGrids& grids, const ModelConfig& config, std::string_view option);

}  // namespace lieq
