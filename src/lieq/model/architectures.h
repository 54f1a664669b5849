// The architectures that are read: a table of rows, one for each class of Hugging Face
// transformers.
//
// To add one: a row here, if its arithmetic is that of Forward.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lieq/base/types.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_vectors.h"

namespace lieq {

/// How config.json says which layers see a window alone.
enum class WindowRule : std::uint8_t {
  kNone,         // none does
  kSwitched,     // "use_sliding_window", then layers from "max_window_layers" on
  kAll,          // all, where "sliding_window" is not null
  kSwitchedAll,  // "use_sliding_window", then all
  kLayerTypes,   // those of "layer_types"; where there is none, all
  kUnrotated,    // "use_sliding_window", then layers without rotation
  kPattern,      // all but every n-th, "sliding_window_pattern" being n
};

/// Names of tensors inside a layer and of the last norm. As they stand here: Llama's.
struct LayerNames {
  std::array<std::string_view, kSites> linears{
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  std::array<std::string_view, kSites> mixer{};  // of layers without attention, in their place
  // Of layers with experts, in place of the MLP's; an expert's number comes behind "experts.".
  std::array<std::string_view, kSites> experts{
      "", "", "", "", "mlp.experts.gate_proj", "mlp.experts.up_proj", "mlp.experts.down_proj"};
  std::array<std::string_view, kLayerVectors> vectors{"input_layernorm.weight",
                                                      "post_attention_layernorm.weight",
                                                      "self_attn.q_norm.weight",
                                                      "self_attn.k_norm.weight",
                                                      "",
                                                      "",
                                                      "",
                                                      "",
                                                      "",
                                                      "",
                                                      "",
                                                      "",
                                                      "",
                                                      "mlp.gate.weight"};
  std::string_view final_norm = "model.norm.weight";
};
inline constexpr LayerNames kLlamaNames{};

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
      false;  // layers of "no_rope_layers" do not rotate; every fourth by default
  bool unrotated_beyond_windows = false;  // where some see a window, others do not rotate
  Index window_pattern = 0;               // of kPattern, where the config has none
  bool ropes_by_type = false;             // "rope_parameters" may have one for each layer type
  bool fused = false;                     // qkv_proj and gate_up_proj
  bool partial_rotary = false;            // "partial_rotary_factor" counts
  double rotary_share = 1;                // its default
  bool gated_attention = false;           // q_proj gives a gate for each head
  NormPlace norms = NormPlace::kBefore;
  bool whole_qk_norm = false;
  bool late_qk_norm = false;  // qk_norm comes behind the rotation
  bool alpha_rope = false;    // "alpha" of a dynamic rope is a power that theta is multiplied by
  double norm_offset = 0;
  Activation activation = Activation::kSilu;
  bool gemma = false;  // scaled embedding, "query_pre_attn_scalar", caps of scores and logits
  double attention_cap = 0, logit_cap = 0;  // their defaults
  bool tempered = false;                    // "llama_4_scaling_beta" counts
  bool clips = false;                       // "clip_qkv" counts
  ExpertShape experts;                      // defaults; a count of 0: there are none
  bool dense_between = false;               // "decoder_sparse_step" and "mlp_only_layers" count,
                                            // and "moe_intermediate_size" is not the width of all
  Mixer mixer = Mixer::kAttention;          // of layers of another type than attention
  const LayerNames* names = &kLlamaNames;
  std::string_view wrapper_type;  // "model_type" of a model that it is the text part of
  std::string_view wrapper;       // that model's class
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
  Index window = 4096;
  double rms_eps = 1e-6;
  double rope_theta = 10000.0;
  double local_theta = 10000.0;  // of layers with a window, where ropes_by_type
  bool tied = false;
};

[[nodiscard]] std::span<const Architecture> Architectures() noexcept;

/// By class name or, where there is none, by model type; null where no row has it.
[[nodiscard]] const Architecture* FindArchitecture(std::string_view name) noexcept;
[[nodiscard]] const Architecture* FindModelType(std::string_view model_type) noexcept;

/// "LlamaForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM", for messages and help.
[[nodiscard]] std::string ArchitectureNames();

}  // namespace lieq
