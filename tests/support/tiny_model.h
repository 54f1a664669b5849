// Random checkpoints of a few hundred kilobytes, whole enough for every stage to run on them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "lieq/base/types.h"
#include "lieq/io/json.h"
#include "lieq/tensor/dtype.h"

namespace lieq {

struct TinyModelOptions {
  std::string architecture = "Qwen3ForCausalLM";  // or another of Architectures()
  Index layers = 3;
  Index hidden = 128;
  Index intermediate = 256;
  Index heads = 4;
  Index kv_heads = 2;
  Index head_dim = 32;
  Index vocab = 288;  // at least 267, the tokens of the tokenizer
  Index window = 0;   // "sliding_window", where it is not 0
  bool tied = true;
  bool attention_bias = false;  // Llama and Qwen3: of q, k, v and o; Qwen2 has its own always
  bool mlp_bias = false;        // Llama
  bool llama3_rope = false;
  bool old_rope_keys = false;  // rope_theta and rope_scaling instead of rope_parameters
  DType dtype = DType::kBF16;  // or kF16, kF32
  int shards = 1;
  std::uint64_t seed = 1;
};

/// The config.json of such a model.
[[nodiscard]] Record TinyModelConfig(const TinyModelOptions& options);

/// Makes `folder` and in it config.json, model.safetensors (or shards with their index; weights of
/// standard deviation 0.05, norms and biases around 1 and 0) and tokenizer.json: byte-level BPE of
/// 256 bytes, 10 merges and "<|endoftext|>". The bytes depend on the options alone.
void MakeTinyModel(const std::filesystem::path& folder, const TinyModelOptions& options = {});

}  // namespace lieq
