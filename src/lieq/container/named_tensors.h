// The tensors of a model one by one, with their names in Hugging Face's layout.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "lieq/model/weights.h"

namespace lieq {

struct NamedTensor {
  std::string name;  // of a matrix its module, "model.layers.3.mlp.down_proj"; of a vector the
                     // whole name, "model.norm.weight"
  std::variant<const AnyMatrix*, const std::vector<float>*> values;
};

/// Of a model: embedding, head of its own, final norm, then the layers in order; vectors without
/// values are left out. The pointers are into `weights`.
[[nodiscard]] std::vector<NamedTensor> NamedTensors(const Weights& weights);

}  // namespace lieq
