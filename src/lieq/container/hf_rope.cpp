#include "lieq/container/hf_rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/refusal.h"

namespace lieq {
namespace {

constexpr std::string_view kFull = "full_attention", kSliding = "sliding_attention";

/// What a config says beside its objects of rope parameters.
struct RopeSetting {
  const JsonObject& config;
  const Architecture& row;
  const ModelConfig& model;
};

/// What yarn multiplies cosines and sines by, of a stretch by `scale`.
double YarnAttention(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

/// Positions that the model was made for, as transformers takes them: beside the object, where
/// Phi-3 always has them, before inside.
double OriginalContext(const JsonObject& json, const RopeSetting& setting) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  constexpr double kOfPhi3 = 4096;
  const double inside = json.Number(kKey, static_cast<double>(setting.model.max_positions));
  return setting.config.Number(kKey, setting.row.fused ? kOfPhi3 : inside);
}

/// As transformers takes them (modeling_rope_utils.py, _compute_yarn_parameters).
void ReadYarn(const JsonObject& json, const RopeSetting& setting, Rope& rope) {
  rope.original_context = OriginalContext(json, setting);
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

std::vector<double> ReadFactors(const JsonObject& json, std::string_view key) {
  const Json& list = json.At(key);
  std::vector<double> factors;
  if (!list.is_array()) Refuse("wrong type of value", json.Where(key), "an array", Shown(list));
  for (const Json& each : list) {
    if (!each.is_number()) Refuse("wrong type of value", json.Where(key), "numbers", Shown(each));
    factors.push_back(each.get<double>());
  }
  return factors;
}

/// The same file, _compute_longrope_parameters.
void ReadLongRope(const JsonObject& json, const RopeSetting& setting, Rope& rope) {
  rope.short_factors = ReadFactors(json, "short_factor");
  rope.long_factors = ReadFactors(json, "long_factor");
  rope.original_context = OriginalContext(json, setting);
  const double stretch = json.Number(
      "factor", static_cast<double>(setting.model.max_positions) / rope.original_context);
  const double factor =
      stretch <= 1 ? 1.0 : std::sqrt(1 + std::log(stretch) / std::log(rope.original_context));
  rope.attention_factor = json.Number("attention_factor", factor);
}

RopeScaling ReadType(const JsonObject& json, const Architecture& row) {
  std::string type = json.String("rope_type", json.String("type", "default"));
  if (json.Has("type") && json.String("type") != type) {
    Refuse("rope_type and type disagree", json.Where("type"), Printable(type),
           Printable(json.String("type")));
  }
  if (row.fused && (type == "su" || type == "yarn")) type = "longrope";  // as it was called once
  constexpr std::array kTypes{RopeScaling::kNone, RopeScaling::kLinear,  RopeScaling::kLlama3,
                              RopeScaling::kYarn, RopeScaling::kDynamic, RopeScaling::kLongRope};
  const auto* scaling =
      std::ranges::find(kTypes, type, [](RopeScaling each) { return Name(each); });
  if (scaling == kTypes.end()) {
    Refuse("rope type is not supported", json.Where(json.Has("rope_type") ? "rope_type" : "type"),
           "default, linear, llama3, yarn, dynamic or longrope", Printable(type));
  }
  return *scaling;
}

/// One of the two generations of rope keys: "rope_scaling" beside "rope_theta", or
/// "rope_parameters" with the theta inside. `theta` is what stands beside, or the default.
Rope ReadRopeObject(const JsonObject& json, double theta, const RopeSetting& setting) {
  const RopeScaling scaling = ReadType(json, setting.row);
  if (!setting.row.partial_rotary && json.Number("partial_rotary_factor", 1.0) != 1.0) {
    Refuse("rotary embedding of a part of each head is not supported for " +
               std::string(setting.row.name),
           json.Where("partial_rotary_factor"), "absent or 1",
           Shown(json.At("partial_rotary_factor")));
  }
  if (!setting.row.tempered && json.Number("llama_4_scaling_beta", 0) != 0) {
    Refuse("option is not supported for " + std::string(setting.row.name),
           json.Where("llama_4_scaling_beta"), "absent or 0",
           Shown(json.At("llama_4_scaling_beta")));
  }
  for (const auto& [key, value] : json.value().items()) {
    if (!value.is_object()) continue;
    Refuse(
        "rope parameters by type of layer are not supported for " + std::string(setting.row.name),
        json.Where(Printable(key)), "one set for all layers", "an object");
  }
  Rope rope{.theta = json.Number("rope_theta", theta), .scaling = scaling};
  if (scaling == RopeScaling::kNone) return rope;
  if (scaling == RopeScaling::kDynamic && setting.row.alpha_rope && json.Number("alpha", 0) != 0) {
    // transformers, modeling_hunyuan_v1_dense.py: the same theta at every length.
    const auto dim = static_cast<double>(setting.model.head_dim);
    rope.theta *= std::pow(json.Number("alpha"), dim / (dim - 2));
    rope.scaling = RopeScaling::kNone;
    return rope;
  }
  if (scaling == RopeScaling::kLongRope) {
    ReadLongRope(json, setting, rope);
    return rope;
  }
  rope.factor = json.Number("factor");
  if (scaling == RopeScaling::kLlama3) {
    rope.low_freq_factor = json.Number("low_freq_factor");
    rope.high_freq_factor = json.Number("high_freq_factor");
    rope.original_context = json.Number("original_max_position_embeddings");
  }
  if (scaling == RopeScaling::kYarn) ReadYarn(json, setting, rope);
  if (scaling == RopeScaling::kDynamic) {
    rope.original_context = static_cast<double>(setting.model.max_positions);
  }
  return rope;
}

bool Given(const JsonObject& json, std::string_view key) {
  return json.Has(key) && !(json.At(key).is_object() && json.At(key).empty());
}

/// Where a file says the same thing twice (some writers serve readers of both generations), engines
/// part over which to believe, so the two must agree.
Rope ReadRope(const JsonObject& json, const RopeSetting& setting) {
  Rope rope{.theta = json.Number("rope_theta", setting.row.rope_theta)};
  const double theta = rope.theta;
  bool read = false;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!Given(json, key)) continue;
    const Rope object = ReadRopeObject(json.Object(key), theta, setting);
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

/// Of a class whose layers with a window turn otherwise. Old files have one scaling, which is that
/// of layers without.
void ReadRopesByType(const JsonObject& json, const RopeSetting& setting, ModelConfig& model) {
  const Architecture& row = setting.row;
  model.local_rope = Rope{.theta = json.Number("rope_local_base_freq", row.local_theta)};
  if (!Given(json, "rope_parameters")) {
    model.rope = ReadRope(json, setting);
    return;
  }
  const JsonObject object = json.Object("rope_parameters");
  for (const std::string_view key : {"rope_scaling", "rope_theta"}) {
    if (!Given(json, key)) continue;
    Refuse("rope is given twice", json.Where(key), "rope_parameters alone", Shown(json.At(key)));
  }
  for (const auto& [key, value] : object.value().items()) {
    if (key == kFull || key == kSliding) continue;
    Refuse("rope parameters of all layers where each type has its own",
           object.Where(Printable(key)), "full_attention and sliding_attention", Shown(value));
  }
  const auto of_type = [&](std::string_view type, double theta) {
    return object.Has(type) ? ReadRopeObject(object.Object(type), theta, setting)
                            : Rope{.theta = theta};
  };
  model.rope = of_type(kFull, row.rope_theta);
  model.local_rope = of_type(kSliding, model.local_rope->theta);
}

/// Of each head the dimensions that turn: the share stands beside or in either object.
void ReadRotaryDim(const JsonObject& json, const Architecture& row, ModelConfig& model) {
  double share = json.Number("partial_rotary_factor", row.rotary_share);
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (Given(json, key)) share = json.Object(key).Number("partial_rotary_factor", share);
  }
  if (!(share > 0 && share <= 1)) {
    Refuse("value out of range", json.Where("partial_rotary_factor"), "above 0, at most 1",
           std::to_string(share));
  }
  const auto dim = static_cast<Index>(static_cast<double>(model.head_dim) * share);
  if (dim < 2) {
    Refuse("no dimension of a head turns", json.Where("partial_rotary_factor"),
           "at least 2 of " + std::to_string(model.head_dim), std::to_string(dim));
  }
  model.rotary_dim = dim == model.head_dim ? 0 : dim;
}

}  // namespace

void ReadRopes(const JsonObject& json, const Architecture& row, ModelConfig& model) {
  if (row.partial_rotary) ReadRotaryDim(json, row, model);
  const RopeSetting setting{json, row, model};
  if (row.ropes_by_type) {
    ReadRopesByType(json, setting, model);
  } else {
    model.rope = ReadRope(json, setting);
  }
  if (!row.tempered) return;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!Given(json, key)) continue;
    const JsonObject object = json.Object(key);
    model.temperature = object.Number("llama_4_scaling_beta", 0);
    model.temperature_context = OriginalContext(object, setting);
    return;
  }
  // What the class has where the file says nothing.
  model.rope.scaling = RopeScaling::kYarn;
  model.rope.factor = 16;
  model.rope.original_context = model.temperature_context = 16384;
  model.temperature = 0.1;
}

}  // namespace lieq
