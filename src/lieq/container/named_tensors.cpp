#include "lieq/container/named_tensors.h"

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/tensor_names.h"

namespace lieq {

std::vector<NamedTensor> NamedTensors(const Weights& weights) {
  std::vector<NamedTensor> tensors;
  const auto vector = [&](std::string name, const std::vector<float>& values) {
    if (!values.empty()) tensors.push_back({std::move(name), &values});
  };
  tensors.push_back({std::string(kEmbeddingModule), &weights.embedding});
  if (!weights.config.tied) tensors.push_back({std::string(kHeadModule), &weights.head});
  vector(std::string(kFinalNorm), weights.final_norm);
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    const LayerWeights& each = weights.layers[Size(layer)];
    for (const Site site : kAllSites) {
      const std::string module = ModuleName(layer, site);
      tensors.push_back({module, &each.At(site).weight});
      vector(module + ".bias", each.At(site).bias);
    }
    vector(LayerTensor(layer, kAttentionNorm), each.attention_norm);
    vector(LayerTensor(layer, kMlpNorm), each.mlp_norm);
    vector(LayerTensor(layer, kQNorm), each.q_norm);
    vector(LayerTensor(layer, kKNorm), each.k_norm);
  }
  return tensors;
}

}  // namespace lieq
