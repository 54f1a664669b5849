#include "lieq/model/architectures.h"

#include <algorithm>
#include <array>

namespace lieq {
namespace {

// Defaults: transformers 4.57.1 and 5.24.0, models/*/configuration_*.py, which agree.
constexpr std::array kArchitectures{
    Architecture{.name = "LlamaForCausalLM",
                 .model_type = "llama",
                 .mlp_bias_by_config = true,
                 .gguf_name = "llama",
                 .gguf_interleaves = true,
                 .intermediate = 11008,
                 .vocab = 32000,
                 .max_positions = 2048},
    Architecture{.name = "Qwen2ForCausalLM",
                 .model_type = "qwen2",
                 .attention_bias = AttentionBias::kQkvAlways,
                 .windows = WindowRule::kSwitched,
                 .gguf_name = "qwen2",
                 .intermediate = 22016,
                 .kv_heads = 32,
                 .vocab = 151936,
                 .max_positions = 32768},
    Architecture{.name = "Qwen3ForCausalLM",
                 .model_type = "qwen3",
                 .qk_norm = true,
                 .windows = WindowRule::kSwitched,
                 .gguf_name = "qwen3",
                 .intermediate = 22016,
                 .kv_heads = 32,
                 .head_dim = 128,
                 .vocab = 151936,
                 .max_positions = 32768},
    Architecture{.name = "MistralForCausalLM",
                 .model_type = "mistral",
                 .attention_bias = AttentionBias::kNever,
                 .windows = WindowRule::kAll,
                 .intermediate = 14336,
                 .kv_heads = 8,
                 .vocab = 32000,
                 .max_positions = 131072},
    Architecture{.name = "MinistralForCausalLM",
                 .model_type = "ministral",
                 .attention_bias = AttentionBias::kNever,
                 .windows = WindowRule::kLayerTypes,
                 .intermediate = 14336,
                 .kv_heads = 8,
                 .vocab = 32000,
                 .max_positions = 131072},
    Architecture{.name = "GraniteForCausalLM",
                 .model_type = "granite",
                 .mlp_bias_by_config = true,
                 .multiplies = true,
                 .intermediate = 11008,
                 .vocab = 32000,
                 .max_positions = 2048},
    Architecture{.name = "SmolLM3ForCausalLM",
                 .model_type = "smollm3",
                 .mlp_bias_by_config = true,
                 .windows = WindowRule::kUnrotated,
                 .skips_rotations = true,
                 .gguf_name = "smollm3",
                 .gguf_interleaves = true,
                 .layers = 36,
                 .hidden = 2048,
                 .intermediate = 11008,
                 .heads = 16,
                 .kv_heads = 4,
                 .vocab = 128256,
                 .max_positions = 32768,
                 .rope_theta = 2000000.0,
                 .tied = true},
};

}  // namespace

std::span<const Architecture> Architectures() noexcept {
  return kArchitectures;
}

const Architecture* FindArchitecture(std::string_view name) noexcept {
  const auto* row = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                 [&](const Architecture& each) { return each.name == name; });
  return row == kArchitectures.end() ? nullptr : row;
}

const Architecture* FindModelType(std::string_view model_type) noexcept {
  const auto* row =
      std::find_if(kArchitectures.begin(), kArchitectures.end(),
                   [&](const Architecture& each) { return each.model_type == model_type; });
  return row == kArchitectures.end() ? nullptr : row;
}

std::string ArchitectureNames() {
  std::string names;
  for (std::size_t i = 0; i < kArchitectures.size(); ++i) {
    if (i > 0) names += i + 1 == kArchitectures.size() ? " or " : ", ";
    names += kArchitectures[i].name;
  }
  return names;
}

}  // namespace lieq
