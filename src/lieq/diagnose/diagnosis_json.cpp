#include "lieq/diagnose/diagnosis_json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/diagnose/settings.h"
#include "lieq/model/config.h"

namespace lieq {
namespace {

constexpr const char* kWindowDrop = "window_nll_drop";
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
    Field{"block_influence", &LayerDiagnosis::block_influence, true},
    Field{"largest_activation", &LayerDiagnosis::largest_activation, true},
    Field{"activation_ratio", &LayerDiagnosis::activation_ratio, false},  // the median may be 0
    Field{"solo_damage", &LayerDiagnosis::solo_damage, true},
    Field{"context_damage", &LayerDiagnosis::context_damage, true},
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
  std::string known = std::string("layer, ") + kWindowDrop;
  for (const Field& field : kFields) known += std::string(", ") + field.key;
  for (const SiteField& field : kSiteFields) known += std::string(", ") + field.key;
  for (const auto& [key, value] : row.value().items()) {
    const auto same = [&key = key](const auto& field) { return key == field.key; };
    if (key == "layer" || key == kWindowDrop || std::ranges::any_of(kFields, same) ||
        std::ranges::any_of(kSiteFields, same)) {
      continue;
    }
    throw Error({.what = "unknown key", .where = row.Where(key), .expected = known});
  }
}

std::vector<double> SiteValues(const JsonObject& row, std::string_view key,
                               std::span<const Site> measured) {
  std::vector<double> values;
  if (!row.Has(key)) return values;
  const JsonObject sites = row.Object(key);
  for (const Site site : measured) values.push_back(Finite(sites, Name(site)));
  if (sites.value().size() != values.size()) {
    OutOfRange(row, key, measured.size() == kSites ? "the seven linears" : "q, k and v");
  }
  return values;
}

std::vector<double> WindowDrops(const JsonObject& row, Index windows) {
  std::vector<double> values;
  if (!row.Has(kWindowDrop)) return values;
  const Json& list = row.At(kWindowDrop);
  const auto good = [](const Json& value) {
    return value.is_number() && std::isfinite(value.get<double>());
  };
  if (!list.is_array() || static_cast<Index>(list.size()) != windows ||
      !std::ranges::all_of(list, good)) {
    OutOfRange(row, kWindowDrop,
               std::to_string(windows) + " finite numbers, one a window (drop_windows)");
  }
  for (const Json& value : list) values.push_back(value.get<double>());
  return values;
}

LayerDiagnosis ParseRow(const JsonObject& row, std::size_t index, const Diagnosis& diagnosis) {
  RefuseUnknownKeys(row);
  if (row.Integer("layer") != static_cast<std::int64_t>(index)) {
    OutOfRange(row, "layer", std::to_string(index) + ": layers in order, each once");
  }
  LayerDiagnosis layer;
  for (const Field& field : kFields) {
    if (row.Has(field.key)) layer.*field.value = Finite(row, field.key);
  }
  layer.window_nll_drop = WindowDrops(row, diagnosis.drop_windows.value_or(0));
  for (const SiteField& field : kSiteFields) {
    layer.*field.values = SiteValues(row, field.key, SitesOf(diagnosis.settings.projections));
  }
  return layer;
}

/// File names or notes, or nothing.
std::vector<std::string> Names(const JsonObject& object, std::string_view key) {
  std::vector<std::string> names;
  if (!object.Has(key)) return names;
  const Json& list = object.At(key);
  if (!list.is_array() ||
      !std::ranges::all_of(list, [](const Json& name) { return name.is_string(); })) {
    OutOfRange(object, key, "an array of names");
  }
  for (const Json& name : list) names.push_back(name.get<std::string>());
  return names;
}

template <class T>
T Choice(const JsonObject& object, std::string_view key) {
  const auto choice = ParseSetting<T>(object.String(key));
  if (!choice) OutOfRange(object, key, Choices<T>());
  return *choice;
}

SpectrumSettings ParseSettings(const JsonObject& object) {
  return {.projections = Choice<Projections>(object, "projections"),
          .heads = Choice<Heads>(object, "heads"),
          .energies = Choice<Energies>(object, "spectrum"),
          .inputs = Choice<SpectrumInputs>(object, "inputs")};
}

Record ToJson(const SpectrumSettings& settings) {
  return {{"projections", Name(settings.projections)},
          {"heads", Name(settings.heads)},
          {"spectrum", Name(settings.energies)},
          {"inputs", Name(settings.inputs)}};
}

Stability ParseStability(const JsonObject& object) {
  Stability stability{.text_hash = object.String("text_hash", ""),
                      .text_files = Names(object, "text_files"),
                      .text_notes = Names(object, "text_notes")};
  const JsonObject kendall = object.Object("kendall_tau");
  for (const auto& [name, value] : kendall.value().items()) {
    const double tau = Finite(kendall, name);
    if (std::fabs(tau) > 1) OutOfRange(kendall, name, "-1 to 1");
    stability.kendall[name] = tau;
  }
  return stability;
}

Record ToJson(const Stability& stability) {
  Record record{{"text_hash", stability.text_hash}, {"text_files", stability.text_files}};
  if (!stability.text_notes.empty()) record["text_notes"] = stability.text_notes;
  record["kendall_tau"] = Record(stability.kendall);
  return record;
}

/// What the spectra were made with. Diagnostics of before there were settings have the defaults.
void ParseSpectra(const JsonObject& object, Diagnosis& diagnosis) {
  const Index twins = Count(object, "twins", 1);
  if (twins > 1024) OutOfRange(object, "twins", "1 to 1024");
  diagnosis.twins = static_cast<int>(twins);
  diagnosis.top_fraction = Finite(object, "top_fraction");
  if (!(diagnosis.top_fraction > 0 && diagnosis.top_fraction <= 1)) {
    OutOfRange(object, "top_fraction", "above 0, at most 1");
  }
  if (object.Has("settings")) diagnosis.settings = ParseSettings(object.Object("settings"));
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
  if (diagnosis.context > 0) json["context"] = diagnosis.context;
  if (diagnosis.spectrum_windows > 0) {
    json["calibration_hash"] = diagnosis.calibration_hash;
    if (!diagnosis.calibration_files.empty()) {
      json["calibration_files"] = diagnosis.calibration_files;
    }
    if (!diagnosis.calibration_notes.empty()) {
      json["calibration_notes"] = diagnosis.calibration_notes;
    }
    json["spectrum_windows"] = diagnosis.spectrum_windows;
  }
  if (diagnosis.twins > 0) {
    json["twins"] = diagnosis.twins;
    json["top_fraction"] = diagnosis.top_fraction;
    json["seed"] = diagnosis.seed;
    json["settings"] = ToJson(diagnosis.settings);
  }
  if (diagnosis.drop_windows) {
    json["text_hash"] = diagnosis.text_hash;
    if (!diagnosis.text_files.empty()) json["text_files"] = diagnosis.text_files;
    if (!diagnosis.text_notes.empty()) json["text_notes"] = diagnosis.text_notes;
    json["drop_windows"] = *diagnosis.drop_windows;
  }
  if (diagnosis.base_perplexity) json["base_perplexity"] = *diagnosis.base_perplexity;
  if (diagnosis.stability) json["stability"] = ToJson(*diagnosis.stability);
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
    if (!layer.window_nll_drop.empty()) row[kWindowDrop] = layer.window_nll_drop;
    for (const SiteField& field : kSiteFields) {
      const std::vector<double>& values = layer.*field.values;
      if (values.empty()) continue;
      LIEQ_ASSERT(values.size() == SitesOf(diagnosis.settings.projections).size());
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
  // Spectra of weights alone have no windows.
  if (object.Has("context") || object.Has("spectrum_windows") || object.Has("drop_windows") ||
      !object.Has("twins")) {
    diagnosis.context = Count(object, "context", 1);
  }
  diagnosis.calibration_hash = object.String("calibration_hash", "");
  diagnosis.calibration_files = Names(object, "calibration_files");
  diagnosis.calibration_notes = Names(object, "calibration_notes");
  if (object.Has("spectrum_windows")) {
    diagnosis.spectrum_windows = Count(object, "spectrum_windows", 1);
  }
  if (object.Has("twins")) ParseSpectra(object, diagnosis);
  diagnosis.seed = Seed(object, "seed");
  diagnosis.text_hash = object.String("text_hash", "");
  diagnosis.text_files = Names(object, "text_files");
  diagnosis.text_notes = Names(object, "text_notes");
  if (object.Has("stability")) diagnosis.stability = ParseStability(object.Object("stability"));
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
    diagnosis.layers.push_back(ParseRow(row, i, diagnosis));
  }
  RequireAllOrNone(diagnosis, where);
  return diagnosis;
}

}  // namespace lieq
