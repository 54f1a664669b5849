// The tensors of a model one by one, with their names in Hugging Face's layout.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "lieq/model/weights.h"

namespace lieq {

struct NamedTensor {
  std::string name;  // of a matrix its module, "model.layers.3.mlp.down_proj"; of a vector the
                     // whole name, "model.norm.weight"
  std::variant<const AnyMatrix*, const std::vector<float>*> values;
  std::vector<std::int64_t> shape = {};  // of a vector, where it is not just its length
  HeldAs stored = HeldAs::kAsIs;         // of a vector
  std::array<Index, 2> rows = {};        // of a matrix: the first, and how many; 0: all
  Index experts = 0;                     // of a matrix: those that it is one of; 0: it is none
  Index layer = -1;                      // of a linear; -1: an end, or a vector
  Site site{};                           // of a linear

  /// The matrix of this name.
  [[nodiscard]] AnyMatrix Matrix() const {
    const AnyMatrix& whole = *std::get<const AnyMatrix*>(values);
    return rows[1] == 0 ? whole : RowsOf(whole, rows[0], rows[1]);
  }
};

/// The values as files hold them: norms exact where they were read from one in 16 bits.
[[nodiscard]] std::vector<float> AsStored(std::span<const float> values, HeldAs stored,
                                          const ModelConfig& config);

/// Of a model: embedding, head of its own, final norm, then the layers in order; vectors without
/// values are left out. The pointers are into `weights`.
[[nodiscard]] std::vector<NamedTensor> NamedTensors(const Weights& weights);

}  // namespace lieq
