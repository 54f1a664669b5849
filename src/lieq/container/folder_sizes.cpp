#include "lieq/container/folder_sizes.h"

#include <memory>
#include <utility>
#include <variant>

#include "lieq/container/named_tensors.h"
#include "lieq/container/narrow.h"
#include "lieq/container/output_files.h"
#include "lieq/container/stacked_experts.h"
#include "lieq/container/tensor_names.h"

namespace lieq {
namespace {

std::int64_t BytesOf(std::span<const TensorSpec> specs) {
  return static_cast<std::int64_t>(DataBytes(specs));
}

std::optional<Grid> GridOf(const NamedTensor& tensor, const ModelGrids& grids) {
  if (tensor.layer >= 0) {
    return grids.layers[Size(tensor.layer)][static_cast<std::size_t>(tensor.site)];
  }
  return tensor.name == kEmbeddingModule ? grids.ends.embedding : grids.ends.head;
}

/// The type of a matrix that stays in floats; of one that is packed the model's own.
DType FloatTypeOf(const AnyMatrix& matrix, const ModelFolder& source) {
  const bool packed = std::holds_alternative<std::shared_ptr<const QMatrix>>(matrix);
  return packed ? source.dtype : TypeOf(matrix);
}

}  // namespace

DType FolderSizes::OwnType(bool packed_embedding) const {
  const std::string norm(FinalNorm(source_.weights.config));
  const bool has = packed_embedding && source_.tensors.Has(norm);
  return has ? source_.tensors.At(norm).dtype : source_.dtype;
}

std::uint64_t FolderSizes::Whole(const ModelGrids& grids) const {
  const ModelConfig& config = source_.weights.config;
  const DType own = OwnType(grids.ends.embedding.has_value());
  std::vector<TensorSpec> specs;
  for (const NamedTensor& tensor : NamedTensors(source_.weights)) {
    if (const auto* vector = std::get_if<const std::vector<float>*>(&tensor.values)) {
      const std::vector<float> values = AsStored(**vector, tensor.stored, config);
      const View<const float, 2> view(values.data(), 1, std::ssize(values));
      const bool narrow = own != DType::kF32 && HoldsAll(own, view);
      specs.push_back({tensor.name, narrow ? own : DType::kF32, tensor.shape});
      continue;
    }
    const AnyMatrix& matrix = *std::get<const AnyMatrix*>(tensor.values);
    const bool stacked = form_.stacks_experts && tensor.experts > 0;
    if (stacked && tensor.rows[0] != 0) continue;  // it lies with the first
    const Index rows = stacked || tensor.rows[1] == 0 ? Rows(matrix) : tensor.rows[1];
    const std::string module = stacked ? SwitchModule(tensor.name) : tensor.name;
    const std::optional<Grid> grid = GridOf(tensor, grids);
    std::vector<TensorSpec> of_module;
    if (grid) {
      of_module = form_.specs(module, rows, Cols(matrix), *grid, own);
    } else {
      of_module = {{module + ".weight", FloatTypeOf(matrix, source_), {rows, Cols(matrix)}}};
    }
    for (TensorSpec& spec : of_module) {
      if (stacked) spec.shape = {tensor.experts, spec.shape[0] / tensor.experts, spec.shape[1]};
      specs.push_back(std::move(spec));
    }
  }
  return SplitOutput(std::move(specs), {{"format", form_.format}}).bytes;
}

std::int64_t FolderSizes::OfLinear(Index layer, Site site, const Grid& grid) const {
  const ModelConfig& config = source_.weights.config;
  const Index parts = form_.stacks_experts ? 1 : config.Parts(layer, site);
  return parts * BytesOf(form_.specs("m", config.Out(layer, site) / parts, config.In(layer, site),
                                     grid, OwnType(false)));
}

std::int64_t FolderSizes::OfEnd(End end, const std::optional<Grid>& grid) const {
  const ModelConfig& config = source_.weights.config;
  if (grid) {
    return BytesOf(form_.specs("m", config.vocab, config.hidden, *grid, OwnType(false)));
  }
  const Weights& weights = source_.weights;
  const AnyMatrix& matrix = end == End::kEmbedding ? weights.embedding : weights.head;
  return config.vocab * config.hidden *
         static_cast<std::int64_t>(ItemSize(FloatTypeOf(matrix, source_)));
}

}  // namespace lieq
