#include "lieq/container/float_folder.h"

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/named_tensors.h"
#include "lieq/container/narrow.h"
#include "lieq/container/tensor_names.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

struct NamedValues {
  std::string name;
  std::span<const float> values;
  HeldAs stored = HeldAs::kAsIs;
};

/// The tensors of a layer that FloatLayer has values for, in the order they are written.
std::vector<NamedValues> LayerTensors(Index layer, const ModelConfig& config,
                                      const FloatLayer& weights) {
  std::vector<NamedValues> tensors;
  const LayerShape shape = config.Shape(layer);
  for (const Site site : config.Sites(layer)) {
    const auto index = static_cast<std::size_t>(site);
    const Matrix<float>& w = weights.weights[index];
    const std::string module = ModuleName(config, layer, site);
    const auto parts = Size(config.Parts(layer, site));
    const std::span<const float> all(w.data(), Size(w.size()));
    const std::size_t each = all.size() / parts;
    for (std::size_t part = 0; part < parts; ++part) {
      tensors.push_back({ModuleName(config, layer, site, static_cast<Index>(part)) + ".weight",
                         all.subspan(part * each, each)});
    }
    if (config.HasBias(shape, site)) tensors.push_back({module + ".bias", weights.biases[index]});
  }
  for (const LayerVectorRow& row : LayerVectorRows()) {
    if (!Has(config, shape, row.which)) continue;
    tensors.push_back({LayerTensor(config, layer, row.which), weights.*row.values, row.stored});
  }
  return tensors;
}

}  // namespace

FloatFolderWriter::FloatFolderWriter(const ModelFolder& source, bool untied, const fs::path& folder)
    : source_(source) {
  const ModelConfig& config = source.weights.config;
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& name, const std::string& like, bool wide) {
    const TensorRef& tensor = source.tensors.At(like);
    specs.push_back({name, wide ? DType::kF32 : tensor.dtype, tensor.shape});
  };
  add(std::string(kEmbedding), std::string(kEmbedding), false);
  if (untied || !config.tied) {
    add(std::string(kHead), std::string(config.tied ? kEmbedding : kHead), false);
  }
  add(FinalNorm(config), FinalNorm(config), false);
  const FloatLayer empty;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const auto& [name, values, stored] : LayerTensors(layer, config, empty)) {
      add(name, name, source.tensors.At(name).shape.size() == 2);
    }
  }
  for (const TensorSpec& spec : specs) specs_[spec.name] = spec;
  fs::create_directories(folder);
  Record record = source.config;
  if (untied) record["tie_word_embeddings"] = false;
  WriteFileAtomically(folder / "config.json", record.dump(2) + "\n");
  writer_.emplace(folder / "model.safetensors", std::move(specs),
                  std::map<std::string, std::string>{{"format", "pt"}});
}

void FloatFolderWriter::Write(const std::string& name, std::span<const float> values) {
  WriteRounded(*writer_, name, values, specs_.at(name).dtype);
}

void FloatFolderWriter::Ends(const FloatEnds* ends) {
  const auto copy = [&](std::string_view name) {
    writer_->Write(name, source_.tensors.At(name).bytes);
  };
  const bool head = specs_.contains(std::string(kHead));
  if (ends == nullptr) {
    copy(kEmbedding);
    if (head) copy(kHead);
    copy(FinalNorm(source_.weights.config));
    return;
  }
  const auto all = [](const Matrix<float>& m) { return std::span(m.data(), Size(m.size())); };
  Write(std::string(kEmbedding), all(ends->embedding));
  if (head) Write(std::string(kHead), all(ends->head));
  const ModelConfig& config = source_.weights.config;
  Write(FinalNorm(config), AsStored(ends->final_norm, HeldAs::kLessOffset, config));
}

void FloatFolderWriter::Layer(Index layer, const FloatLayer& weights) {
  const ModelConfig& config = source_.weights.config;
  for (const auto& [name, values, stored] : LayerTensors(layer, config, weights)) {
    if (stored == HeldAs::kAsIs) {
      Write(name, values);
    } else {
      Write(name, AsStored(values, stored, config));
    }
  }
}

void FloatFolderWriter::Commit() {
  writer_->Commit();
  writer_.reset();
}

ModelFolder OpenFloatFolder(const fs::path& folder, const ModelFolder& source) {
  ModelFolder model = OpenModel(folder);
  model.path = source.path;
  model.notes = source.notes;
  return model;
}

}  // namespace lieq
