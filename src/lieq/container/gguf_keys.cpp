#include "lieq/container/gguf_keys.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lieq/container/refusal.h"

namespace lieq {
namespace {

bool Zero(double value, const GgufShape&) {
  return value == 0;
}
bool One(double value, const GgufShape&) {
  return value == 1;
}
/// llama.cpp takes 0 for "not there" in the keys of factors.
bool NoFactor(double value, const GgufShape&) {
  return value == 0 || value == 1;
}
bool HeadSize(double value, const GgufShape& shape) {
  return value == shape.head_dim;
}
bool OwnWidth(double value, const GgufShape& shape) {
  return value == 0 || value == shape.hidden;
}
bool WholeContext(double value, const GgufShape& shape) {
  return value == 0 || value >= shape.context;
}
bool UsualScale(double value, const GgufShape& shape) {
  return value == 0 || std::fabs(value * std::sqrt(shape.head_dim) - 1) < 1e-6;
}
bool Version2(double value, const GgufShape&) {
  return value == 2;
}

constexpr auto kRead = GgufKeyUse::kRead;
constexpr auto kNeutral = GgufKeyUse::kNeutral;
constexpr auto kHarmless = GgufKeyUse::kHarmless;

using Row = GgufKeyRow;
constexpr std::array kRows{
    Row{"general.architecture", kRead, "which of the tables of rows holds", nullptr, {}, true},
    Row{"general.type", kNeutral, "absent or model", nullptr, {"model"}, true},
    Row{"general.quantization_version", kNeutral, "absent or 2", Version2, {}, true},
    Row{"adapter.", kNeutral, "absent: an adapter is no model", nullptr, {}, true},
    Row{"split.count", kRead, "parts of the model", nullptr, {}, true},

    // Shapes.
    Row{"block_count", kRead, "layers"},
    Row{"context_length", kRead, "positions"},
    Row{"embedding_length", kRead, "hidden size"},
    Row{"feed_forward_length", kRead, "intermediate size"},
    Row{"attention.head_count", kRead, "heads"},
    Row{"attention.head_count_kv", kRead, "heads of keys and values"},
    Row{"attention.key_length", kRead, "size of a head"},
    Row{"attention.value_length", kNeutral, "absent or the size of a head", HeadSize},
    Row{"attention.layer_norm_rms_epsilon", kRead, "epsilon of the norms"},
    Row{"vocab_size", kHarmless, "rows of the embedding, which are counted"},
    Row{"embedding_length_out", kNeutral, "absent, 0 or the hidden size", OwnWidth},
    Row{"embedding_length_per_layer_input", kNeutral, "absent or 0", Zero},
    Row{"features_length", kHarmless, "of audio models"},

    // Rotary embedding. Without a type llama.cpp scales linearly.
    Row{"rope.freq_base", kRead, "theta"},
    Row{"rope.dimension_count",
        kNeutral,
        "absent or the size of a head",
        HeadSize,
        {},
        false,
        "phi3 qwen35"},
    Row{"rope.dimension_sections", kNeutral, "absent or zeros", Zero, {}, false, "qwen35"},
    Row{"rope.scaling.type", kRead, "none, linear, yarn or longrope"},
    Row{"rope.scaling.factor", kRead, "of linear and yarn"},
    Row{"rope.scale_linear", kRead, "an older name of the factor"},
    Row{"rope.scaling.attn_factor", kRead, "of yarn and longrope; elsewhere absent or 1"},
    Row{"rope.scaling.alpha", kNeutral, "absent, 0 or 1", NoFactor},
    Row{"rope.scaling.original_context_length", kRead, "of yarn and longrope"},
    Row{"rope.scaling.finetuned", kHarmless, "how the model was made"},
    Row{"rope.scaling.yarn_beta_fast", kRead, "of yarn"},
    Row{"rope.scaling.yarn_beta_slow", kRead, "of yarn"},
    Row{"rope.scaling.yarn_log_multiplier", kNeutral, "absent or 0", Zero, {}, false, "mistral3"},
    Row{"rope.scaling.yarn_", kHarmless, "not read by llama.cpp, or of its own tuning"},
    Row{"rope.dimension_count_swa", kHarmless, "counts with a sliding window alone"},
    Row{"rope.freq_base_swa", kHarmless, "counts with a sliding window alone"},

    // Attention.
    Row{"attention.causal", kNeutral, "absent or true", One},
    Row{"attention.sliding_window",
        kNeutral,
        "absent, 0 or the whole context",
        WholeContext,
        {},
        false,
        "phi3 olmo2 gemma2 gemma3 exaone4"},
    Row{"attention.sliding_window_pattern", kHarmless, "counts with a sliding window alone"},
    Row{"attention.key_length_swa", kHarmless, "counts with a sliding window alone"},
    Row{"attention.value_length_swa", kHarmless, "counts with a sliding window alone"},
    Row{"attention.scale",
        kNeutral,
        "absent, 0 or 1 / sqrt(size of a head)",
        UsualScale,
        {},
        false,
        "granite"},
    Row{"attention.output_scale", kNeutral, "absent, 0 or 1", NoFactor},
    Row{"attention.value_scale", kNeutral, "absent, 0 or 1", NoFactor},
    Row{"attention.temperature_length", kNeutral, "absent or 0", Zero},
    Row{"attention.temperature_scale", kNeutral, "absent or 0", Zero, {}, false, "mistral3"},
    Row{"attention.clamp_kqv", kNeutral, "absent or 0", Zero},
    Row{"attention.max_alibi_bias", kNeutral, "absent or 0", Zero},
    Row{"attention.layer_norm_epsilon", kHarmless, "of norms with a mean"},
    Row{"attention.group_norm_epsilon", kHarmless, "of norms over groups"},
    Row{"attention.group_norm_groups", kNeutral, "absent or 0", Zero},
    Row{"attention.q_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.kv_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.decay_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.iclr_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.value_residual_mix_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.gate_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.output_lora_rank", kNeutral, "absent or 0", Zero},
    Row{"attention.output_group_count", kNeutral, "absent or 0", Zero},
    Row{"attention.relative_buckets_count", kNeutral, "absent or 0", Zero},
    Row{"attention.key_length_mla", kNeutral, "absent or 0", Zero},
    Row{"attention.value_length_mla", kNeutral, "absent or 0", Zero},
    Row{"attention.indexer.", kNeutral, "absent or 0", Zero},
    Row{"attention.compress_", kNeutral, "absent or 0", Zero},
    Row{"attention.shared_kv_layers", kNeutral, "absent or 0", Zero},
    Row{"attention.recurrent_layers", kNeutral, "absent or zeros", Zero, {}, false, "qwen35"},
    Row{"full_attention_interval", kNeutral, "absent, 0 or 1", NoFactor, {}, false, "qwen35"},

    // Scales and caps along the way.
    Row{"embedding_scale", kNeutral, "absent, 0 or 1", NoFactor, {}, false, "granite"},
    Row{"residual_scale", kNeutral, "absent, 0 or 1", NoFactor, {}, false, "granite"},
    Row{"logit_scale", kNeutral, "absent, 0 or 1", NoFactor, {}, false, "granite"},
    Row{"attn_logit_softcapping", kNeutral, "absent or 0", Zero, {}, false, "gemma2"},
    Row{"router_logit_softcapping", kNeutral, "absent or 0", Zero},
    Row{"final_logit_softcapping", kNeutral, "absent or 0", Zero, {}, false, "gemma2 gemma3"},
    Row{"hidden_activation", kNeutral, "absent, silu or swish", nullptr, {"silu", "swish"}},
    Row{"swiglu_clamp_", kNeutral, "absent or 0", Zero},
    Row{"use_parallel_residual", kNeutral, "absent or false", Zero},
    Row{"norm_before_residual", kNeutral, "absent or false", Zero},
    Row{"swin_norm", kNeutral, "absent or false", Zero},
    Row{"rescale_every_n_layers", kNeutral, "absent or 0", Zero},

    // Experts.
    Row{"expert_count", kNeutral, "absent or 0", Zero, {}, false, "qwen3moe olmoe"},
    Row{"expert_used_count", kNeutral, "absent or 0", Zero, {}, false, "qwen3moe olmoe"},
    Row{"expert_shared_count", kNeutral, "absent or 0", Zero},
    Row{"expert_group_count", kNeutral, "absent or 0", Zero},
    Row{"expert_group_used_count", kNeutral, "absent or 0", Zero},
    Row{"expert_", kHarmless, "counts with experts alone"},
    Row{"experts_per_group", kHarmless, "counts with experts alone"},
    Row{"interleave_moe_layer_step", kHarmless, "counts with experts alone"},
    Row{"leading_dense_block_count", kHarmless, "counts with experts alone"},
    Row{"moe_", kHarmless, "counts with experts alone"},

    // Parts that other architectures have.
    Row{"nextn_predict_layers", kNeutral, "absent or 0", Zero},
    Row{"n_deepstack_layers", kNeutral, "absent or 0", Zero},
    Row{"deepstack_mapping", kNeutral, "absent", nullptr},
    Row{"hash_layer_count", kNeutral, "absent or 0", Zero},
    Row{"hyper_connection.", kNeutral, "absent", nullptr},
    Row{"ssm.", kNeutral, "absent or 0", Zero, {}, false, "qwen35"},
    Row{"kda.", kNeutral, "absent or 0", Zero},
    Row{"wkv.", kNeutral, "absent or 0", Zero},
    Row{"time_mix_extra_dim", kNeutral, "absent or 0", Zero},
    Row{"time_decay_extra_dim", kNeutral, "absent or 0", Zero},
    Row{"token_shift_count", kNeutral, "absent or 0", Zero},
    Row{"shortconv.", kNeutral, "absent or 0", Zero, {}, false, "lfm2"},
    Row{"posnet.", kNeutral, "absent or 0", Zero},
    Row{"convnext.", kNeutral, "absent or 0", Zero},
    Row{"dense_", kHarmless, "of sentence embeddings"},
    Row{"classifier.output_labels", kHarmless, "of a head of its own, whose tensor is refused"},
    Row{"target_layers", kHarmless, "of drafts for another model"},
    Row{"target_hidden_size", kHarmless, "of drafts for another model"},
    Row{"decoder_block_count", kNeutral, "absent or 0", Zero},
    Row{"decoder_start_token_id", kHarmless, "of models with an encoder"},
    Row{"pooling_type", kHarmless, "of sentence embeddings, behind the last norm"},
    Row{"tensor_data_layout", kHarmless, "how the file was made"},
};

/// Whether the architecture is among those that read the key.
bool IsReadBy(const GgufKeyRow& row, std::string_view architecture) {
  std::string_view rest = row.read_by;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    if (rest.substr(0, end) == architecture) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

/// The row of a key, the longest name first where several begin it; null where there is none.
const GgufKeyRow* FindRow(std::string_view key, std::string_view architecture) {
  std::string_view name = key;
  const bool own =
      key.starts_with(architecture) && key.substr(architecture.size()).starts_with(".");
  if (own) name.remove_prefix(architecture.size() + 1);
  const GgufKeyRow* best = nullptr;
  for (const GgufKeyRow& row : kRows) {
    const bool prefix = row.name.ends_with('.') || row.name.ends_with('_');
    if (row.whole == own || !(prefix ? name.starts_with(row.name) : name == row.name)) continue;
    if (best == nullptr || row.name.size() > best->name.size()) best = &row;
  }
  return best;
}

bool Accepts(const GgufKeyRow& row, const GgufKeys& keys, const std::string& key,
             const GgufShape& shape) {
  const GgufValue& value = keys.values().find(key)->second;
  if (value.type == GgufType::kString) {
    const std::string text = value.array ? "" : keys.String(key);
    return !text.empty() && std::ranges::find(row.texts, text) != row.texts.end();
  }
  return row.accepts != nullptr && std::ranges::all_of(keys.Numbers(key), [&](double number) {
           return row.accepts(number, shape);
         });
}

/// A value for a message: 4, not 4.000000.
std::string ShownValue(const GgufKeys& keys, const std::string& key) {
  const GgufValue& value = keys.values().find(key)->second;
  if (value.array) return Describe(value);
  if (value.type == GgufType::kString) return Printable(keys.String(key), 60);
  if (value.type == GgufType::kBool) return keys.Boolean(key) ? "true" : "false";
  return Shown(Json(keys.Numbers(key).front()));
}

}  // namespace

std::span<const GgufKeyRow> GgufKeyRows() noexcept {
  return kRows;
}

std::vector<std::string> CheckGgufKeys(const GgufKeys& keys, std::string_view architecture,
                                       const GgufShape& shape) {
  std::vector<std::string> notes;
  for (const auto& [key, value] : keys.values()) {
    const GgufKeyRow* row = FindRow(key, architecture);
    if (row == nullptr) {
      if (!key.starts_with(std::string(architecture) + ".")) continue;
      notes.push_back(keys.Where(key) + " is not known and left aside");
    } else if (row->use == GgufKeyUse::kNeutral && !IsReadBy(*row, architecture) &&
               !Accepts(*row, keys, key, shape)) {
      std::string expected(row->says);
      if (row->accepts == HeadSize) expected += ", " + Shown(Json(shape.head_dim));
      Refuse("option is not supported for " + std::string(architecture), keys.Where(key),
             std::move(expected), ShownValue(keys, key),
             "what the key changes is not computed here; take a file of the model without it");
    }
  }
  return notes;
}

}  // namespace lieq
