// What a decoder language model is: shapes, and the few options in which architectures differ.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
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
/// Module inside a layer of Llama: "self_attn.q_proj" ... "mlp.down_proj"
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
/// The linears that a unit may have, in order; every unit has the first of them.
[[nodiscard]] std::span<const Site> SitesOf(Unit unit) noexcept;

/// How a model that was made for `original_context` positions turns at longer ones.
enum class RopeScaling : std::uint8_t {
  kNone,
  kLinear,    // all frequencies over `factor`
  kLlama3,    // low ones over `factor` (Llama 3.1)
  kYarn,      // the same by how often they turn, and cosines and sines times attention_factor
              // (Peng et al., arXiv:2309.00071)
  kDynamic,   // another theta where sequences are longer than original_context (NTK)
  kLongRope,  // each over a factor of its own, one list for sequences up to original_context and
              // one for longer ones (Ding et al., arXiv:2402.13753)
};
/// "default", "linear", "llama3", "yarn", "dynamic", "longrope": as transformers names them.
[[nodiscard]] std::string_view Name(RopeScaling scaling) noexcept;

/// Rotary position embedding (Su et al., arXiv:2104.09864).
struct Rope {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double original_context = 8192;  // of all but kNone and kLinear
  double low_freq_factor = 1.0;    // of kLlama3
  double high_freq_factor = 4.0;
  double beta_fast = 32;  // of kYarn: turns within original_context above which a frequency stays
  double beta_slow = 1;   // and below which it is over `factor` whole
  bool truncate = true;   // the dimensions of both are rounded outwards
  double attention_factor = 1;                      // of kYarn and kLongRope
  std::vector<double> short_factors, long_factors;  // of kLongRope: one for each frequency

  friend bool operator==(const Rope&, const Rope&) = default;
};

/// How a layer lets tokens see one another.
enum class Mixer : std::uint8_t {
  kAttention,
  kGatedDelta,  // a short convolution and the gated delta rule (Yang et al., arXiv:2412.06464)
  kShortConv,   // a short convolution between two gates (LFM2)
};

/// Where RMS norms stand: before a block reads the stream, behind it on what it adds, or both.
enum class NormPlace : std::uint8_t { kBefore, kAfter, kBoth };
/// What the gate of the MLP goes through.
enum class Activation : std::uint8_t { kSilu, kGeluTanh };

/// Heads of a layer with the gated delta rule: value heads share key heads as those of attention
/// do the other way.
struct DeltaShape {
  Index key_heads = 0, value_heads = 0;
  Index key_dim = 0, value_dim = 0;  // of one head

  [[nodiscard]] Index keys() const noexcept { return key_heads * key_dim; }
  [[nodiscard]] Index values() const noexcept { return value_heads * value_dim; }
  /// Channels of its convolution: queries, keys and values.
  [[nodiscard]] Index channels() const noexcept { return 2 * keys() + values(); }
  friend bool operator==(const DeltaShape&, const DeltaShape&) = default;
};

/// Mixtures of experts: MLPs of which each token goes to some, the likeliest by a router. A linear
/// of experts is one matrix, the rows of one expert below those of another.
struct ExpertShape {
  Index count = 0;          // in a layer
  Index used = 0;           // of a token
  Index inner = 0;          // what `intermediate` is to other layers
  bool normalised = false;  // what those of a token count adds up to 1

  friend bool operator==(const ExpertShape&, const ExpertShape&) = default;
};

/// What a layer has of its own. As it stands here, a layer of Llama, Qwen2 and Qwen3.
struct LayerShape {
  Mixer mixer = Mixer::kAttention;
  Index window = 0;         // tokens that one sees, itself counted; 0: all before it
  bool rotates = true;      // queries and keys turn with their position
  bool local_rope = false;  // by ModelConfig::local_rope
  bool experts = false;     // its MLP is ModelConfig::experts

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

  // Of Phi-3: linears that lie in one matrix, rows of one behind those of another.
  bool fused_qkv = false;          // q, k, v, as kQ
  bool fused_gate_up = false;      // gate, up, as kGate
  Index rotary_dim = 0;            // of each head the first so many turn; 0: all
  std::optional<Rope> local_rope;  // of layers that say so
  double temperature = 0;          // queries times 1 + this ln(1 + floor(position / context below))
  double temperature_context = 0;
  bool whole_qk_norm = false;    // qk_norm is over all heads at once (OLMo 2)
  bool late_qk_norm = false;     // qk_norm comes behind the rotation (Hunyuan)
  bool gated_attention = false;  // kQ gives queries and gates, head by head (Qwen3.5)
  NormPlace norms = NormPlace::kBefore;
  double norm_offset = 0;  // files hold weights of norms less this
  Activation activation = Activation::kSilu;
  double attention_cap = 0;  // scores become cap tanh(score / cap); 0: as they are
  double logit_cap = 0;
  DeltaShape delta;        // of layers that mix so
  Index conv_kernel = 0;   // tokens that the convolution of a layer reads
  ExpertShape experts;     // of layers that have them
  double qkv_clip = 0;     // queries, keys and values lie within it, either side of 0; 0: anywhere
  bool conv_bias = false;  // of kShortConv: of the convolution and of both linears

  std::vector<LayerShape> shapes;  // [layers], or empty where all are LayerShape{}

  [[nodiscard]] LayerShape Shape(Index layer) const;
  /// The linears that a layer has, in order; those of a unit.
  [[nodiscard]] std::span<const Site> Sites(const LayerShape& shape) const noexcept;
  [[nodiscard]] std::span<const Site> Sites(Index layer) const { return Sites(Shape(layer)); }
  [[nodiscard]] std::span<const Site> SitesOf(const LayerShape& shape, Unit unit) const noexcept;
  [[nodiscard]] std::span<const Site> SitesOf(Index layer, Unit unit) const {
    return SitesOf(Shape(layer), unit);
  }
  [[nodiscard]] bool Has(Index layer, Site site) const;
  /// Rows and columns of a linear, [out, in]; of one that the layer has not, 0 rows.
  [[nodiscard]] Index Out(const LayerShape& shape, Site site) const noexcept;
  [[nodiscard]] Index In(const LayerShape& shape, Site site) const noexcept;
  [[nodiscard]] Index Out(Index layer, Site site) const { return Out(Shape(layer), site); }
  [[nodiscard]] Index In(Index layer, Site site) const { return In(Shape(layer), site); }
  /// The most of any layer.
  [[nodiscard]] Index Out(Site site) const noexcept;
  [[nodiscard]] Index In(Site site) const noexcept;
  /// Every number of columns that the linear has in a layer, each once.
  [[nodiscard]] std::vector<Index> Ins(Site site) const;
  [[nodiscard]] bool HasBias(const LayerShape& shape, Site site) const noexcept;
  [[nodiscard]] bool HasBias(Index layer, Site site) const { return HasBias(Shape(layer), site); }
  [[nodiscard]] bool HasBias(Site site) const noexcept { return HasBias(LayerShape{}, site); }
  /// Whether the linear is one of experts.
  [[nodiscard]] bool IsOfExperts(const LayerShape& shape, Site site) const noexcept;
  [[nodiscard]] bool IsOfExperts(Index layer, Site site) const {
    return IsOfExperts(Shape(layer), site);
  }
  /// Matrices that the linear is made of, as many rows each: experts; else 1.
  [[nodiscard]] Index Parts(const LayerShape& shape, Site site) const noexcept;
  [[nodiscard]] Index Parts(Index layer, Site site) const { return Parts(Shape(layer), site); }
  /// Module inside a layer, as the class names it: "self_attn.qkv_proj". Of a linear of experts
  /// that of all, "mlp.experts.up_proj".
  [[nodiscard]] std::string_view Module(Index layer, Site site) const;
  /// Whether any layer mixes tokens so.
  [[nodiscard]] bool Mixes(Mixer mixer) const noexcept;
  /// Whether any layer has experts.
  [[nodiscard]] bool HasExperts() const noexcept;
  /// Of each head the dimensions that turn.
  [[nodiscard]] Index RotaryDim() const noexcept { return rotary_dim != 0 ? rotary_dim : head_dim; }
  /// Weights of the linears of a layer, biases and norms not counted; of the largest; of all.
  [[nodiscard]] std::int64_t LayerWeightCount(Index layer) const;
  [[nodiscard]] std::int64_t LayerWeightCount() const noexcept;
  [[nodiscard]] std::int64_t WeightCount() const;
};

/// Throws Error naming `where` and the first value out of range.
void CheckConfig(const ModelConfig& config, std::string_view where);

}  // namespace lieq
