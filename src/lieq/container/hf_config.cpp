// config.json of Hugging Face transformers -> ModelConfig.
//
// Every option that changes the arithmetic of a supported class is read here or refused by name;
// the rest (dropout, token ids, initializers, dtype, ...) is nobody's business below.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/container/hf_rope.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/refusal.h"
#include "lieq/container/tensor_names.h"
#include "lieq/io/printable.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

using Notes = std::vector<std::string>;

/// The row that the one class in "architectures" means: of a language model, or of its body alone
/// ("Qwen2Model"), whose weights are saved without a head.
const Architecture* FindClass(const Json& names) {
  if (!names.is_array() || names.size() != 1 || !names[0].is_string()) return nullptr;
  const auto& name = names[0].get_ref<const std::string&>();
  for (const Architecture& row : Architectures()) {
    const std::string_view stem = row.name.substr(0, row.name.find("ForCausalLM"));
    if (name == row.name || name == std::string(stem) + "Model") return &row;
  }
  return nullptr;
}

/// The row that "architectures" names, or "model_type" where the former is absent or empty.
const Architecture& ReadArchitecture(const JsonObject& json, Notes& notes) {
  constexpr std::string_view kUnknown = "architecture is not supported";
  const std::string type = json.String("model_type", "");
  const bool named = json.Has("architectures") &&
                     !(json.At("architectures").is_array() && json.At("architectures").empty());
  if (!named) {
    if (const Architecture* row = FindModelType(type)) {
      notes.push_back("config.json names no class in architectures: " + std::string(row->name) +
                      " by its model_type");
      return *row;
    }
    Refuse(std::string(kUnknown), json.Where("model_type"), ArchitectureNames(),
           type.empty() ? "neither architectures nor model_type" : Printable(type));
  }
  const Json& names = json.At("architectures");
  const Architecture* row = FindClass(names);
  if (row == nullptr) {
    Refuse(std::string(kUnknown), json.Where("architectures"), ArchitectureNames(), Shown(names));
  }
  if (names[0] != row->name) {
    notes.push_back("config.json names the body of a model, " +
                    names[0].get_ref<const std::string&>() + ": read as " + std::string(row->name));
  }
  // transformers picks the class by model_type: the two must mean the same.
  if (!type.empty() && type != row->model_type) {
    Refuse("model_type and architectures disagree", json.Where("model_type"),
           std::string(row->model_type) + " for " + std::string(row->name), Printable(type));
  }
  return *row;
}

/// Options of other models, with the value under which they change nothing. The classes here do not
/// read them, so a file that sets one was made for code with other arithmetic.
struct ForeignOption {
  std::string_view key;
  double neutral;
};
constexpr std::array kForeignOptions{
    ForeignOption{"num_experts", 0},
    ForeignOption{"num_local_experts", 0},
    ForeignOption{"n_routed_experts", 0},
    ForeignOption{"partial_rotary_factor", 1},
    ForeignOption{"rope_interleaved", 0},
    ForeignOption{"attn_logit_softcapping", 0},
    ForeignOption{"final_logit_softcapping", 0},
    ForeignOption{"logit_scale", 1},
    ForeignOption{"use_bidirectional_attention", 0},
};

/// Those of Granite, foreign to all others. What attention is multiplied by is 1 by default.
constexpr std::array kMultipliers{std::string_view("logits_scaling"),
                                  std::string_view("embedding_multiplier"),
                                  std::string_view("residual_multiplier")};

bool IsNeutral(const Json& value, double neutral) {
  if (value.is_boolean()) return value.get<bool>() == (neutral != 0);
  return value.is_number() && value.get<double>() == neutral;
}

/// Whether the class reads it.
bool IsOwn(std::string_view key, const Architecture& row) {
  if (key == "partial_rotary_factor") return row.partial_rotary;
  if (key == "attn_logit_softcapping") return row.attention_cap != 0;
  if (key == "num_experts" || key == "num_local_experts") return row.experts.count > 0;
  return key == "final_logit_softcapping" && row.gemma;
}

void RefuseForeignOptions(const JsonObject& json, const Architecture& row) {
  for (const ForeignOption& option : kForeignOptions) {
    if (!json.Has(option.key) || IsOwn(option.key, row) ||
        IsNeutral(json.At(option.key), option.neutral))
      continue;
    Refuse("option is not supported for " + std::string(row.name), json.Where(option.key),
           "absent or " + std::to_string(static_cast<int>(option.neutral)),
           Shown(json.At(option.key)));
  }
  for (const std::string_view key : kMultipliers) {
    if (row.multiplies || !json.Has(key) || IsNeutral(json.At(key), 1)) continue;
    Refuse("option is not supported for " + std::string(row.name), json.Where(key), "absent or 1",
           Shown(json.At(key)));
  }
  for (const std::string_view key : {"use_qk_norm", "qk_layernorm"}) {
    if (!json.Has(key) || IsNeutral(json.At(key), row.qk_norm ? 1 : 0)) continue;
    Refuse("option is not supported for " + std::string(row.name), json.Where(key),
           row.qk_norm ? "absent or true" : "absent or false", Shown(json.At(key)));
  }
  const bool gelu = row.activation == Activation::kGeluTanh;
  const std::string_view key = gelu ? "hidden_activation" : "hidden_act";
  const std::string activation = json.String(key, gelu ? "gelu_pytorch_tanh" : "silu");
  const bool known =
      gelu ? activation == "gelu_pytorch_tanh" : activation == "silu" || activation == "swish";
  if (!known) {
    Refuse("activation is not supported", json.Where(key), gelu ? "gelu_pytorch_tanh" : "silu",
           Printable(activation));
  }
  if (row.gated_attention && !json.Boolean("attn_output_gate", true)) {
    Refuse("attention without its gate is not supported for " + std::string(row.name),
           json.Where("attn_output_gate"), "absent or true", "false");
  }
}

constexpr Index kFirstWindowed = 28;  // "max_window_layers" of Qwen2Config and Qwen3Config

/// "sliding_window" as the class takes it: 0 where no layer has one, since it is null or switched
/// off.
Index ReadWindow(const JsonObject& json, const Architecture& row) {
  const bool switched = row.windows == WindowRule::kSwitched ||
                        row.windows == WindowRule::kUnrotated ||
                        row.windows == WindowRule::kSwitchedAll;
  if (switched && !json.Boolean("use_sliding_window", false)) return 0;
  if (json.value().contains("sliding_window") && !json.Has("sliding_window")) return 0;
  const Index otherwise =
      row.windows == WindowRule::kNone || row.windows == WindowRule::kUnrotated ? 0 : row.window;
  const Index window = json.Integer("sliding_window", otherwise);
  if (window < 0 || (window == 0 && otherwise != 0)) {
    Refuse("value out of range", json.Where("sliding_window"), "null, or at least 1",
           std::to_string(window));
  }
  return window;
}

/// Which layers rotate, of a class in which some do not.
std::vector<bool> ReadRotations(const JsonObject& json, Index layers) {
  std::vector<bool> rotates(Size(layers), true);
  if (!json.Has("no_rope_layers")) {
    const Index interval = json.Integer("no_rope_layer_interval", 4);
    if (interval < 1) {
      Refuse("value out of range", json.Where("no_rope_layer_interval"), "at least 1",
             std::to_string(interval));
    }
    for (Index layer = 0; layer < layers; ++layer) {
      rotates[Size(layer)] = (layer + 1) % interval != 0;
    }
    return rotates;
  }
  const Json& list = json.At("no_rope_layers");
  if (!list.is_array() || static_cast<Index>(list.size()) != layers) {
    Refuse("not a list with a number for each layer", json.Where("no_rope_layers"),
           std::to_string(layers) + " of 0 and 1", Shown(list));
  }
  for (std::size_t layer = 0; layer < list.size(); ++layer) {
    if (list[layer] != 0 && list[layer] != 1) {
      Refuse("not a list with a number for each layer",
             json.Where("no_rope_layers") + "/" + std::to_string(layer), "0 or 1",
             Shown(list[layer]));
    }
    rotates[layer] = list[layer] == 1;
  }
  return rotates;
}

/// The "layer_types" of layers without attention.
std::string_view MixerType(Mixer mixer) {
  return mixer == Mixer::kGatedDelta  ? "linear_attention"
         : mixer == Mixer::kShortConv ? "conv"
                                      : "full_attention";
}

/// Which layers mix otherwise than by attention, of a class that has some.
std::vector<bool> ReadMixers(const JsonObject& json, const Architecture& row, Index layers) {
  std::vector<bool> mixes(Size(layers));
  if (row.mixer == Mixer::kAttention) return mixes;
  if (json.Has("layer_types")) {
    const Json& types = json.At("layer_types");
    if (!types.is_array() || static_cast<Index>(types.size()) != layers) {
      Refuse("not a type for each layer", json.Where("layer_types"),
             std::to_string(layers) + " of them", Shown(types));
    }
    for (std::size_t i = 0; i < mixes.size(); ++i) mixes[i] = types[i] == MixerType(row.mixer);
    return mixes;
  }
  if (row.mixer == Mixer::kGatedDelta) {
    const Index every = json.Integer("full_attention_interval", 4);
    if (every < 1) {
      Refuse("value out of range", json.Where("full_attention_interval"), "at least 1",
             std::to_string(every));
    }
    for (Index i = 0; i < layers; ++i) mixes[Size(i)] = (i + 1) % every != 0;
  } else if (json.Has("full_attn_idxs")) {
    const Json& attend = json.At("full_attn_idxs");
    if (!attend.is_array()) {
      Refuse("wrong type of value", json.Where("full_attn_idxs"), "an array", Shown(attend));
    }
    for (Index i = 0; i < layers; ++i) {
      mixes[Size(i)] = std::ranges::find(attend, Json(i)) == attend.end();
    }
  }
  return mixes;
}

/// Which layers see the window alone: by "layer_types" where they are given, else by the rule of
/// the class.
std::vector<bool> ReadWindowed(const JsonObject& json, const Architecture& row, Index window,
                               const std::vector<bool>& rotates) {
  std::vector<bool> windowed(rotates.size());
  const bool all = row.windows == WindowRule::kAll || row.windows == WindowRule::kSwitchedAll;
  if (json.Has("layer_types") && !all) {
    const Json& types = json.At("layer_types");
    if (!types.is_array()) {
      Refuse("wrong type of value", json.Where("layer_types"), "an array", Shown(types));
    }
    for (std::size_t layer = 0; layer < types.size(); ++layer) {
      const bool slides = types[layer] == "sliding_attention";
      const std::string place = json.Where("layer_types") + "/" + std::to_string(layer);
      const bool mixes = types[layer] == MixerType(row.mixer);
      if (!slides && !mixes && types[layer] != "full_attention") {
        Refuse("attention of this type is not supported", place,
               "full_attention or sliding_attention", Shown(types[layer]));
      }
      if (slides && (window == 0 || row.windows == WindowRule::kNone)) {
        Refuse("sliding-window attention without a window", place,
               "full_attention, or a sliding_window that is switched on", "sliding_attention");
      }
      if (layer < windowed.size()) windowed[layer] = slides;
    }
    const bool slides = std::ranges::find(windowed, true) != windowed.end();
    if (slides && types.size() != windowed.size()) {
      Refuse("not a type for each layer", json.Where("layer_types"),
             std::to_string(windowed.size()) + " of them", std::to_string(types.size()));
    }
    return windowed;
  }
  for (std::size_t layer = 0; window > 0 && layer < windowed.size(); ++layer) {
    switch (row.windows) {
      case WindowRule::kNone:
        break;
      case WindowRule::kSwitched:
        windowed[layer] =
            static_cast<Index>(layer) >= json.Integer("max_window_layers", kFirstWindowed);
        break;
      case WindowRule::kAll:
      case WindowRule::kSwitchedAll:
      case WindowRule::kLayerTypes:
        windowed[layer] = true;
        break;
      case WindowRule::kUnrotated:
        windowed[layer] = !rotates[layer];
        break;
      case WindowRule::kPattern: {
        const Index every = json.Integer("sliding_window_pattern", row.window_pattern);
        if (every < 1) {
          Refuse("value out of range", json.Where("sliding_window_pattern"), "at least 1",
                 std::to_string(every));
        }
        windowed[layer] = (static_cast<Index>(layer) + 1) % every != 0;
        break;
      }
    }
  }
  return windowed;
}

/// Which layers have experts, of a class that has some.
std::vector<bool> ReadExpertLayers(const JsonObject& json, const Architecture& row,
                                   const ModelConfig& model) {
  std::vector<bool> experts(Size(model.layers), model.experts.count > 0);
  if (!row.dense_between || model.experts.count == 0) return experts;
  const Index step = json.Integer("decoder_sparse_step", 1);
  if (step < 1) {
    Refuse("value out of range", json.Where("decoder_sparse_step"), "at least 1",
           std::to_string(step));
  }
  for (Index i = 0; i < model.layers; ++i) experts[Size(i)] = (i + 1) % step == 0;
  if (!json.Has("mlp_only_layers")) return experts;
  const Json& dense = json.At("mlp_only_layers");
  const auto is_layer = [](const Json& value) { return value.is_number_integer(); };
  if (!dense.is_array() || !std::ranges::all_of(dense, is_layer)) {
    Refuse("not a list of layers", json.Where("mlp_only_layers"), "numbers of layers",
           Shown(dense));
  }
  for (Index i = 0; i < model.layers; ++i) {
    if (std::ranges::find(dense, Json(i)) != dense.end()) experts[Size(i)] = false;
  }
  return experts;
}

/// What layers have of their own: empty where all are alike and see the whole context.
std::vector<LayerShape> ReadShapes(const JsonObject& json, const Architecture& row,
                                   const ModelConfig& model, Notes& notes) {
  const Index window = ReadWindow(json, row);
  if (row.windows == WindowRule::kNone && window > 0 && window < model.max_positions) {
    Refuse("sliding-window attention is not supported for " + std::string(row.name),
           json.Where("sliding_window"), "null", std::to_string(window));
  }
  const std::vector<bool> rotates = row.skips_rotations
                                        ? ReadRotations(json, model.layers)
                                        : std::vector<bool>(Size(model.layers), true);
  const std::vector<bool> mixes = ReadMixers(json, row, model.layers);
  const std::vector<bool> experts = ReadExpertLayers(json, row, model);
  std::vector<bool> windowed = ReadWindowed(json, row, window, rotates);
  const std::vector<bool> local = windowed;  // by their type, whatever the window narrows
  const bool slides = std::ranges::find(windowed, true) != windowed.end();
  if (window >= model.max_positions || (window > 0 && !slides)) {
    notes.push_back(
        "config.json switches a sliding window on that narrows no layer's context: left aside");
    windowed.assign(windowed.size(), false);
  }
  std::vector<LayerShape> shapes;
  for (std::size_t layer = 0; layer < windowed.size(); ++layer) {
    LayerShape shape{.window = windowed[layer] ? window : 0, .rotates = rotates[layer]};
    if (mixes[layer]) shape.mixer = row.mixer;
    shape.experts = experts[layer];
    shape.local_rope = row.ropes_by_type && local[layer];
    if (row.unrotated_beyond_windows && window > 0) shape.rotates = local[layer];
    shapes.push_back(shape);
  }
  if (std::ranges::all_of(shapes, [](const LayerShape& s) { return s == LayerShape{}; })) return {};
  return shapes;
}

/// A method of quantization whose tensors are not read, and what its folders hold.
struct OtherMethod {
  std::string_view name;
  std::string_view holds;
};
constexpr std::array kOtherMethods{
    OtherMethod{"bitsandbytes", "codes of 4 or 8 bits (.absmax, .quant_map, .SCB)"},
    OtherMethod{"fp8", "8-bit floats with scales (.weight_scale_inv)"},
    OtherMethod{"fbgemm_fp8", "8-bit floats with scales (.weight_scale)"},
    OtherMethod{"awq", "codes of 4 bits in the order of AutoAWQ (.qweight, .qzeros)"},
    OtherMethod{"hqq", "codes with scales and zeros of HQQ (.W_q)"},
    OtherMethod{"quanto", "codes of optimum-quanto"},
    OtherMethod{"torchao", "tensors of torchao"},
    OtherMethod{"aqlm", "codes into codebooks (.codes, .codebooks)"},
    OtherMethod{"quip", "codes into codebooks"},
    OtherMethod{"eetq", "8-bit codes in the order of EETQ"},
    OtherMethod{"higgs", "codes into grids of HIGGS"},
    OtherMethod{"spqr", "codes with outliers (SpQR)"},
    OtherMethod{"vptq", "codes into codebooks"},
    OtherMethod{"bitnet", "ternary weights, packed"},
    OtherMethod{"mxfp4", "4-bit floats with shared exponents"},
    OtherMethod{"modelopt", "weights of NVIDIA's ModelOpt"},
    OtherMethod{"auto-round", "codes in a packing of AutoRound"},
};

/// transformers too asks this key alone, and quantizes floats on loading where it is there.
void RefuseOtherQuantization(const JsonObject& json) {
  // "quantization" is MLX's, which repeats it under the other name, without a method.
  if (!json.Has("quantization_config") || json.Has("quantization")) return;
  const JsonObject quantization = json.Object("quantization_config");
  std::string method = quantization.String("quant_method", "");
  if (method.empty() && (quantization.Has("load_in_4bit") || quantization.Has("load_in_8bit"))) {
    method = "bitsandbytes";  // what wrote the key before there were others
  }
  if (method.empty()) method = quantization.String("quant_method");
  if (method == "compressed-tensors" || method == "gptq" || method == "lieq") return;
  const auto row = std::ranges::find(kOtherMethods, method, &OtherMethod::name);
  const std::string holds =
      row == kOtherMethods.end() ? "tensors of its own" : std::string(row->holds);
  Refuse("model is already quantized by a method that is not read",
         quantization.Where("quant_method"), "compressed-tensors, gptq, lieq, or a float model",
         Printable(method),
         "a folder of " + Printable(method) + " holds " + holds +
             ": start from the float model that it was made from. If its tensors are floats (BF16, "
             "F16 or F32) the key is left over: delete \"quantization_config\" from config.json");
}

std::string_view EpsKey(const Architecture& row) {
  return row.mixer == Mixer::kShortConv ? "norm_eps" : "rms_norm_eps";
}

Index ReadKvHeads(const JsonObject& json, const Architecture& row, Index heads) {
  if (json.Has("num_key_value_heads")) return json.Integer("num_key_value_heads");
  const bool null = json.value().contains("num_key_value_heads");  // null says: as many as heads
  return null || row.kv_heads == 0 ? heads : row.kv_heads;
}

/// Numbers that no shape of a tensor confirms, where the class's own stand in for them.
void NoteDefaults(const JsonObject& json, const Architecture& row, const ModelConfig& model,
                  Notes& notes) {
  std::string left_out;
  const auto note = [&](std::string_view key, const Json& taken) {
    left_out += (left_out.empty() ? "" : ", ") + std::string(key) + " " + taken.dump();
  };
  const auto has_theta = [&](std::string_view key) {
    if (!json.Has(key)) return false;
    const JsonObject object = json.Object(key);
    return object.Has("rope_theta") || (row.ropes_by_type && object.Has("full_attention"));
  };
  if (!json.Has(EpsKey(row))) note(EpsKey(row), model.rms_eps);
  if (!json.Has("rope_theta") && !has_theta("rope_scaling") && !has_theta("rope_parameters")) {
    note("rope_theta", model.rope.theta);
  }
  if (!json.Has("num_attention_heads")) note("num_attention_heads", model.heads);
  if (!json.Has("num_key_value_heads")) note("num_key_value_heads", model.kv_heads);
  if (!json.Has("max_position_embeddings")) note("max_position_embeddings", model.max_positions);
  if (left_out.empty()) return;
  notes.push_back("config.json leaves keys out, for which the defaults of " + model.architecture +
                  " are taken: " + left_out);
}

/// How many there are goes by two names, which transformers takes for one another.
void ReadExperts(const JsonObject& json, const Architecture& row, ModelConfig& model) {
  const bool other = json.Has("num_local_experts");
  const Index count = json.Integer("num_local_experts", row.experts.count);
  model.experts = {.count = json.Integer("num_experts", count),
                   .used = json.Integer("num_experts_per_tok", row.experts.used),
                   .inner = row.dense_between
                                ? json.Integer("moe_intermediate_size", row.experts.inner)
                                : model.intermediate,
                   .normalised = json.Boolean("norm_topk_prob", false)};
  if (other && model.experts.count != count) {
    Refuse("two numbers of experts that differ", json.Where("num_local_experts"),
           std::to_string(model.experts.count) + ", as num_experts", std::to_string(count));
  }
  if (model.experts.count < 0 || (model.experts.count == 0 && !row.dense_between)) {
    Refuse("value out of range",
           json.Where(json.Has("num_experts") ? "num_experts" : "num_local_experts"), "at least 1",
           std::to_string(model.experts.count));
  }
  if (row.clips && json.Has("clip_qkv")) {
    model.qkv_clip = json.Number("clip_qkv", 0);
    if (!(std::isfinite(model.qkv_clip) && model.qkv_clip > 0)) {
      Refuse("value out of range", json.Where("clip_qkv"), "null, or a positive number",
             std::to_string(model.qkv_clip));
    }
  }
}

void ReadGemma(const JsonObject& json, const Architecture& row, ModelConfig& model) {
  constexpr double kQueryScalar = 256;
  model.embedding_multiplier = std::sqrt(static_cast<double>(model.hidden));
  const double scalar = json.Number("query_pre_attn_scalar", kQueryScalar);
  if (!(std::isfinite(scalar) && scalar > 0)) {
    Refuse("value out of range", json.Where("query_pre_attn_scalar"), "a positive number",
           std::to_string(scalar));
  }
  model.attention_multiplier = 1 / std::sqrt(scalar);
  const auto cap = [&](std::string_view key, double missing) {  // null: none
    return json.value().contains(key) ? json.Number(key, 0) : missing;
  };
  if (row.attention_cap != 0) {
    model.attention_cap = cap("attn_logit_softcapping", row.attention_cap);
  }
  model.logit_cap = cap("final_logit_softcapping", row.logit_cap);
}

void ReadDelta(const JsonObject& json, ModelConfig& model) {
  model.delta = {.key_heads = json.Integer("linear_num_key_heads", 16),
                 .value_heads = json.Integer("linear_num_value_heads", 32),
                 .key_dim = json.Integer("linear_key_head_dim", 128),
                 .value_dim = json.Integer("linear_value_head_dim", 128)};
  model.conv_kernel = json.Integer("linear_conv_kernel_dim", 4);
}

void ReadShortConv(const JsonObject& json, const Architecture& row, ModelConfig& model) {
  model.conv_kernel = json.Integer("conv_L_cache", 3);
  model.conv_bias = json.Boolean("conv_bias", false);
  model.tied = json.Boolean("tie_embedding", model.tied);
  model.intermediate = json.Integer("block_ff_dim", model.intermediate);
  if (!json.Boolean("block_auto_adjust_ff_dim", true)) return;
  const Index step = json.Integer("block_multiple_of", 256);
  const double factor = json.Number("block_ffn_dim_multiplier", 1);
  if (step < 1 || !(factor > 0 && factor < 1e3) || model.intermediate < 1) {
    Refuse("value out of range", json.Where("block_multiple_of"),
           "a positive step, and a positive block_ffn_dim_multiplier",
           std::to_string(step) + ", " + std::to_string(factor) + " for " + std::string(row.name));
  }
  model.intermediate = 2 * model.intermediate / 3;
  if (json.value().contains("block_ffn_dim_multiplier") && !json.Has("block_ffn_dim_multiplier")) {
    return;  // null: as it is
  }
  model.intermediate = static_cast<Index>(factor * static_cast<double>(model.intermediate));
  model.intermediate = (model.intermediate + step - 1) / step * step;
}

}  // namespace

ModelConfig ParseModelConfig(const Json& config, const std::string& where, Notes* notes) {
  const JsonObject json(config, where);
  Notes unread;
  Notes& told = notes != nullptr ? *notes : unread;
  const Architecture& row = ReadArchitecture(json, told);
  RefuseForeignOptions(json, row);
  RefuseOtherQuantization(json);

  ModelConfig model;
  model.architecture = row.name;
  model.layers = json.Integer("num_hidden_layers", row.layers);
  model.hidden = json.Integer("hidden_size", row.hidden);
  model.intermediate = json.Integer("intermediate_size", row.intermediate);
  model.heads = json.Integer("num_attention_heads", row.heads);
  model.kv_heads = ReadKvHeads(json, row, model.heads);
  const Index head_dim =
      row.head_dim != 0 ? row.head_dim : model.hidden / std::max<Index>(model.heads, 1);
  model.head_dim = json.Integer("head_dim", head_dim);
  model.vocab = json.Integer("vocab_size", row.vocab);
  model.max_positions = json.Integer("max_position_embeddings", row.max_positions);
  model.rms_eps = json.Number(EpsKey(row), row.rms_eps);
  ReadRopes(json, row, model);
  model.tied = json.Boolean("tie_word_embeddings", row.tied);
  const bool attention_bias = json.Boolean("attention_bias", false);
  model.qkv_bias = row.attention_bias == AttentionBias::kQkvAlways || attention_bias;
  model.o_bias = row.attention_bias == AttentionBias::kByConfig && attention_bias;
  model.mlp_bias = row.mlp_bias_by_config && json.Boolean("mlp_bias", false);
  model.qk_norm = row.qk_norm;
  model.whole_qk_norm = row.whole_qk_norm;
  model.late_qk_norm = row.late_qk_norm;
  model.norms = row.norms;
  model.norm_offset = row.norm_offset;
  model.activation = row.activation;
  model.gated_attention = row.gated_attention;
  model.fused_qkv = model.fused_gate_up = row.fused;
  if (row.gemma) ReadGemma(json, row, model);
  if (row.experts.count > 0) ReadExperts(json, row, model);
  if (row.mixer == Mixer::kGatedDelta) ReadDelta(json, model);
  if (row.mixer == Mixer::kShortConv) ReadShortConv(json, row, model);
  if (row.multiplies) {
    model.embedding_multiplier = json.Number("embedding_multiplier", 1);
    model.attention_multiplier = json.Number("attention_multiplier", 1);
    model.residual_multiplier = json.Number("residual_multiplier", 1);
    model.logits_scaling = json.Number("logits_scaling", 1);
    if (model.residual_multiplier != 1 && (model.o_bias || model.mlp_bias)) {
      Refuse("biases beside a residual_multiplier are not supported",
             json.Where(model.o_bias ? "attention_bias" : "mlp_bias"), "false", "true");
    }
  }

  CheckConfig(model, where);
  NoteDefaults(json, row, model, told);
  model.shapes = ReadShapes(json, row, model, told);
  CheckConfig(model, where);  // mixers too, now that layers have them
  if (model.max_positions < 1) {
    Refuse("value out of range", json.Where("max_position_embeddings"), "at least 1",
           std::to_string(model.max_positions));
  }
  return model;
}

namespace {

std::string InLayer(Index layer, std::string_view name) {
  return "model.layers." + std::to_string(layer) + "." + std::string(name);
}

const LayerNames& NamesOf(const ModelConfig& config) {
  const Architecture* row = FindArchitecture(config.architecture);
  return row != nullptr ? *row->names : kLlamaNames;
}

}  // namespace

std::string ModuleName(Index layer, Site site) {
  return InLayer(layer, Module(site));
}

std::string ModuleName(const ModelConfig& config, Index layer, Site site) {
  return InLayer(layer, config.Module(layer, site));
}

std::string ModuleName(const ModelConfig& config, Index layer, Site site, Index part) {
  std::string name = ModuleName(config, layer, site);
  if (!config.IsOfExperts(layer, site)) return name;
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = name.rfind(kExperts);
  return at == std::string::npos ? name
                                 : name.insert(at + kExperts.size(), std::to_string(part) + ".");
}

std::string FinalNorm(const ModelConfig& config) {
  return std::string(NamesOf(config).final_norm);
}

std::string LayerTensor(const ModelConfig& config, Index layer, LayerVector which) {
  return InLayer(layer, NamesOf(config).vectors[static_cast<std::size_t>(which)]);
}

std::vector<std::int64_t> LayerTensorShape(const ModelConfig& config, Index layer,
                                           LayerVector which) {
  const auto [rows, cols] = ShapeOf(config, config.Shape(layer), which);
  if (which == LayerVector::kConv) return {rows, 1, cols};
  const bool matrix = which == LayerVector::kDeltaA || which == LayerVector::kDeltaB ||
                      which == LayerVector::kRouter;
  return matrix ? std::vector<std::int64_t>{rows, cols} : std::vector<std::int64_t>{cols};
}

}  // namespace lieq
