// How the packed modules of a folder are read, whatever container they lie in.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/config.h"
#include "lieq/model/grids.h"
#include "lieq/model/weights.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {

/// Of all that may be packed: linears, embedding and head.
[[nodiscard]] inline std::uint64_t ModuleCount(const ModelConfig& config) noexcept {
  std::uint64_t count = 2;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      count += static_cast<std::uint64_t>(config.Parts(layer, site));
    }
  }
  return count;
}

/// A matrix, a QMatrix or a LaidOutMatrix, and the tensors that it was read from.
struct PackedModule {
  AnyMatrix matrix;
  std::vector<std::string> tensors;
};

/// Reads module "model.layers.3.mlp.down_proj" as [rows, cols]; nothing where it is a float matrix.
/// Throws Error naming the tensor: missing, wrong type or shape, values that no grid has.
using PackedReader = std::function<std::optional<PackedModule>(
    const TensorFile& file, const std::string& module, Index rows, Index cols)>;

/// The weights of a model whose tensors these are. packed: null where all matrices are float; ends:
/// gets the grids of embedding and head; notes: gets what ModelFolder::notes says of them. Throws
/// Error: tensors that are missing, left over, or of another type or shape.
[[nodiscard]] Weights ReadWeights(const TensorFile& tensors, const ModelConfig& config,
                                  const PackedReader& packed, EndGrids& ends,
                                  std::vector<std::string>& notes);

/// Readers by what config.json says; `where` names it in errors. All throw Error for an option that
/// is not supported, by its name.
///
/// compressed-tensors, and LieQ's own: "quantization_config".
[[nodiscard]] PackedReader CompressedTensorsReader(const Json& quantization,
                                                   const ModelConfig& config,
                                                   const std::string& where);
/// GPTQ: "quantization_config" in the order of the file, since the first rule of "dynamic" that
/// matches a module decides.
[[nodiscard]] PackedReader GptqReader(const Record& quantization, const ModelConfig& config,
                                      const std::string& where);
/// MLX: "quantization".
[[nodiscard]] PackedReader MlxReader(const Json& quantization, const std::string& where);

}  // namespace lieq
