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
#include "lieq/container/model_folder.h"
#include "lieq/container/refusal.h"
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
};

/// Those of Granite, foreign to all others. What attention is multiplied by is 1 by default.
constexpr std::array kMultipliers{std::string_view("logits_scaling"),
                                  std::string_view("embedding_multiplier"),
                                  std::string_view("residual_multiplier")};

bool IsNeutral(const Json& value, double neutral) {
  if (value.is_boolean()) return value.get<bool>() == (neutral != 0);
  return value.is_number() && value.get<double>() == neutral;
}

void RefuseForeignOptions(const JsonObject& json, const Architecture& row) {
  for (const ForeignOption& option : kForeignOptions) {
    if (!json.Has(option.key) || IsNeutral(json.At(option.key), option.neutral)) continue;
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
  const std::string activation = json.String("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    Refuse("activation is not supported", json.Where("hidden_act"), "silu", Printable(activation));
  }
}

constexpr Index kDefaultWindow = 4096;  // of all classes that have one
constexpr Index kFirstWindowed = 28;    // "max_window_layers" of Qwen2Config and Qwen3Config

/// "sliding_window" as the class takes it: 0 where no layer has one, since it is null or switched
/// off.
Index ReadWindow(const JsonObject& json, const Architecture& row) {
  const bool switched =
      row.windows == WindowRule::kSwitched || row.windows == WindowRule::kUnrotated;
  if (switched && !json.Boolean("use_sliding_window", false)) return 0;
  if (json.value().contains("sliding_window") && !json.Has("sliding_window")) return 0;
  const Index otherwise = row.windows == WindowRule::kNone || row.windows == WindowRule::kUnrotated
                              ? 0
                              : kDefaultWindow;
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

/// Which layers see the window alone: by "layer_types" where they are given, else by the rule of
/// the class.
std::vector<bool> ReadWindowed(const JsonObject& json, const Architecture& row, Index window,
                               const std::vector<bool>& rotates) {
  std::vector<bool> windowed(rotates.size());
  if (json.Has("layer_types") && row.windows != WindowRule::kAll) {
    const Json& types = json.At("layer_types");
    if (!types.is_array()) {
      Refuse("wrong type of value", json.Where("layer_types"), "an array", Shown(types));
    }
    for (std::size_t layer = 0; layer < types.size(); ++layer) {
      const bool slides = types[layer] == "sliding_attention";
      const std::string place = json.Where("layer_types") + "/" + std::to_string(layer);
      if (!slides && types[layer] != "full_attention") {
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
      case WindowRule::kLayerTypes:
        windowed[layer] = true;
        break;
      case WindowRule::kUnrotated:
        windowed[layer] = !rotates[layer];
        break;
    }
  }
  return windowed;
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
  std::vector<bool> windowed = ReadWindowed(json, row, window, rotates);
  const bool slides = std::ranges::find(windowed, true) != windowed.end();
  if (window >= model.max_positions || (window > 0 && !slides)) {
    notes.push_back(
        "config.json switches a sliding window on that narrows no layer's context: left aside");
    windowed.assign(windowed.size(), false);
  }
  std::vector<LayerShape> shapes;
  for (std::size_t layer = 0; layer < windowed.size(); ++layer) {
    shapes.push_back({.window = windowed[layer] ? window : 0, .rotates = rotates[layer]});
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

/// What yarn multiplies cosines and sines by, of a stretch by `scale`.
double YarnAttention(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

/// As transformers takes them (modeling_rope_utils.py, _compute_yarn_parameters).
void ReadYarn(const JsonObject& json, const JsonObject& config, Rope& rope) {
  rope.original_context =
      json.Number("original_max_position_embeddings", config.Number("max_position_embeddings", 0));
  rope.beta_fast = json.Number("beta_fast", 0);
  if (rope.beta_fast == 0) rope.beta_fast = 32;
  rope.beta_slow = json.Number("beta_slow", 0);
  if (rope.beta_slow == 0) rope.beta_slow = 1;
  rope.truncate = json.Boolean("truncate", true);
  const double mscale = json.Number("mscale", 0), all_dims = json.Number("mscale_all_dim", 0);
  rope.attention_factor = mscale != 0 && all_dims != 0 ? YarnAttention(rope.factor, mscale) /
                                                             YarnAttention(rope.factor, all_dims)
                                                       : YarnAttention(rope.factor, 1);
  rope.attention_factor = json.Number("attention_factor", rope.attention_factor);
}

/// One of the two generations of rope keys: "rope_scaling" beside "rope_theta", or
/// "rope_parameters" with the theta inside. `theta` is what stands beside, or the default.
Rope ReadRopeObject(const JsonObject& json, double theta, const JsonObject& config) {
  const std::string type = json.String("rope_type", json.String("type", "default"));
  if (json.Has("type") && json.String("type") != type) {
    Refuse("rope_type and type disagree", json.Where("type"), Printable(type),
           Printable(json.String("type")));
  }
  constexpr std::array kTypes{RopeScaling::kNone, RopeScaling::kLinear, RopeScaling::kLlama3,
                              RopeScaling::kYarn};
  const auto* scaling =
      std::ranges::find(kTypes, type, [](RopeScaling each) { return Name(each); });
  if (scaling == kTypes.end()) {
    Refuse("rope type is not supported", json.Where(json.Has("rope_type") ? "rope_type" : "type"),
           "default, linear, llama3 or yarn", Printable(type));
  }
  if (json.Number("partial_rotary_factor", 1.0) != 1.0) {
    Refuse("rotary embedding of a part of each head is not supported",
           json.Where("partial_rotary_factor"), "absent or 1",
           Shown(json.At("partial_rotary_factor")));
  }
  for (const auto& [key, value] : json.value().items()) {
    if (!value.is_object()) continue;
    Refuse("rope parameters by type of layer are not supported", json.Where(Printable(key)),
           "one set for all layers", "an object");
  }
  Rope rope{.theta = json.Number("rope_theta", theta), .scaling = *scaling};
  if (rope.scaling == RopeScaling::kNone) return rope;
  rope.factor = json.Number("factor");
  if (rope.scaling == RopeScaling::kLlama3) {
    rope.low_freq_factor = json.Number("low_freq_factor");
    rope.high_freq_factor = json.Number("high_freq_factor");
    rope.original_context = json.Number("original_max_position_embeddings");
  }
  if (rope.scaling == RopeScaling::kYarn) ReadYarn(json, config, rope);
  return rope;
}

/// Where a file says the same thing twice (some writers serve readers of both generations), engines
/// part over which to believe, so the two must agree.
Rope ReadRope(const JsonObject& json, const Architecture& row) {
  const auto given = [&](std::string_view key) {
    return json.Has(key) && !(json.At(key).is_object() && json.At(key).empty());
  };
  Rope rope{.theta = json.Number("rope_theta", row.rope_theta)};
  const double theta = rope.theta;
  bool read = false;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!given(key)) continue;
    const Rope object = ReadRopeObject(json.Object(key), theta, json);
    if (read && object != rope) {
      Refuse("rope_scaling and rope_parameters disagree", json.Where(key),
             Shown(json.At("rope_scaling")), Shown(json.At(key)));
    }
    if (json.Has("rope_theta") && object.theta != theta) {
      Refuse("rope_theta is given twice and differs", json.Where(key) + "/rope_theta",
             Shown(json.At("rope_theta")), std::to_string(object.theta));
    }
    rope = object;
    read = true;
  }
  if (rope.scaling == RopeScaling::kLlama3 &&
      json.Number("original_max_position_embeddings", rope.original_context) !=
          rope.original_context) {
    Refuse("original_max_position_embeddings is given twice and differs",
           json.Where("original_max_position_embeddings"), std::to_string(rope.original_context),
           Shown(json.At("original_max_position_embeddings")));
  }
  return rope;
}

Index ReadKvHeads(const JsonObject& json, const Architecture& row, Index heads) {
  if (json.Has("num_key_value_heads")) return json.Integer("num_key_value_heads");
  const bool null = json.value().contains("num_key_value_heads");  // null says: as many as heads
  return null || row.kv_heads == 0 ? heads : row.kv_heads;
}

/// Numbers that no shape of a tensor confirms, where the class's own stand in for them.
void NoteDefaults(const JsonObject& json, const ModelConfig& model, Notes& notes) {
  std::string left_out;
  const auto note = [&](std::string_view key, const Json& taken) {
    left_out += (left_out.empty() ? "" : ", ") + std::string(key) + " " + taken.dump();
  };
  const auto has_theta = [&](std::string_view key) {
    return json.Has(key) && json.Object(key).Has("rope_theta");
  };
  if (!json.Has("rms_norm_eps")) note("rms_norm_eps", model.rms_eps);
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
  model.rms_eps = json.Number("rms_norm_eps", row.rms_eps);
  model.rope = ReadRope(json, row);
  model.tied = json.Boolean("tie_word_embeddings", row.tied);
  const bool attention_bias = json.Boolean("attention_bias", false);
  model.qkv_bias = row.attention_bias == AttentionBias::kQkvAlways || attention_bias;
  model.o_bias = row.attention_bias == AttentionBias::kByConfig && attention_bias;
  model.mlp_bias = row.mlp_bias_by_config && json.Boolean("mlp_bias", false);
  model.qk_norm = row.qk_norm;
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
  NoteDefaults(json, model, told);
  model.shapes = ReadShapes(json, row, model, told);
  if (model.max_positions < 1) {
    Refuse("value out of range", json.Where("max_position_embeddings"), "at least 1",
           std::to_string(model.max_positions));
  }
  return model;
}

std::string ModuleName(Index layer, Site site) {
  return "model.layers." + std::to_string(layer) + "." + std::string(Module(site));
}

}  // namespace lieq
