// Experts that lie in one tensor of three dimensions, as transformers 5 and MLX hold them.
#pragma once

#include <string>
#include <vector>

#include "lieq/io/tensor_file.h"
#include "lieq/model/config.h"

namespace lieq {

/// Gives each expert tensors of its own, with the names that folders of single experts have, where
/// the bytes are. A note where there were some. Throws Error for a tensor of such a name with
/// another number of experts.
[[nodiscard]] std::vector<std::string> SplitExperts(TensorFile& file, const ModelConfig& config);

/// "model.layers.3.mlp.switch_mlp.up_proj", as MLX names all experts, of the name of one; the name
/// itself where it is no expert's.
[[nodiscard]] std::string SwitchModule(const std::string& module);

}  // namespace lieq
