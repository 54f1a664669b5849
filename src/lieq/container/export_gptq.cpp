// GPTQ as an export.
#include <memory>
#include <optional>
#include <variant>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/shell.h"
#include "lieq/container/export_rows.h"
#include "lieq/container/folder_sizes.h"
#include "lieq/container/folder_writer.h"
#include "lieq/container/gptq_folder.h"

namespace lieq {
namespace {

/// Version 1, which all engines know, unless something is asymmetric: version 1 has no zero-point
/// 0, and GPTQModel takes no asymmetric file of strangers in it.
GptqVersion VersionFor(const LayerGrids& grids, const ExportSettings& settings) {
  if (settings.gptq_version != 0) return static_cast<GptqVersion>(settings.gptq_version);
  for (const auto& layer : grids) {
    for (const Grid& grid : layer) {
      if (!grid.symmetric()) return GptqVersion::kV2;
    }
  }
  return GptqVersion::kV1;
}

void CheckFloatEnds(const ModelFolder& source) {
  if (!source.ends.embedding && !source.ends.head) return;
  throw Error(
      {.what = "gptq holds no quantized embedding or head",
       .where = "--to gptq: " + std::string(source.ends.embedding ? kEmbeddingModule : kHeadModule),
       .expected = "16-bit floats",
       .found = "codes",
       .hint = "compressed-tensors and mlx hold them"});
}

/// Rules of GPTQ's configs are of units by Llama's names, or fused ones; what stays in floats would
/// need rules of its own.
void CheckModules(const ModelConfig& config, std::string_view option) {
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      const std::string_view module = config.Module(layer, site);
      const bool known = (module.starts_with("self_attn.") || module.starts_with("mlp.")) &&
                         module.ends_with("_proj") && module != "self_attn.out_proj" &&
                         !module.starts_with("mlp.experts.");
      if (known) continue;
      throw Error({.what = "gptq has no rules for modules of these names",
                   .where = std::string(option) + " gptq: " + ModuleName(config, layer, site),
                   .expected = "self_attn.*_proj and mlp.*_proj",
                   .found = config.architecture,
                   .hint = "compressed-tensors, mlx and gguf hold them"});
    }
  }
}

}  // namespace

void WriteGptqFolder(const ModelFolder& source, const std::filesystem::path& out,
                     const ExportSettings& settings) {
  CheckModules(source.weights.config, "--to");
  const LayerGrids grids = CheckedGrids(source, "gptq").layers;
  CheckUnits(grids, source.weights.config, "--to gptq");
  CheckFloatEnds(source);
  const ModelConfig& config = source.weights.config;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      CheckGptqShape("--to gptq: " + ModuleName(config, layer, site), config.Out(layer, site),
                     config.In(layer, site),
                     grids[Size(layer)][static_cast<std::size_t>(site)].bits);
      RequireHalfScales(*std::get<std::shared_ptr<const QMatrix>>(
                            source.weights.layers[Size(layer)].At(site).weight),
                        "gptq", ModuleName(config, layer, site));
    }
  }
  const GptqVersion version = VersionFor(grids, settings);
  const PackedForm form{
      .specs = [](const std::string& module,
                  const QMatrix& matrix) { return GptqSpecs(module, matrix); },
      .write = [&](TensorWriter& writer, const std::string& module,
                   const QMatrix& matrix) { WriteGptq(writer, module, matrix, version); }};
  const Record quantization = GptqConfig(grids, version, settings.writer);
  Record record = FloatConfig(source);
  record["quantization_config"] = quantization;
  WriteFileAtomically(out / "quantize_config.json", quantization.dump(2) + "\n");
  WriteModelFolder(source, record, form, "pt", out);
}

namespace {

class Sizes : public FolderSizes {
 public:
  explicit Sizes(const ModelFolder& source)
      : FolderSizes(source, {.specs = [](const std::string& module, Index rows, Index cols,
                                         const Grid& grid,
                                         DType) { return GptqSpecs(module, rows, cols, grid); },
                             .stacks_experts = false,
                             .format = "pt"}) {}

  [[nodiscard]] std::uint64_t Whole(const ModelGrids& grids) const override {
    CheckTarget(FindTarget("gptq"), grids, source().weights.config, "--for");
    return FolderSizes::Whole(grids);
  }
};

}  // namespace

std::unique_ptr<ContainerSizes> GptqSizes(const ModelFolder& source) {
  CheckModules(source.weights.config, "--for");
  return std::make_unique<Sizes>(source);
}

std::string ServeGptq(const ModelFolder& source, const std::filesystem::path& out) {
  // From 0.22 on vLLM takes symmetric 4 and 8 bits alone; GPTQModel takes all (docs/formats.md).
  bool all = true;
  for (const auto& layer : GridsOf(source, "--to gptq").layers) {
    for (const Grid& grid : layer) all = all && grid.symmetric() && grid.bits >= 4;
  }
  if (all) return "vllm serve " + ShellQuoted(out.string());
  const std::string python =
      "from gptqmodel import GPTQModel; GPTQModel.load(" + Json(out.string()).dump() + ")";
  return "python -c " + ShellQuoted(python) +
         "  # vLLM from 0.22 on takes symmetric 4 and 8 bits alone";
}

}  // namespace lieq
