#include "lieq/pipeline/model_sizes.h"

#include "lieq/pipeline/result_record.h"

namespace lieq {

ModelSizes MeasureSizes(const ModelFolder& model) {
  const Weights& weights = model.weights;
  const ModelConfig& config = weights.config;
  ModelSizes sizes;
  for (Index index = 0; index < config.layers; ++index) {
    const LayerWeights& layer = weights.layers[Size(index)];
    const std::int64_t linear_weights = config.LayerWeightCount(index);
    double layer_bits = 0;
    for (const Linear& linear : layer.linears) {
      const std::int64_t count = Rows(linear.weight) * Cols(linear.weight);
      const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&linear.weight);
      const double each = packed != nullptr                      ? (*packed)->grid().bits
                          : TypeOf(linear.weight) == DType::kF32 ? 32
                                                                 : 16;
      layer_bits += each * static_cast<double>(count);
      sizes.stored_bits += packed != nullptr ? static_cast<double>((*packed)->stored_bits())
                                             : each * static_cast<double>(count);
      sizes.parameters += count + static_cast<std::int64_t>(linear.bias.size());
    }
    for (const LayerVectorRow& row : LayerVectorRows()) {
      sizes.parameters += static_cast<std::int64_t>((layer.*row.values).size());
    }
    sizes.code_bits += layer_bits;
    sizes.layer_bits.push_back(layer_bits / static_cast<double>(linear_weights));
    sizes.weights += linear_weights;
  }
  sizes.parameters += config.vocab * config.hidden * (config.tied ? 1 : 2) +
                      static_cast<std::int64_t>(weights.final_norm.size());
  sizes.bytes = SourceBytes(model);
  return sizes;
}

}  // namespace lieq
