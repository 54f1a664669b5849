#include "lieq/pipeline/assemble.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "lieq/base/error.h"
#include "lieq/container/compare.h"
#include "lieq/container/folder_writer.h"
#include "lieq/container/model_by_layers.h"
#include "lieq/container/narrow.h"
#include "lieq/container/tensor_names.h"

namespace lieq {
namespace {

constexpr const char* kFormat = "pt";

struct LinearPlace {
  Index layer = 0;
  Site site{};
  Index part = 0;  // which of the experts, of a linear of those
};

/// Name of the weight tensor -> which linear it is.
std::map<std::string, LinearPlace, std::less<>> LinearTensors(const ModelConfig& config) {
  std::map<std::string, LinearPlace, std::less<>> places;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      for (Index part = 0; part < config.Parts(layer, site); ++part) {
        places[ModuleName(config, layer, site, part) + ".weight"] = {layer, site, part};
      }
    }
  }
  return places;
}

using Packed = std::shared_ptr<const QMatrix>;

/// The packed matrix of an end by its name as a float tensor; null where the source has it in
/// floats.
const AnyMatrix* PackedEnd(const ModelFolder& model, std::string_view name) {
  const Weights& weights = model.weights;
  const AnyMatrix* matrix = name == kEmbedding                      ? &weights.embedding
                            : name == kHead && !weights.config.tied ? &weights.head
                                                                    : nullptr;
  return matrix != nullptr && std::holds_alternative<Packed>(*matrix) ? matrix : nullptr;
}

/// The source's tensors as if all were floats, by name: packed ones are of the model's own type.
std::map<std::string, TensorSpec> FloatTensors(const ModelFolder& model) {
  std::map<std::string, TensorSpec> specs;
  for (const auto& [name, tensor] : model.tensors.tensors()) {
    specs[name] = {name, tensor.dtype, tensor.shape};
  }
  const ModelConfig& config = model.weights.config;
  const auto add = [&](const std::string& name, Index rows, Index cols) {
    specs.try_emplace(name, TensorSpec{name, model.dtype, {rows, cols}});
  };
  for (const std::string_view end : {kEmbedding, kHead}) {
    if (PackedEnd(model, end) != nullptr) add(std::string(end), config.vocab, config.hidden);
  }
  for (const auto& [name, place] : LinearTensors(config)) {
    add(name, config.Out(place.layer, place.site) / config.Parts(place.layer, place.site),
        config.In(place.layer, place.site));
  }
  return specs;
}

/// The grid of an end that becomes packed, by the name of its float tensor.
std::optional<Grid> EndGrid(const EndGrids& ends, const ModelConfig& config,
                            std::string_view name) {
  if (name == std::string(kEmbeddingModule) + ".weight") return ends.embedding;
  if (name == std::string(kHeadModule) + ".weight" && !config.tied) return ends.head;
  return std::nullopt;
}

}  // namespace

OutputFiles PlanOutput(const ModelFolder& model, const ModelGrids& grids, DType scale_type,
                       bool untied) {
  ModelConfig config = model.weights.config;
  const bool parts = untied && config.tied;
  if (parts) config.tied = false;
  const auto linears = LinearTensors(config);
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& name, const TensorSpec& tensor) {
    if (const std::optional<Grid> grid = EndGrid(grids.ends, config, name)) {
      const auto packed = EndSpecs(name.substr(0, name.rfind('.')), config, *grid, scale_type);
      specs.insert(specs.end(), packed.begin(), packed.end());
      return;
    }
    if (grids.ends.embedding && config.tied && name == std::string(kHeadModule) + ".weight") {
      return;  // a copy of the embedding: the quantized one stands for both
    }
    const auto place = linears.find(name);
    if (place == linears.end()) {
      specs.push_back({name, tensor.dtype, tensor.shape});
      return;
    }
    const auto [layer, site, part] = place->second;
    const auto packed =
        PackedSpecs(ModuleName(config, layer, site, part),
                    config.Out(layer, site) / config.Parts(layer, site), config.In(layer, site),
                    grids.layers[Size(layer)][static_cast<std::size_t>(site)], scale_type);
    specs.insert(specs.end(), packed.begin(), packed.end());
  };
  std::map<std::string, TensorSpec> tensors = FloatTensors(model);
  if (parts) tensors.try_emplace(std::string(kHead), tensors.at(std::string(kEmbedding)));
  for (const auto& [name, tensor] : tensors) add(name, tensor);

  return SplitOutput(std::move(specs), {{"format", kFormat}});
}

namespace {

/// Copies a source's tensor in parts, giving its pages back as it goes.
void CopyTensor(const ModelFolder& model, const TensorRef& tensor, TensorWriter& writer) {
  constexpr std::size_t kPart = std::size_t{8} << 20;
  for (std::size_t at = 0; at < tensor.bytes.size(); at += kPart) {
    const auto part = tensor.bytes.subspan(at, std::min(kPart, tensor.bytes.size() - at));
    writer.Write(tensor.name, part);
    for (const auto& map : model.tensors.maps()) map->Drop(part);
  }
}

/// Writes a packed end of the source as floats of 16 bits.
void WidenEnd(const ModelFolder& model, const AnyMatrix& matrix, const TensorSpec& spec,
              TensorWriter& writer) {
  Matrix<float> row(1, Cols(matrix));
  for (Index i = 0; i < Rows(matrix); ++i) {
    WidenRows(matrix, i, row.view());
    WriteRounded(writer, spec.name, row.view().Row(0), spec.dtype);
  }
  model.weights.Release(matrix);
}

}  // namespace

namespace {

using LayerFile = std::function<std::filesystem::path(Index, Site)>;

/// Layers that were made hold all experts of a linear in one matrix: writes one of them, all of its
/// tensors where the first is asked for.
class ExpertWriter {
 public:
  ExpertWriter(const LayerFile& layer_file, const ModelConfig& config, const LayerGrids& grids)
      : layer_file_(layer_file), config_(config), grids_(grids) {}

  void Write(TensorWriter& writer, const std::string& module, const LinearPlace& place) {
    if (module == written_) return;
    written_ = module;
    Held& held = held_[static_cast<std::size_t>(place.site)];
    if (held.layer != place.layer) Read(place, held);
    const Index rows = held.all.rows() / config_.Parts(place.layer, place.site);
    WritePacked(writer, module, held.all.Slice(place.part * rows, rows), held.scale_type);
  }

 private:
  struct Held {
    Index layer = -1;
    QMatrix all;  // of all experts
    DType scale_type = DType::kF16;
  };

  void Read(const LinearPlace& place, Held& held) const {
    const TensorFile file = TensorFile::Open(layer_file_(place.layer, place.site));
    const std::string module = ModuleName(place.layer, place.site);
    held.layer = place.layer;
    held.all =
        ReadPacked(file, module, grids_[Size(place.layer)][static_cast<std::size_t>(place.site)]);
    const std::string scale = module + ".weight_scale";
    held.scale_type = file.Has(scale) ? file.At(scale).dtype : DType::kF16;
  }

  const LayerFile& layer_file_;
  const ModelConfig& config_;
  const LayerGrids& grids_;
  std::string written_;  // the module
  std::array<Held, kSites> held_;
};

}  // namespace

void AssembleModel(const ModelFolder& model, const ModelGrids& grids, const OutputFiles& files,
                   const std::function<std::filesystem::path(Index, Site)>& layer_file,
                   const std::filesystem::path& end_file, const std::filesystem::path& folder) {
  // Packed tensor -> its linear; the name of a module plus one of the format's suffixes.
  std::map<std::string, LinearPlace, std::less<>> places;
  const ModelConfig& shapes = model.weights.config;
  for (Index layer = 0; layer < shapes.layers; ++layer) {
    for (const Site site : shapes.Sites(layer)) {
      for (Index part = 0; part < shapes.Parts(layer, site); ++part) {
        places[ModuleName(shapes, layer, site, part)] = {layer, site, part};
      }
    }
  }
  const auto write = [&](TensorWriter& writer, const OutputFiles::File& file) {
    std::optional<TensorFile> open;  // what the last tensor came from
    ExpertWriter experts(layer_file, shapes, grids.layers);
    std::filesystem::path open_file;
    for (const TensorSpec& spec : file.specs) {
      const std::string module = spec.name.substr(0, spec.name.rfind('.'));
      const auto place = places.find(module);
      // A tied head may have scales beside the embedding that it shares.
      const bool tied = model.weights.config.tied;
      const bool is_end =
          (module == kEmbeddingModule && grids.ends.embedding) ||
          (module == kHeadModule && (tied ? grids.ends.embedding : grids.ends.head));
      const bool linear = place != places.end();
      const bool packed = is_end || (linear && !model.tensors.Has(spec.name));
      if (const AnyMatrix* end = PackedEnd(model, spec.name); end != nullptr && !is_end) {
        WidenEnd(model, *end, spec, writer);
        continue;
      }
      if (!packed) {
        CopyTensor(model, model.tensors.At(spec.name), writer);
        continue;
      }
      if (linear && shapes.IsOfExperts(place->second.layer, place->second.site)) {
        experts.Write(writer, module, place->second);
        continue;
      }
      const auto packed_file =
          is_end ? end_file : layer_file(place->second.layer, place->second.site);
      if (open_file != packed_file) {
        open.reset();
        open = TensorFile::Open(packed_file);
        open_file = packed_file;
      }
      // Layers and ends that were made are named as Llama's (code_store.h).
      const std::string suffix = spec.name.substr(module.size());
      const std::string stored =
          is_end ? spec.name : ModuleName(place->second.layer, place->second.site) + suffix;
      writer.Write(spec.name, open->At(stored).bytes);
    }
  };
  Record config = FloatConfig(model);
  config["quantization_config"] = QuantizationConfig(grids, model.weights.config);
  WriteFolder(model, config, files, kFormat, write, folder);
}

namespace {

/// The values of 16 bits that WidenEnd writes of a packed end.
std::shared_ptr<Matrix<float>> Widened(const AnyMatrix& matrix, DType type) {
  auto wide = std::make_shared<Matrix<float>>(Rows(matrix), Cols(matrix));
  WidenRows(matrix, 0, wide->view());
  for (float& value : std::span(wide->data(), Size(wide->size()))) value = Rounded(value, type);
  return wide;
}

/// The ends as they were to be written; `weights` holds what they point to.
void ExpectEnds(const ModelFolder& model, const EndGrids& ends,
                const std::filesystem::path& end_file, Weights& weights) {
  const auto expect = [&](std::string_view module, const std::optional<Grid>& grid,
                          AnyMatrix& matrix) {
    if (grid) {
      matrix =
          std::make_shared<const QMatrix>(ReadPacked(TensorFile::Open(end_file), module, *grid));
    } else if (std::holds_alternative<Packed>(matrix)) {
      const auto wide = Widened(matrix, model.dtype);
      matrix = View<const float, 2>(wide->view());
      weights.owners.push_back(wide);
    }
  };
  expect(kEmbeddingModule, ends.embedding, weights.embedding);
  if (weights.config.tied) {
    weights.head = weights.embedding;
  } else {
    expect(kHeadModule, ends.head, weights.head);
  }
}

/// A layer of the source with the codes that its files hold.
LayerWeights ExpectedLayer(const ModelFolder& model, Index layer, const LayerGrids& grids,
                           const std::function<std::filesystem::path(Index, Site)>& layer_file) {
  LayerWeights expected = model.weights.layers[Size(layer)];
  for (const Site site : model.weights.config.Sites(layer)) {
    const TensorFile file = TensorFile::Open(layer_file(layer, site));
    expected.At(site).weight = std::make_shared<const QMatrix>(ReadPacked(
        file, ModuleName(layer, site), grids[Size(layer)][static_cast<std::size_t>(site)]));
  }
  return expected;
}

}  // namespace

void ReadBack(const ModelFolder& model, const ModelGrids& grids,
              const std::function<std::filesystem::path(Index, Site)>& layer_file,
              const std::filesystem::path& end_file, const std::filesystem::path& folder) {
  ModelComparer comparer;
  const ModelFolder written =
      OpenModelByLayers(folder, [&](Index layer, const LayerWeights& found) {
        comparer.Layer(model.weights.config, layer,
                       ExpectedLayer(model, layer, grids.layers, layer_file), found);
      });
  Weights expected = model.weights;
  ExpectEnds(model, grids.ends, end_file, expected);
  if (comparer.Configuration(expected.config, written.weights.config)) {
    comparer.Ends(expected, written.weights);
  }
  const Comparison comparison = comparer.Take();
  if (comparison.equal()) return;
  const Difference& first = comparison.differences.front();
  throw Error({.what = "what was written is not what was made: " + first.kind + " differ",
               .where = folder.string() + ": " + first.tensor + PlaceOf(first),
               .expected = first.expected,
               .found = first.found,
               .hint = "the disk may be at fault: the finished layers are kept, and the same "
                       "command tries again"});
}

}  // namespace lieq
