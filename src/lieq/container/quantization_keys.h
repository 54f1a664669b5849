// The keys of config.json under which containers say how matrices are packed.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "lieq/container/model_folder.h"

namespace lieq {

/// compressed-tensors' and GPTQ's, and MLX's, which repeats itself under the first.
inline constexpr std::array<std::string_view, 2> kQuantizationKeys{"quantization_config",
                                                                   "quantization"};

[[nodiscard]] bool SaysQuantized(const Record& config);

/// Whether there are weights and nothing but weights: floats named ".weight" or ".bias". What
/// config.json says of quantization, by whatever method, then is left over from before they were
/// widened: there is nothing that it could describe.
[[nodiscard]] bool HoldsFloatsOnly(const TensorFile& tensors);

/// Erases the keys; returns a sentence on what was left aside, for the log and the records.
std::string EraseQuantization(Record& config);

}  // namespace lieq
