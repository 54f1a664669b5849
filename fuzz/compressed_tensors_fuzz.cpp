// Whole folders in compressed-tensors and in LieQ's own variant of it: config groups, what they
// ignore, offsets, K-quants, quantized ends.
#include "fuzz/folder_input.h"
#include "lieq/container/compressed_tensors.h"

namespace lieq {
namespace {

std::string Bytes64(std::uint64_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

void AddModule(FolderInput& folder, const std::string& module, std::uint64_t rows,
               std::uint64_t cols, const Grid& grid, FuzzInput& input) {
  const DType scales = input.Below(2) == 0 ? DType::kBF16 : DType::kF16;
  for (const TensorSpec& spec :
       PackedSpecs(module, static_cast<Index>(rows), static_cast<Index>(cols), grid, scales)) {
    std::uint64_t bytes = ItemSize(spec.dtype);
    std::vector<std::uint64_t> shape;
    for (const std::int64_t extent : spec.shape) {
      shape.push_back(static_cast<std::uint64_t>(extent));
      bytes *= shape.back();
    }
    const bool extents = spec.name.ends_with("weight_shape");
    folder.Add(spec.name, std::string(Name(spec.dtype)), std::move(shape),
               extents ? Bytes64(rows) + Bytes64(cols) : FolderInput::Bytes(bytes, input));
  }
}

Grid PickGrid(FuzzInput& input, std::uint64_t step) {
  if (step == 256) return KQuants()[input.Byte() % KQuants().size()].grid;
  constexpr std::array<int, 4> kBits{4, 2, 8, 3};
  constexpr std::array<Index, 4> kGroups{32, 0, 16, 8};
  return {.bits = kBits[input.Below(4)],
          .group_size = kGroups[input.Below(4)],
          .offset = kAllOffsets[input.Below(4)]};
}

FolderInput Assemble(FuzzInput& input) {
  const std::uint64_t step = input.Below(8) == 7 ? 256 : 32;
  FolderInput folder(input, step);
  const Grid grid = PickGrid(input, step), other = PickGrid(input, step);
  LayerGrids grids(folder.layers);
  for (auto& layer : grids) {
    layer.fill(grid);
    layer[static_cast<std::size_t>(Site::kDown)] = other;
  }
  EndGrids ends;
  if (input.Below(4) == 1) ends.embedding = {.bits = 4, .group_size = 32};
  if (!folder.tied && input.Below(4) == 1) ends.head = {.bits = 8, .group_size = 32};
  folder.config["quantization_config"] = QuantizationConfig({.layers = grids, .ends = ends});
  const auto add = [&](const std::string& module, std::uint64_t rows, std::uint64_t cols) {
    AddModule(folder, module, rows, cols, module.ends_with("down_proj") ? other : grid, input);
  };
  folder.ForEachLinear(add);
  const auto end = [&](const std::string& module, const std::optional<Grid>& packed) {
    if (!packed) return;
    folder.tensors.erase(
        std::ranges::find(folder.tensors, module + ".weight", &FolderTensor::name));
    AddModule(folder, module, folder.vocab, folder.hidden, *packed, input);
  };
  end("model.embed_tokens", ends.embedding);
  end("lm_head", ends.head);
  return folder;
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzFolder(data, size, "quantization_config", lieq::Assemble);
  return 0;
}
