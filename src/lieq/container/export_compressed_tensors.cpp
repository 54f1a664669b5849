// compressed-tensors as an export: what `quantize` writes, from whatever folder the model lies in.
#include <array>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/export_rows.h"
#include "lieq/container/folder_writer.h"
#include "lieq/container/narrow.h"

namespace lieq {
namespace {

/// The model's own 16-bit type where it holds every scale, else the other one where that does.
DType ScaleTypeFor(const ModelFolder& source) {
  const DType own = ScaleType(source.dtype);
  const DType other = own == DType::kF16 ? DType::kBF16 : DType::kF16;
  const auto holds = [&](DType type) {
    for (const LayerWeights& layer : source.weights.layers) {
      for (const Linear& linear : layer.linears) {
        if (Rows(linear.weight) == 0) continue;  // the layer has it not
        const auto& matrix = *std::get<std::shared_ptr<const QMatrix>>(linear.weight);
        if (!HoldsAll(type, matrix.scales())) return false;
      }
    }
    return true;
  };
  return !holds(own) && holds(other) ? other : own;
}

/// Throws Error for a grid that compressed-tensors does not have at the ends.
void CheckEnds(const ModelFolder& source) {
  const auto check = [&](const std::optional<Grid>& grid, std::string_view module) {
    if (!grid || (grid->symmetric() && !grid->k_quant)) return;
    throw Error({.what = "a grid that compressed-tensors does not hold at the ends",
                 .where = "--to compressed-tensors: " + std::string(module),
                 .expected = "16-bit floats, or symmetric codes",
                 .found = grid->k_quant ? std::string(KQuantOf(*grid).name)
                                        : std::to_string(grid->bits) + " bits, " +
                                              std::string(Describe(grid->offset))});
  };
  check(source.ends.embedding, kEmbeddingModule);
  check(source.ends.head, kHeadModule);
}

}  // namespace

void WriteCompressedTensors(const ModelFolder& source, const std::filesystem::path& out,
                            const ExportSettings&) {
  const ModelGrids grids = CheckedGrids(source, "compressed-tensors");
  CheckUnits(grids.layers, source.weights.config, "--to compressed-tensors");
  CheckEnds(source);
  WriteOwnFolder(source, out);
}

void WriteOwnFolder(const ModelFolder& source, const std::filesystem::path& out) {
  const ModelGrids grids = GridsOf(source, "the model");
  const DType scale_type = ScaleTypeFor(source);
  const ModelConfig& model = source.weights.config;
  const auto is_end = [](std::string_view module) {
    return module == kEmbeddingModule || module == kHeadModule;
  };
  const PackedForm form{
      .specs =
          [&](const std::string& module, const QMatrix& matrix) {
            return is_end(module) ? EndSpecs(module, model, matrix.grid(), scale_type)
                                  : PackedSpecs(module, matrix.rows(), matrix.cols(), matrix.grid(),
                                                scale_type);
          },
      .write =
          [&](TensorWriter& writer, const std::string& module, const QMatrix& matrix) {
            if (is_end(module)) return WriteEnd(writer, module, model, matrix, scale_type);
            WritePacked(writer, module, matrix, scale_type);
          }};
  Record config = FloatConfig(source);
  config["quantization_config"] = QuantizationConfig(grids, model);
  WriteModelFolder(source, config, form, "pt", out);
}

std::string ServeCompressedTensors(const ModelFolder& source, const std::filesystem::path& out) {
  bool narrow = false, moved = false;
  for (const auto& layer : GridsOf(source, "--to compressed-tensors").layers) {
    for (const Grid& grid : layer) {
      narrow = narrow || grid.bits < 4;
      moved = moved || (grid.bits < 4 && !grid.symmetric());
    }
  }
  std::string command = "vllm serve " + ShellQuoted(out.string());
  if (narrow) {  // CompressedTensorsWNA16 and its kernels, by version
    command += moved ? "  # vLLM from 0.32 on" : "  # vLLM from 0.25 on";
    command += " with humming-kernels, on CUDA";
  }
  return command;
}

}  // namespace lieq
