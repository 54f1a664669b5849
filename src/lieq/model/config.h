// What a decoder language model is: shapes, and the few options in which architectures differ.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// The seven linears of a decoder layer, in the order of computation.
enum class Site : std::uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr int kSites = 7;
inline constexpr std::array<Site, kSites> kAllSites{Site::kQ,    Site::kK,  Site::kV,   Site::kO,
                                                    Site::kGate, Site::kUp, Site::kDown};
/// "q", "k", "v", "o", "gate", "up", "down"
[[nodiscard]] std::string_view Name(Site site) noexcept;
/// Module inside a layer: "self_attn.q_proj" ... "mlp.down_proj"
[[nodiscard]] std::string_view Module(Site site) noexcept;

/// Linears that share one input: q, k and v; o; gate and up; down. Fused kernels want one width in
/// each, so plans speak of units.
enum class Unit : std::uint8_t { kQkv, kO, kGateUp, kDown };
inline constexpr int kUnits = 4;
inline constexpr std::array<Unit, kUnits> kAllUnits{Unit::kQkv, Unit::kO, Unit::kGateUp,
                                                    Unit::kDown};
/// "qkv", "o", "gate_up", "down"
[[nodiscard]] std::string_view Name(Unit unit) noexcept;
[[nodiscard]] Unit UnitOf(Site site) noexcept;
/// The linears of a unit, in order.
[[nodiscard]] std::span<const Site> SitesOf(Unit unit) noexcept;

/// How a model that was made for `original_context` positions turns at longer ones.
enum class RopeScaling : std::uint8_t {
  kNone,
  kLinear,  // all frequencies over `factor`
  kLlama3,  // low ones over `factor` (Llama 3.1)
  kYarn,    // the same by how often they turn, and cosines and sines times attention_factor
            // (Peng et al., arXiv:2309.00071)
};
/// "default", "linear", "llama3", "yarn": as transformers names them.
[[nodiscard]] std::string_view Name(RopeScaling scaling) noexcept;

/// Rotary position embedding (Su et al., arXiv:2104.09864).
struct Rope {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double original_context = 8192;  // of kLlama3 and kYarn
  double low_freq_factor = 1.0;    // of kLlama3
  double high_freq_factor = 4.0;
  double beta_fast = 32;  // of kYarn: turns within original_context above which a frequency stays
  double beta_slow = 1;   // and below which it is over `factor` whole
  bool truncate = true;   // the dimensions of both are rounded outwards
  double attention_factor = 1;

  friend bool operator==(const Rope&, const Rope&) = default;
};

/// How a layer lets tokens see one another.
enum class Mixer : std::uint8_t { kAttention };

/// What a layer has of its own. As it stands here, a layer of Llama, Qwen2 and Qwen3.
struct LayerShape {
  Mixer mixer = Mixer::kAttention;
  Index window = 0;     // tokens that one sees, itself counted; 0: all before it
  bool rotates = true;  // queries and keys turn with their position

  friend bool operator==(const LayerShape&, const LayerShape&) = default;
};

/// Invariants (CheckConfig): all extents >= 1, heads divisible by kv_heads, head_dim even.
struct ModelConfig {
  std::string architecture;  // "Qwen3ForCausalLM"
  Index layers = 0;
  Index hidden = 0;
  Index intermediate = 0;
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  Index vocab = 0;
  Index max_positions = 0;
  double rms_eps = 1e-6;
  Rope rope;
  bool tied = false;  // the head is the embedding
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // RMS norm of each query and key head (Qwen3)
  // Of Granite:
  double embedding_multiplier = 1;  // what is looked up is multiplied by it
  double attention_multiplier = 0;  // of queries and keys, in place of 1 / sqrt(head_dim); 0: that
  double residual_multiplier = 1;   // what o and down give is multiplied by it
  double logits_scaling = 1;        // logits are divided by it

  std::vector<LayerShape> shapes;  // [layers], or empty where all are LayerShape{}

  [[nodiscard]] LayerShape Shape(Index layer) const;
  /// Rows and columns of a linear: [out, in].
  [[nodiscard]] Index Out(Site site) const noexcept;
  [[nodiscard]] Index In(Site site) const noexcept;
  [[nodiscard]] bool HasBias(Site site) const noexcept;
  /// Weights of the seven linears of one layer, biases and norms not counted.
  [[nodiscard]] std::int64_t LayerWeightCount() const noexcept;
};

/// Throws Error naming `where` and the first value out of range.
void CheckConfig(const ModelConfig& config, std::string_view where);

}  // namespace lieq
