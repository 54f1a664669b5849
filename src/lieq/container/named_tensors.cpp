#include "lieq/container/named_tensors.h"

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/tensor_names.h"

namespace lieq {

std::vector<float> AsStored(std::span<const float> values, HeldAs stored,
                            const ModelConfig& config) {
  std::vector<float> held(values.begin(), values.end());
  for (float& value : held) value = ToStored(value, stored, config);
  return held;
}

std::vector<NamedTensor> NamedTensors(const Weights& weights) {
  std::vector<NamedTensor> tensors;
  const auto vector = [&](std::string name, const std::vector<float>& values,
                          HeldAs stored = HeldAs::kAsIs) {
    if (values.empty()) return;
    tensors.push_back({std::move(name), &values, {std::ssize(values)}, stored});
  };
  tensors.push_back({std::string(kEmbeddingModule), &weights.embedding});
  if (!weights.config.tied) tensors.push_back({std::string(kHeadModule), &weights.head});
  vector(FinalNorm(weights.config), weights.final_norm, HeldAs::kLessOffset);
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    const LayerWeights& each = weights.layers[Size(layer)];
    for (const Site site : weights.config.Sites(layer)) {
      const std::string module = ModuleName(weights.config, layer, site);
      const Index parts = weights.config.Parts(layer, site);
      for (Index part = 0; part < parts; ++part) {
        const Index rows = Rows(each.At(site).weight) / parts;
        tensors.push_back({.name = ModuleName(weights.config, layer, site, part),
                           .values = &each.At(site).weight,
                           .rows = {part * rows, rows},
                           .experts = weights.config.IsOfExperts(layer, site) ? parts : 0,
                           .layer = layer,
                           .site = site});
      }
      vector(module + ".bias", each.At(site).bias);
    }
    for (const LayerVectorRow& row : LayerVectorRows()) {
      if ((each.*row.values).empty()) continue;
      vector(LayerTensor(weights.config, layer, row.which), each.*row.values, row.stored);
      tensors.back().shape = LayerTensorShape(weights.config, layer, row.which);
    }
  }
  return tensors;
}

}  // namespace lieq
