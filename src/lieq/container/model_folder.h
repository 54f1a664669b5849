// Models on disk: folders in Hugging Face's layout (config.json, safetensors, tokenizer.json) and
// GGUF files.
//
// Reads float checkpoints (BF16, F16, F32) and compressed-tensors "pack-quantized" ones into the
// same Weights; see docs/formats.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/weights.h"

namespace lieq {

struct ModelFolder {
  std::filesystem::path path;
  Record config;       // config.json as it stands, keys in order; of a GGUF file what it would be
  TensorFile tensors;  // those of floats, by their names in folders
  Weights weights;
  DType dtype = DType::kBF16;  // of the embedding: the model's own float type
  bool quantized = false;
  EndGrids ends;  // of the embedding and the head, where they are quantized
  /// What was left aside, repaired or taken to mean something, a sentence each, for the user to
  /// read.
  std::vector<std::string> notes;
  /// tokenizer.json and tokenizer_config.json, where the model's file holds them in another form.
  std::string tokenizer, tokenizer_config;
  /// Why they are not read from it, where it should hold them.
  std::optional<Problem> tokenizer_problem;
  std::string record;             // lieq.json, where the model's file holds it
  std::string generation_config;  // generation_config.json, likewise
};

/// Throws Error: what RequireModelFolder refuses, unsupported architecture or option (by its name),
/// missing or unread tensors, wrong dtype or shape.
[[nodiscard]] ModelFolder OpenModel(const std::filesystem::path& folder);

/// config.json alone. `where` names the file in errors; notes: what ModelFolder says of them.
[[nodiscard]] ModelConfig ParseModelConfig(const Json& config, const std::string& where,
                                           std::vector<std::string>* notes = nullptr);

/// "model.layers.3.mlp.down_proj": the module of a linear, without ".weight".
[[nodiscard]] std::string ModuleName(Index layer, Site site);
/// As the model's class names it: "model.layers.3.self_attn.qkv_proj".
[[nodiscard]] std::string ModuleName(const ModelConfig& config, Index layer, Site site);
/// Of one of the linear's parts: "model.layers.3.mlp.experts.5.down_proj"
[[nodiscard]] std::string ModuleName(const ModelConfig& config, Index layer, Site site, Index part);

}  // namespace lieq
