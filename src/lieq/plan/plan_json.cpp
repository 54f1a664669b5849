#include "lieq/plan/plan_json.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/plan/allocate.h"

namespace lieq {
namespace {

constexpr int kSchema = 1;
constexpr std::string_view kKind = "plan";
constexpr std::string_view kEdited = "edited";
constexpr std::string_view kUniform = "uniform";

std::string Shortened(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

[[noreturn]] void Wrong(const JsonObject& object, std::string_view key, std::string expected) {
  throw Error({.what = "value out of range",
               .where = object.Where(key),
               .expected = std::move(expected),
               .found = Shortened(object.At(key))});
}

int Width(const JsonObject& object, std::string_view key) {
  const std::int64_t bits = object.Integer(key);
  if (!IsWidth(bits)) Wrong(object, key, fmt::format("one of {}", fmt::join(kWidths, ", ")));
  return static_cast<int>(bits);
}

double Finite(const JsonObject& object, std::string_view key) {
  const double value = object.Number(key);
  if (!std::isfinite(value)) Wrong(object, key, "a finite number");
  return value;
}

template <class Known>
void RefuseUnknownKeys(const JsonObject& object, const Known& known) {
  for (const auto& [key, value] : object.value().items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    throw Error({.what = "unknown key",
                 .where = object.Where(key),
                 .expected = fmt::format("{}", fmt::join(known, ", "))});
  }
}

std::array<int, kUnits> ParseBits(const JsonObject& row) {
  std::array<int, kUnits> bits{};
  if (row.Has("bits") && row.At("bits").is_object()) {
    const JsonObject units = row.Object("bits");
    std::array<std::string_view, kUnits> names;
    std::ranges::transform(kAllUnits, names.begin(), [](Unit unit) { return Name(unit); });
    RefuseUnknownKeys(units, names);
    for (std::size_t i = 0; i < kUnits; ++i) bits[i] = Width(units, names[i]);
  } else {
    bits.fill(Width(row, "bits"));
  }
  return bits;
}

void ParseLayers(const JsonObject& object, const ModelConfig& config, Plan& plan) {
  const Json& layers = object.At("layers");
  if (!layers.is_array()) Wrong(object, "layers", "an array");
  if (static_cast<Index>(layers.size()) != config.layers) {
    throw Error({.what = "a plan for another number of layers",
                 .where = object.Where("layers"),
                 .expected = std::to_string(config.layers) + " layers, as the model has",
                 .found = std::to_string(layers.size())});
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const JsonObject row(layers[i], object.Where("layers") + "/" + std::to_string(i));
    RefuseUnknownKeys(row, std::array<std::string_view, 3>{"layer", "bits", "score"});
    if (row.Integer("layer") != static_cast<std::int64_t>(i)) {
      Wrong(row, "layer", std::to_string(i) + ": layers in order, each once");
    }
    plan.bits.push_back(ParseBits(row));
    if (row.Has("score") != !plan.scores.empty() && i > 0) {
      throw Error(
          {.what = "a score that some layers have and others lack",
           .where = row.Where("score"),
           .expected = plan.scores.empty() ? "nothing, as in layer 0" : "a number, as in layer 0",
           .found = row.Has("score") ? Shortened(row.At("score")) : "nothing"});
    }
    if (row.Has("score")) plan.scores.push_back(Finite(row, "score"));
  }
}

void ParseWidths(const JsonObject& object, Plan& plan) {
  const Json& widths = object.At("widths");
  const auto good = [](const Json& width) {
    return width.is_number_integer() && IsWidth(width.get<std::int64_t>());
  };
  if (!widths.is_array() || widths.size() != 2 || !std::ranges::all_of(widths, good) ||
      widths[0] > widths[1]) {
    Wrong(object, "widths",
          fmt::format("two of {}, the smaller one first", fmt::join(kWidths, ", ")));
  }
  plan.low = widths[0].get<int>();
  plan.high = widths[1].get<int>();
}

void ParseRankingWeights(const JsonObject& object, Plan& plan) {
  const Json& weights = object.At("ranking_weights");
  const auto good = [](const Json& weight) {
    return weight.is_number() && std::isfinite(weight.get<double>()) && weight.get<double>() >= 0;
  };
  if (!weights.is_array() || weights.size() != 3 || !std::ranges::all_of(weights, good)) {
    Wrong(object, "ranking_weights", "three numbers, none below 0");
  }
  for (const Json& weight : weights) plan.ranking_weights.push_back(weight.get<double>());
}

void SetWidthsUsed(Plan& plan) {
  plan.low = plan.high = plan.bits.front().front();
  for (const auto& layer : plan.bits) {
    plan.low = std::min(plan.low, std::ranges::min(layer));
    plan.high = std::max(plan.high, std::ranges::max(layer));
  }
}

/// Whether the widths are what the plan's own scores and budget give.
bool FollowsItsRanking(const Plan& plan, const ModelConfig& config) {
  if (plan.ranking == kUniform) {
    return plan.low == plan.high && plan.bits == UniformPlan(plan.low, config).bits;
  }
  if (plan.scores.empty() || plan.low >= plan.high || plan.requested_bits < plan.low ||
      plan.requested_bits > plan.high) {
    return false;
  }
  const Budget budget{.bits = plan.requested_bits, .low = plan.low, .high = plan.high};
  return plan.bits == Allocate(plan.scores, plan.ranking, budget, config).bits;
}

}  // namespace

Record ToJson(const Plan& plan, const ModelConfig& config) {
  LIEQ_ASSERT(plan.scores.empty() || plan.scores.size() == plan.bits.size());
  Record json;
  json["schema"] = kSchema;
  json["kind"] = kKind;
  json["model_hash"] = plan.model_hash;
  if (!plan.calibration_hash.empty()) json["calibration_hash"] = plan.calibration_hash;
  json["ranking"] = plan.ranking;
  if (!plan.ranking_weights.empty()) json["ranking_weights"] = plan.ranking_weights;
  json["requested_bits"] = plan.requested_bits;
  json["code_bits"] = CodeBits(plan, config);
  json["widths"] = {plan.low, plan.high};
  Record& layers = json["layers"] = Record::array();
  for (std::size_t i = 0; i < plan.bits.size(); ++i) {
    Record row;
    row["layer"] = i;
    const std::array<int, kUnits>& bits = plan.bits[i];
    if (std::ranges::count(bits, bits.front()) == kUnits) {
      row["bits"] = bits.front();
    } else {
      for (const Unit unit : kAllUnits) {
        row["bits"][std::string(Name(unit))] = bits[static_cast<std::size_t>(unit)];
      }
    }
    if (!plan.scores.empty()) row["score"] = plan.scores[i];
    layers.push_back(std::move(row));
  }
  return json;
}

Plan PlanFromJson(const Json& json, const ModelConfig& config, const std::string& where) {
  const JsonObject object(json, where);
  if (object.String("kind") != kKind) Wrong(object, "kind", "\"" + std::string(kKind) + "\"");
  if (object.Integer("schema") != kSchema) {
    Wrong(object, "schema", std::to_string(kSchema) + ", the one this version reads");
  }
  Plan plan;
  plan.model_hash = object.String("model_hash", "");
  plan.calibration_hash = object.String("calibration_hash", "");
  ParseLayers(object, config, plan);

  // A plan written by hand may leave out where it comes from.
  SetWidthsUsed(plan);
  plan.ranking = object.String("ranking", kEdited);
  if (object.Has("ranking_weights")) ParseRankingWeights(object, plan);
  if (object.Has("widths")) ParseWidths(object, plan);
  plan.requested_bits = CodeBits(plan, config);
  if (object.Has("requested_bits")) {
    plan.requested_bits = Finite(object, "requested_bits");
    if (plan.requested_bits < kWidths.front() || plan.requested_bits > kWidths.back()) {
      Wrong(object, "requested_bits", fmt::format("{} to {}", kWidths.front(), kWidths.back()));
    }
  }
  if (!FollowsItsRanking(plan, config)) {
    plan.ranking = kEdited;
    plan.ranking_weights.clear();
    SetWidthsUsed(plan);
  }
  return plan;
}

}  // namespace lieq
