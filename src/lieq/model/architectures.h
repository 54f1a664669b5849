// The architectures that are read: a table of rows, one for each class of Hugging Face
// transformers.
//
// To add one: a row here, if its arithmetic is that of Forward.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lieq/base/types.h"

namespace lieq {

/// How config.json says which layers see a window alone.
enum class WindowRule : std::uint8_t {
  kNone,        // none does
  kSwitched,    // "use_sliding_window", then layers from "max_window_layers" on
  kAll,         // all, where "sliding_window" is not null
  kLayerTypes,  // those of "layer_types"; where there is none, all
  kUnrotated,   // "use_sliding_window", then layers without rotation
};

/// Which linears of attention have a bias.
enum class AttentionBias : std::uint8_t {
  kByConfig,   // q, k, v and o where "attention_bias" is true
  kQkvAlways,  // q, k and v, never o, whatever the config says
  kNever,      // none, whatever the config says
};

struct Architecture {
  std::string_view name;        // "LlamaForCausalLM", in "architectures"
  std::string_view model_type;  // "llama", in "model_type"
  AttentionBias attention_bias = AttentionBias::kByConfig;
  bool mlp_bias_by_config = false;  // "mlp_bias" counts
  bool qk_norm = false;             // RMS norm of each query and key head
  bool multiplies = false;          // the four multipliers of Granite count
  WindowRule windows = WindowRule::kNone;
  bool skips_rotations =
      false;                   // layers of "no_rope_layers" do not rotate; every fourth by default
  std::string_view gguf_name;  // "llama", in general.architecture; empty: none is read or written
  bool gguf_interleaves =
      false;  // rows of q and k stand there with the halves of heads interleaved

  // What the class's config stands in for keys that config.json leaves out.
  Index layers = 32;
  Index hidden = 4096;
  Index intermediate = 0;
  Index heads = 32;
  Index kv_heads = 0;  // 0: as many as heads
  Index head_dim = 0;  // 0: hidden / heads
  Index vocab = 0;
  Index max_positions = 0;
  double rms_eps = 1e-6;
  double rope_theta = 10000.0;
  bool tied = false;
};

[[nodiscard]] std::span<const Architecture> Architectures() noexcept;

/// By class name or, where there is none, by model type; null where no row has it.
[[nodiscard]] const Architecture* FindArchitecture(std::string_view name) noexcept;
[[nodiscard]] const Architecture* FindModelType(std::string_view model_type) noexcept;

/// "LlamaForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM", for messages and help.
[[nodiscard]] std::string ArchitectureNames();

}  // namespace lieq
