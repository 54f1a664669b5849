#include "lieq/diagnose/diagnosis_json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/model/config.h"

namespace lieq {
namespace {

constexpr int kSchema = 1;
constexpr std::string_view kKind = "diagnostics";
constexpr std::size_t kMaxLayers = 4096;  // as CheckConfig

/// One measured value of a layer.
struct Field {
  const char* key;
  std::optional<double> LayerDiagnosis::* value;
  bool all_or_none;  // whether a layer may lack it although another has it
};
constexpr std::array kFields{
    Field{"perplexity_drop", &LayerDiagnosis::perplexity_drop, false},  // too large for a double
    Field{"nll_drop", &LayerDiagnosis::nll_drop, true},
    Field{"compactness", &LayerDiagnosis::compactness, true},
    Field{"top_k_energy", &LayerDiagnosis::top_k_energy, true},
};
/// The same by site.
struct SiteField {
  const char* key;
  std::vector<double> LayerDiagnosis::* values;
};
constexpr std::array kSiteFields{
    SiteField{"site_compactness", &LayerDiagnosis::site_compactness},
    SiteField{"site_top_k_energy", &LayerDiagnosis::site_top_k_energy},
};

std::string Shortened(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

[[noreturn]] void OutOfRange(const JsonObject& object, std::string_view key, std::string expected) {
  throw Error({.what = "value out of range",
               .where = object.Where(key),
               .expected = std::move(expected),
               .found = Shortened(object.At(key))});
}

double Finite(const JsonObject& object, std::string_view key) {
  const double value = object.Number(key);
  if (!std::isfinite(value)) OutOfRange(object, key, "a finite number");
  return value;
}

Index Count(const JsonObject& object, std::string_view key, Index least) {
  const std::int64_t value = object.Integer(key);
  if (value < least) OutOfRange(object, key, "at least " + std::to_string(least));
  return value;
}

/// All 64 bits, which JsonObject::Integer does not reach.
std::uint64_t Seed(const JsonObject& object, std::string_view key) {
  if (!object.Has(key)) return 0;
  if (object.At(key).is_number_unsigned()) return object.At(key).get<std::uint64_t>();
  return static_cast<std::uint64_t>(Count(object, key, 0));
}

void RequireSchema(const JsonObject& object) {
  if (object.String("kind") != kKind) OutOfRange(object, "kind", "\"" + std::string(kKind) + "\"");
  if (object.Integer("schema") != kSchema) {
    OutOfRange(object, "schema", std::to_string(kSchema) + ", the one this version reads");
  }
}

void RefuseUnknownKeys(const JsonObject& row) {
  std::string known = "layer";
  for (const Field& field : kFields) known += std::string(", ") + field.key;
  for (const SiteField& field : kSiteFields) known += std::string(", ") + field.key;
  for (const auto& [key, value] : row.value().items()) {
    const auto same = [&key = key](const auto& field) { return key == field.key; };
    if (key == "layer" || std::ranges::any_of(kFields, same) ||
        std::ranges::any_of(kSiteFields, same)) {
      continue;
    }
    throw Error({.what = "unknown key", .where = row.Where(key), .expected = known});
  }
}

std::vector<double> SiteValues(const JsonObject& row, std::string_view key) {
  std::vector<double> values;
  if (!row.Has(key)) return values;
  const JsonObject sites = row.Object(key);
  for (const Site site : kAllSites) values.push_back(Finite(sites, Name(site)));
  if (sites.value().size() != values.size()) OutOfRange(row, key, "the seven linears");
  return values;
}

LayerDiagnosis ParseRow(const JsonObject& row, std::size_t index) {
  RefuseUnknownKeys(row);
  if (row.Integer("layer") != static_cast<std::int64_t>(index)) {
    OutOfRange(row, "layer", std::to_string(index) + ": layers in order, each once");
  }
  LayerDiagnosis layer;
  for (const Field& field : kFields) {
    if (row.Has(field.key)) layer.*field.value = Finite(row, field.key);
  }
  for (const SiteField& field : kSiteFields) layer.*field.values = SiteValues(row, field.key);
  return layer;
}

void RequireAllOrNone(const Diagnosis& diagnosis, const std::string& where) {
  for (const Field& field : kFields) {
    if (!field.all_or_none) continue;
    const bool first = (diagnosis.layers.front().*field.value).has_value();
    for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
      if ((diagnosis.layers[i].*field.value).has_value() == first) continue;
      throw Error({.what = "a measurement that some layers have and others lack",
                   .where = where + ": /layers/" + std::to_string(i) + "/" + field.key,
                   .expected = first ? "a number, as in layer 0" : "nothing, as in layer 0",
                   .found = first ? "nothing" : "a number"});
    }
  }
}

}  // namespace

Record ToJson(const Diagnosis& diagnosis) {
  Record json;
  json["schema"] = kSchema;
  json["kind"] = kKind;
  json["model_hash"] = diagnosis.model_hash;
  json["context"] = diagnosis.context;
  if (diagnosis.spectrum_windows > 0) {
    json["calibration_hash"] = diagnosis.calibration_hash;
    json["spectrum_windows"] = diagnosis.spectrum_windows;
    json["twins"] = diagnosis.twins;
    json["top_fraction"] = diagnosis.top_fraction;
    json["seed"] = diagnosis.seed;
  }
  if (diagnosis.drop_windows) {
    json["text_hash"] = diagnosis.text_hash;
    json["drop_windows"] = *diagnosis.drop_windows;
  }
  if (diagnosis.base_perplexity) json["base_perplexity"] = *diagnosis.base_perplexity;
  Record& layers = json["layers"] = Record::array();
  for (const LayerDiagnosis& layer : diagnosis.layers) {
    Record row;
    row["layer"] = layers.size();
    for (const Field& field : kFields) {
      const std::optional<double>& value = layer.*field.value;
      if (!value) continue;
      LIEQ_ASSERT(std::isfinite(*value));  // JSON would say null
      row[field.key] = *value;
    }
    for (const SiteField& field : kSiteFields) {
      const std::vector<double>& values = layer.*field.values;
      if (values.empty()) continue;
      LIEQ_ASSERT(values.size() == kSites);
      for (std::size_t i = 0; i < values.size(); ++i) {
        row[field.key][std::string(Name(kAllSites[i]))] = values[i];
      }
    }
    layers.push_back(std::move(row));
  }
  return json;
}

Diagnosis DiagnosisFromJson(const Json& json, const std::string& where) {
  const JsonObject object(json, where);
  RequireSchema(object);
  Diagnosis diagnosis;
  diagnosis.model_hash = object.String("model_hash", "");
  diagnosis.context = Count(object, "context", 1);
  diagnosis.calibration_hash = object.String("calibration_hash", "");
  if (object.Has("spectrum_windows")) {
    diagnosis.spectrum_windows = Count(object, "spectrum_windows", 1);
    const Index twins = Count(object, "twins", 1);
    if (twins > 1024) OutOfRange(object, "twins", "1 to 1024");
    diagnosis.twins = static_cast<int>(twins);
    diagnosis.top_fraction = Finite(object, "top_fraction");
    if (!(diagnosis.top_fraction > 0 && diagnosis.top_fraction <= 1)) {
      OutOfRange(object, "top_fraction", "above 0, at most 1");
    }
    diagnosis.seed = Seed(object, "seed");
  }
  diagnosis.text_hash = object.String("text_hash", "");
  if (object.Has("drop_windows")) diagnosis.drop_windows = Count(object, "drop_windows", 1);
  if (object.Has("base_perplexity")) {
    diagnosis.base_perplexity = Finite(object, "base_perplexity");
    if (*diagnosis.base_perplexity <= 0) OutOfRange(object, "base_perplexity", "above 0");
  }
  const Json& layers = object.At("layers");
  if (!layers.is_array() || layers.empty() || layers.size() > kMaxLayers) {
    OutOfRange(object, "layers", "an array of 1 to " + std::to_string(kMaxLayers) + " layers");
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const JsonObject row(layers[i], object.Where("layers") + "/" + std::to_string(i));
    diagnosis.layers.push_back(ParseRow(row, i));
  }
  RequireAllOrNone(diagnosis, where);
  return diagnosis;
}

}  // namespace lieq
