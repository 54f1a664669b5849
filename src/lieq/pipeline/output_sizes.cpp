#include "lieq/pipeline/output_sizes.h"

#include <utility>

#include "lieq/container/exporters.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/size_budget.h"

namespace lieq {
namespace {

std::int64_t BytesOf(std::span<const TensorSpec> specs) {
  return static_cast<std::int64_t>(DataBytes(specs));
}

/// Of the folder that quantize writes.
class OwnSizes : public ContainerSizes {
 public:
  OwnSizes(const ModelFolder& model, bool untied)
      : model_(model), scale_(ScaleType(model.dtype)), untied_(untied) {}

  [[nodiscard]] std::uint64_t Whole(const ModelGrids& grids) const override {
    return PlanOutput(model_, grids, scale_, untied_).bytes;
  }

  [[nodiscard]] std::int64_t OfLinear(Index layer, Site site, const Grid& grid) const override {
    const ModelConfig& config = model_.weights.config;
    return BytesOf(
        PackedSpecs(Name(site), config.Out(layer, site), config.In(layer, site), grid, scale_));
  }

  [[nodiscard]] std::int64_t OfEnd(End end, const std::optional<Grid>& grid) const override {
    const ModelConfig& config = model_.weights.config;
    if (!grid) {
      return config.vocab * config.hidden * static_cast<std::int64_t>(ItemSize(model_.dtype));
    }
    const std::string_view module = end == End::kEmbedding ? kEmbeddingModule : kHeadModule;
    return BytesOf(EndSpecs(module, config, *grid, scale_));
  }

 private:
  const ModelFolder& model_;
  DType scale_;
  bool untied_;
};

/// Of a model whose head becomes a matrix of its own.
class UntiedSizes : public ContainerSizes {
 public:
  UntiedSizes(const Exporter& exporter, const ModelFolder& model) : model_(model) {
    model_.weights.config.tied = false;
    model_.weights.head = model_.weights.embedding;
    sizes_ = exporter.sizes(model_);
  }

  [[nodiscard]] std::uint64_t Whole(const ModelGrids& grids) const override {
    return sizes_->Whole(grids);
  }
  [[nodiscard]] bool IsExact(const ModelGrids& grids) const override {
    return sizes_->IsExact(grids);
  }
  [[nodiscard]] std::int64_t OfLinear(Index layer, Site site, const Grid& grid) const override {
    return sizes_->OfLinear(layer, site, grid);
  }
  [[nodiscard]] std::int64_t OfEnd(End end, const std::optional<Grid>& grid) const override {
    return sizes_->OfEnd(end, grid);
  }

 private:
  ModelFolder model_;
  std::unique_ptr<ContainerSizes> sizes_;
};

/// Null where it is the folder that quantize writes.
const Exporter* ExporterOf(const ContainerTarget* target) {
  if (target == nullptr) return nullptr;
  for (const Exporter& exporter : Exporters()) {
    if (exporter.name == target->name && exporter.sizes != nullptr) return &exporter;
  }
  return nullptr;
}

}  // namespace

bool IsElsewhere(const ContainerTarget* target) {
  return ExporterOf(target) != nullptr;
}

std::unique_ptr<ContainerSizes> SizesIn(const ContainerTarget* target, const ModelFolder& model,
                                        bool untied) {
  const Exporter* exporter = ExporterOf(target);
  if (exporter == nullptr) return std::make_unique<OwnSizes>(model, untied);
  if (untied && model.weights.config.tied) return std::make_unique<UntiedSizes>(*exporter, model);
  return exporter->sizes(model);
}

std::optional<BytesElsewhere> BytesFor(const ContainerTarget* target, const ModelFolder& model,
                                       const ModelGrids& grids, bool untied) {
  if (!IsElsewhere(target)) return std::nullopt;
  const auto sizes = SizesIn(target, model, untied);
  return BytesElsewhere{
      .container = target->name, .bytes = sizes->Whole(grids), .exact = sizes->IsExact(grids)};
}

Record ToJson(const BytesElsewhere& bytes, const ModelConfig& config) {
  return {{"container", bytes.container},
          {"bytes", bytes.bytes},
          {"file_bits_per_weight", FileBits(bytes.bytes, config)}};
}

}  // namespace lieq
