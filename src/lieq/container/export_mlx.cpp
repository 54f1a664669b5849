// MLX as an export.
#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <variant>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/container/export_rows.h"
#include "lieq/container/folder_sizes.h"
#include "lieq/container/folder_writer.h"
#include "lieq/container/mlx_folder.h"
#include "lieq/container/stacked_experts.h"

namespace lieq {
namespace {

using Modules = std::vector<std::pair<std::string, std::shared_ptr<const QMatrix>>>;

/// Every packed module, linears first.
Modules ModulesOf(const ModelFolder& source) {
  Modules modules;
  const auto add = [&](std::string module, const AnyMatrix& matrix) {
    if (const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
      modules.emplace_back(std::move(module), *packed);
    }
  };
  const Weights& weights = source.weights;
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    for (const Site site : weights.config.Sites(layer)) {
      add(SwitchModule(ModuleName(weights.config, layer, site, 0)),
          weights.layers[Size(layer)].At(site).weight);
    }
  }
  add(std::string(kEmbeddingModule), weights.embedding);
  if (!weights.config.tied) add(std::string(kHeadModule), weights.head);
  return modules;
}

using Entry = std::pair<Index, int>;  // group size, bits

Entry EntryOf(const QMatrix& matrix) {
  return {matrix.group_columns(), matrix.grid().bits};
}

Record Quantization(const Modules& modules) {
  const auto record = [](const Entry& entry) {
    return Record{{"group_size", entry.first}, {"bits", entry.second}, {"mode", "affine"}};
  };
  std::map<Entry, Index> counts;
  for (const auto& [name, matrix] : modules) ++counts[EntryOf(*matrix)];
  const Entry base =
      std::ranges::max_element(counts, {}, [](const auto& each) { return each.second; })->first;
  Record quantization = record(base);
  for (const auto& [name, matrix] : modules) {
    if (EntryOf(*matrix) != base) quantization[name] = record(EntryOf(*matrix));
  }
  return quantization;
}

}  // namespace

namespace {

/// mlx-lm reads the older pair of rope keys in most of its models, and where only the newer
/// "rope_parameters" stand it takes defaults and says nothing.
void AddOldRopeKeys(Record& config) {
  const auto found = config.find("rope_parameters");
  if (found == config.end() || !found->is_object()) return;
  Record scaling = *found;
  if (std::ranges::any_of(scaling, [](const auto& item) { return item.is_object(); })) return;
  if (const auto theta = scaling.find("rope_theta"); theta != scaling.end()) {
    if (!config.contains("rope_theta")) config["rope_theta"] = *theta;
    scaling.erase("rope_theta");
  }
  const bool none = !scaling.contains("rope_type") || scaling["rope_type"] == "default";
  if (!none && !config.contains("rope_scaling")) config["rope_scaling"] = scaling;
}

}  // namespace

void WriteMlxFolder(const ModelFolder& source, const std::filesystem::path& out,
                    const ExportSettings&) {
  (void)CheckedGrids(source, "mlx");
  const Modules modules = ModulesOf(source);
  std::map<std::string, DType> types;
  for (const auto& [name, matrix] : modules) {
    // The model's own type where it holds the biases, since MLX widens products of unlike types.
    const auto type = FindTarget("mlx").holds(matrix->grid(), matrix->cols())
                          ? MlxScaleType(*matrix, ScaleType(source.dtype))
                          : std::nullopt;
    if (!type || matrix->cols() * matrix->grid().bits % 32 != 0) {
      throw Error({.what = "a matrix that mlx does not hold exactly",
                   .where = "--to mlx: " + name,
                   .expected = "groups of 32, 64 or 128 whose scales and biases F16 or BF16 hold",
                   .found = std::to_string(matrix->grid().bits) + " bits, " +
                            std::string(Describe(matrix->grid().offset)) + ", groups of " +
                            std::to_string(matrix->group_columns())});
    }
    types[name] = *type;
  }
  const PackedForm form{
      .specs = [&](const std::string& module,
                   const QMatrix& matrix) { return MlxSpecs(module, matrix, types.at(module)); },
      .write = [&](TensorWriter& writer, const std::string& module,
                   const QMatrix& matrix) { WriteMlx(writer, module, matrix, types.at(module)); },
      .stacks_experts = true};
  Record config = FloatConfig(source);
  AddOldRopeKeys(config);
  config["quantization"] = Quantization(modules);
  config["quantization_config"] = config["quantization"];
  WriteModelFolder(source, config, form, "mlx", out);
}

namespace {

class Sizes : public FolderSizes {
 public:
  explicit Sizes(const ModelFolder& source)
      : FolderSizes(
            source,
            {.specs = [](const std::string& module, Index rows, Index cols, const Grid& grid,
                         DType own) { return MlxSpecs(module, rows, cols, grid, ScaleType(own)); },
             .stacks_experts = true,
             .format = "mlx"}) {}

  [[nodiscard]] std::uint64_t Whole(const ModelGrids& grids) const override {
    CheckTarget(FindTarget("mlx"), grids, source().weights.config, "--for");
    return FolderSizes::Whole(grids);
  }

  /// Biases that BF16 may not hold lie in F16, a name that is shorter by a letter in the header.
  [[nodiscard]] bool IsExact(const ModelGrids& grids) const override {
    if (ScaleType(OwnType(grids.ends.embedding.has_value())) == DType::kF16) return true;
    return std::ranges::all_of(GridsIn(grids.layers), [](const Grid& grid) {
      return grid.symmetric() || grid.offset == Offset::kFloat;
    });
  }
};

}  // namespace

std::unique_ptr<ContainerSizes> MlxSizes(const ModelFolder& source) {
  return std::make_unique<Sizes>(source);
}

std::string ServeMlx(const ModelFolder&, const std::filesystem::path& out) {
  return "mlx_lm.server --model " + ShellQuoted(out.string());
}

}  // namespace lieq
