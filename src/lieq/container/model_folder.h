// Models on disk: folders in Hugging Face's layout (config.json, safetensors, tokenizer.json) and
// GGUF files.
//
// Reads float checkpoints (BF16, F16, F32) and compressed-tensors "pack-quantized" ones into the
// same Weights; see docs/formats.md.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/weights.h"

namespace lieq {

struct ModelFolder {
  std::filesystem::path path;
  Record config;       // config.json as it stands, keys in order; of a GGUF file what it would be
  TensorFile tensors;  // of a GGUF file the float ones, by their names in folders
  Weights weights;
  DType dtype = DType::kBF16;  // of the embedding: the model's own float type
  bool quantized = false;
  EdgeGrids edges;  // of the embedding and the head, where they are quantized
  /// tokenizer.json and tokenizer_config.json, where the model's file holds them in another form.
  std::string tokenizer, tokenizer_config;
  std::string record;  // lieq.json, where the model's file holds it
};

/// Throws Error: no such folder (for a hub name: how to download it), no config.json, unsupported
/// architecture or option (by its name), missing or unread tensors, wrong dtype or shape.
[[nodiscard]] ModelFolder OpenModel(const std::filesystem::path& folder);

/// config.json alone. `where` names the file in errors.
[[nodiscard]] ModelConfig ParseModelConfig(const Json& config, const std::string& where);

/// "model.layers.3.mlp.down_proj": the module of a linear, without ".weight".
[[nodiscard]] std::string ModuleName(Index layer, Site site);

}  // namespace lieq
