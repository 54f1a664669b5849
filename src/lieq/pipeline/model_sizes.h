// What a model takes, float or quantized.
#pragma once

#include <cstdint>
#include <vector>

#include "lieq/container/model_folder.h"

namespace lieq {

/// What the linears of the decoder take, in bits.
struct ModelSizes {
  std::int64_t weights = 0;        // of the decoder's linears
  double code_bits = 0;            // sum of width * weights
  double stored_bits = 0;          // with scales and zero-points
  std::int64_t parameters = 0;     // of the whole model, the embedding once where tied
  std::uint64_t bytes = 0;         // of the weight files
  std::vector<double> layer_bits;  // code bits of each layer

  /// All-in bits a weight of the decoder's linears.
  [[nodiscard]] double BitsPerWeight() const noexcept {
    return stored_bits / static_cast<double>(weights);
  }
};

[[nodiscard]] ModelSizes MeasureSizes(const ModelFolder& model);

}  // namespace lieq
