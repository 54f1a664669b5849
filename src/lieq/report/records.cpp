#include "lieq/report/records.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"

namespace lieq {
namespace {

constexpr std::size_t kMaxLayers = 1024;       // as in diagnostics.json
constexpr std::size_t kMaxCandidates = 64;     // of a unit
constexpr std::size_t kMaxRows = 100'000;      // of a study
constexpr std::size_t kMaxSteps = 10'000'000;  // of a training run
constexpr std::size_t kMaxText = 4096;         // bytes of one string that a page shows

[[noreturn]] void Wrong(const JsonObject& object, std::string_view key, std::string expected) {
  std::string found = object.At(key).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (found.size() > 60) found = found.substr(0, 57) + "...";
  throw Error({.what = "value out of range",
               .where = object.Where(key),
               .expected = std::move(expected),
               .found = std::move(found)});
}

std::string Cut(std::string text) {
  if (text.size() > kMaxText) text = text.substr(0, kMaxText) + "...";
  return text;
}

std::string Text(const JsonObject& object, std::string_view key) {
  return Cut(object.String(key, ""));
}

/// The last part of a path: where a file lay is nobody's business.
std::string BaseName(const JsonObject& object, std::string_view key) {
  std::string path = Text(object, key);
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.size() > 1 ? path.substr(path.find_last_of('/') + 1) : path;
}

Value Finite(double number) {
  return std::isfinite(number) ? Value(number) : std::nullopt;
}

Value Number(const JsonObject& object, std::string_view key) {
  return object.Has(key) ? Finite(object.Number(key)) : std::nullopt;
}

ContainerFacts ContainerOf(const JsonObject& object) {
  if (!object.Has("for")) return {};
  const JsonObject container = object.Object("for");
  return {.name = Text(container, "container"), .bytes = Number(container, "bytes")};
}

// Of `settings`, which hold whatever a version had: another type counts as missing.
std::string TextIfAny(const JsonObject& object, std::string_view key) {
  return object.Has(key) && object.At(key).is_string() ? Text(object, key) : std::string();
}

Value NumberIfAny(const JsonObject& object, std::string_view key) {
  return object.Has(key) && object.At(key).is_number() ? Number(object, key) : std::nullopt;
}

const Json& Array(const JsonObject& object, std::string_view key, std::size_t most) {
  static const Json kNone = Json::array();
  if (!object.Has(key)) return kNone;
  const Json& array = object.At(key);
  if (!array.is_array() || array.size() > most) {
    Wrong(object, key, fmt::format("an array of at most {}", most));
  }
  return array;
}

JsonObject Item(const JsonObject& object, std::string_view key, std::size_t index) {
  return {object.At(key)[index], object.Where(key) + "/" + std::to_string(index)};
}

std::vector<std::string> Texts(const JsonObject& object, std::string_view key) {
  std::vector<std::string> texts;
  for (const Json& item : Array(object, key, kMaxRows)) {
    if (!item.is_string()) Wrong(object, key, "an array of strings");
    texts.push_back(Cut(item.get<std::string>()));
  }
  return texts;
}

std::vector<Value> Numbers(const JsonObject& object, std::string_view key, std::size_t most) {
  std::vector<Value> numbers;
  for (const Json& item : Array(object, key, most)) {
    if (!item.is_number() && !item.is_null()) Wrong(object, key, "an array of numbers and nulls");
    numbers.push_back(item.is_null() ? std::nullopt : Finite(item.get<double>()));
  }
  return numbers;
}

/// In the order of the keys' names: the page must not depend on the order of a writer.
NamedValues Named(const JsonObject& object, std::string_view key) {
  NamedValues values;
  if (!object.Has(key)) return values;
  const JsonObject inner = object.Object(key);
  for (const auto& [name, value] : inner.value().items()) {
    if (const Value number = Number(inner, name)) values.emplace_back(Cut(name), *number);
  }
  return values;
}

Record Settings(const Record& json) {
  const auto found = json.find("settings");
  return found != json.end() && found->is_object() ? *found : Record();
}

/// A number for all units, or one by unit.
UnitValues Units(const JsonObject& row, std::string_view key) {
  UnitValues values;
  if (row.Has(key) && row.At(key).is_object()) {
    const JsonObject units = row.Object(key);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = Number(units, kReportUnits[i]);
  } else {
    values.fill(Number(row, key));
  }
  return values;
}

/// Calls `read` for the rows of "layers", which stand in order.
template <class F>
void ReadLayers(const JsonObject& object, F&& read) {
  const std::size_t count = Array(object, "layers", kMaxLayers).size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonObject row = Item(object, "layers", i);
    if (row.Integer("layer", static_cast<std::int64_t>(i)) != static_cast<std::int64_t>(i)) {
      Wrong(row, "layer", std::to_string(i) + ": layers in order, each once");
    }
    read(row);
  }
}

std::string Compact(const Json& value) {
  if (value.is_string()) return Cut(value.get<std::string>());
  return Cut(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// {"qkv": 64, "o": 32} as "qkv 64, o 32".
std::string KeysAndValues(const JsonObject& object, std::string_view key) {
  if (!object.Has(key)) return {};
  if (!object.At(key).is_object()) return Compact(object.At(key));
  std::string text;
  for (const auto& [name, value] : object.At(key).items()) {
    text += (text.empty() ? "" : ", ") + name + " " + Compact(value);
  }
  return Cut(text);
}

TuningFacts ReadTuning(const JsonObject& object) {
  TuningFacts tuning{.what = Text(object, "what"),
                     .reference = Text(object, "reference"),
                     .arithmetic = Text(object, "arithmetic"),
                     .ends = Texts(object, "ends"),
                     .steps = Number(object, "steps"),
                     .kept_step = Number(object, "kept_step"),
                     .tokens = Number(object, "tokens"),
                     .windows = Number(object, "windows"),
                     .held_out_windows = Number(object, "held_out_windows"),
                     .context = Number(object, "context"),
                     .rate = Number(object, "rate"),
                     .code_rate = Number(object, "code_rate"),
                     .numbers = Number(object, "numbers"),
                     .codes = Number(object, "codes"),
                     .moved_codes = Number(object, "moved_codes"),
                     .before = Number(object, "held_out_kl_before"),
                     .after = Number(object, "held_out_kl")};
  if (object.Has("calibration")) tuning.files = Texts(object.Object("calibration"), "files");
  for (std::size_t i = 0; i < Array(object, "held_out", kMaxRows).size(); ++i) {
    tuning.held_out_texts.push_back(Text(Item(object, "held_out", i), "text"));
  }
  for (std::size_t i = 0; i < Array(object, "checks", kMaxRows).size(); ++i) {
    const JsonObject check = Item(object, "checks", i);
    tuning.checks.push_back({Number(check, "step"), Number(check, "held_out_kl")});
  }
  tuning.losses = Numbers(object, "losses", kMaxSteps);
  return tuning;
}

ModelFacts ReadModel(const JsonObject& object, const ReportInput& input) {
  ModelFacts model{.run = input.run,
                   .program = Text(object, "program"),
                   .base_model = Text(object, "base_model"),
                   .architecture = Text(object, "architecture"),
                   .command = Text(object, "command"),
                   .ranking = Text(object, "ranking"),
                   .allocation = Text(object, "allocation"),
                   .hash = input.model_hash,
                   .settings = Settings(input.json),
                   .requested = object.Has("requested") ? KeysAndValues(object, "requested") : "",
                   .requested_bits = Number(object, "requested_bits"),
                   .code_bits = Number(object, "code_bits_per_weight"),
                   .bits_per_weight = Number(object, "bits_per_weight"),
                   .bytes = Number(object, "bytes"),
                   .source_bytes = Number(object, "source_bytes")};
  if (model.settings.is_object()) {
    const JsonObject settings = object.Object("settings");
    model.method = TextIfAny(settings, "method");
    model.source_hash = TextIfAny(settings, "model");
    model.embedding_bits = NumberIfAny(settings, "embedding_bits");
    model.head_bits = NumberIfAny(settings, "head_bits");
  }
  if (object.Has("compression_ratio")) {
    const JsonObject ratio = object.Object("compression_ratio");
    model.codes_only = Number(ratio, "codes_only");
    model.true_bytes = Number(ratio, "true_bytes");
  }
  model.container = ContainerOf(object);
  if (object.Has("calibration")) {
    const JsonObject calibration = object.Object("calibration");
    model.calibration_files = Texts(calibration, "files");
    model.calibration_hash = Text(calibration, "hash");
    model.calibration_tokens = Number(calibration, "tokens");
  }
  if (object.Has("tuning")) model.tuning = ReadTuning(object.Object("tuning"));
  if (object.Has("size_by_part")) {
    const JsonObject parts = object.Object("size_by_part");
    for (const char* part : {"codes", "scales", "embedding", "head", "other"}) {
      const Value bytes = Number(parts, part);
      if (bytes && *bytes < 0) Wrong(parts, part, "a number of bytes");
      if (bytes) model.size_by_part.emplace_back(part, *bytes);
    }
  }
  ReadLayers(object, [&](const JsonObject& row) {
    LayerFacts layer{.bits = Units(row, "bits"), .score = Number(row, "score")};
    if (row.Has("linears")) {
      const JsonObject linears = row.Object("linears");
      for (std::size_t i = 0; i < kReportLinears.size(); ++i) {
        if (!linears.Has(kReportLinears[i])) continue;
        const JsonObject linear = linears.Object(kReportLinears[i]);
        layer.relative_error[i] = Number(linear, "relative_error");
        layer.clamped[i] = Number(linear, "clamped");
      }
    }
    model.layers.push_back(layer);
  });
  return model;
}

RunFacts ReadRun(const JsonObject& object, const ReportInput& input) {
  return {.run = input.run,
          .finished = Text(object, "finished"),
          .command = Text(object, "command"),
          .device = Text(object, "device"),
          .seconds = Number(object, "seconds"),
          .peak_bytes = Number(object, "peak_bytes"),
          .threads = Number(object, "threads")};
}

Diagnostics ReadDiagnostics(const JsonObject& object, const ReportInput& input) {
  Diagnostics diagnostics{.run = input.run,
                          .settings = Settings(input.json),
                          .model_hash = Text(object, "model_hash"),
                          .calibration_files = Texts(object, "calibration_files"),
                          .text_files = Texts(object, "text_files"),
                          .base_perplexity = Number(object, "base_perplexity"),
                          .context = Number(object, "context"),
                          .spectrum_windows = Number(object, "spectrum_windows"),
                          .drop_windows = Number(object, "drop_windows")};
  if (object.Has("stability")) {
    const JsonObject stability = object.Object("stability");
    diagnostics.kendall_tau = Named(stability, "kendall_tau");
    diagnostics.second_text_files = Texts(stability, "text_files");
  }
  ReadLayers(object, [&](const JsonObject& row) {
    diagnostics.layers.push_back({.perplexity_drop = Number(row, "perplexity_drop"),
                                  .nll_drop = Number(row, "nll_drop"),
                                  .compactness = Number(row, "compactness"),
                                  .top_k_energy = Number(row, "top_k_energy"),
                                  .block_influence = Number(row, "block_influence"),
                                  .largest_activation = Number(row, "largest_activation"),
                                  .activation_ratio = Number(row, "activation_ratio")});
  });
  return diagnostics;
}

std::string CandidateName(const JsonObject& candidate) {
  std::string name = fmt::format("{:g} bits", candidate.Number("bits", 0));
  if (candidate.Has("group_size")) {
    name += candidate.At("group_size").is_string()
                ? ", whole rows"
                : fmt::format(", group {}", candidate.Integer("group_size"));
  }
  if (candidate.Boolean("k_quant", false)) return name + ", K-quant";
  if (candidate.Has("offset")) {
    name += fmt::format(", {} offset", candidate.String("offset"));
  } else if (candidate.Has("symmetric") && !candidate.Boolean("symmetric")) {
    name += ", asymmetric";
  }
  return name;
}

SensitiveUnit ReadUnit(const JsonObject& row, std::size_t candidates) {
  SensitiveUnit unit;
  const std::int64_t layer = row.Integer("layer", 0);
  if (layer < 0 || layer >= static_cast<std::int64_t>(kMaxLayers)) {
    Wrong(row, "layer", fmt::format("0 to {}", kMaxLayers - 1));
  }
  unit.layer = static_cast<std::size_t>(layer);
  unit.unit = row.String("unit", "layer");
  if (unit.unit != "layer" && std::ranges::find(kReportUnits, unit.unit) == kReportUnits.end()) {
    Wrong(row, "unit", fmt::format("layer, {}", fmt::join(kReportUnits, ", ")));
  }
  unit.loss = Numbers(row, "loss", kMaxCandidates);
  unit.predicted_kl = Numbers(row, "predicted_kl", kMaxCandidates);
  const std::size_t count = Array(row, "measured", kMaxCandidates).size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonObject measured = Item(row, "measured", i);
    const std::int64_t candidate = measured.Integer("candidate", 0);
    if (candidate < 0 || candidate >= static_cast<std::int64_t>(candidates)) {
      Wrong(measured, "candidate", fmt::format("one of the {} candidates, from 0", candidates));
    }
    unit.measured.push_back({.candidate = static_cast<std::size_t>(candidate),
                             .nll_rise = Number(measured, "nll_rise"),
                             .kl = Number(measured, "kl")});
  }
  return unit;
}

SensitivityFacts ReadSensitivities(const JsonObject& object, const ReportInput& input) {
  SensitivityFacts result{.run = input.run,
                          .mode = Text(object, "mode"),
                          .granularity = Text(object, "granularity"),
                          .method = Text(object, "method"),
                          .model_hash = Text(object, "model_hash"),
                          .windows = Number(object, "windows"),
                          .context = Number(object, "context"),
                          .forward_passes = Number(object, "forward_passes"),
                          .seconds = Number(object, "seconds"),
                          .base_nll = Number(object, "base_nll"),
                          .base_kl = Number(object, "base_kl")};
  const std::size_t candidates = Array(object, "candidates", kMaxCandidates).size();
  for (std::size_t i = 0; i < candidates; ++i) {
    result.candidates.push_back(CandidateName(Item(object, "candidates", i)));
  }
  // A record that does not say which they are may still number them.
  const bool named = object.Has("candidates");
  const std::size_t units = Array(object, "units", kMaxLayers * kReportUnits.size()).size();
  for (std::size_t i = 0; i < units; ++i) {
    result.units.push_back(ReadUnit(Item(object, "units", i), named ? candidates : kMaxCandidates));
    if (named) continue;
    const SensitiveUnit& unit = result.units.back();
    std::size_t used = std::max(unit.loss.size(), unit.predicted_kl.size());
    for (const auto& measured : unit.measured) used = std::max(used, measured.candidate + 1);
    while (result.candidates.size() < used) {
      result.candidates.push_back(fmt::format("candidate {}", result.candidates.size()));
    }
  }
  return result;
}

PlanFacts ReadPlan(const JsonObject& object, const ReportInput& input) {
  PlanFacts plan{.run = input.run,
                 .ranking = Text(object, "ranking"),
                 .allocation = Text(object, "allocation"),
                 .granularity = Text(object, "granularity"),
                 .requested = KeysAndValues(object, "requested"),
                 .code_bits = Number(object, "code_bits"),
                 .bits_per_weight = Number(object, "bits_per_weight"),
                 .bytes = Number(object, "bytes"),
                 .embedding_bits = Number(object, "embedding_bits"),
                 .head_bits = Number(object, "head_bits"),
                 .predicted_kl = Number(object, "predicted_kl")};
  if (plan.requested.empty() && object.Has("requested_bits")) {
    plan.requested = fmt::format("bits {:g}", object.Number("requested_bits"));
  }
  if (object.Has("compression_ratio")) {
    const JsonObject ratio = object.Object("compression_ratio");
    plan.codes_only = Number(ratio, "codes_only");
    plan.true_bytes = Number(ratio, "true_bytes");
  }
  plan.container = ContainerOf(object);
  ReadLayers(object, [&](const JsonObject& row) {
    plan.layers.push_back({.bits = Units(row, "bits"),
                           .group_size = KeysAndValues(row, "group_size"),
                           .score = Number(row, "score")});
  });
  return plan;
}

Evaluation ReadEvaluation(const JsonObject& object, const ReportInput& input) {
  Evaluation evaluation{.run = input.run,
                        .model = BaseName(object, "model"),
                        .text = BaseName(object, "text"),
                        .text_hash = Text(object, "text_hash"),
                        .device = Text(object, "device"),
                        .model_hash = Text(object, "model_hash"),
                        .convention = Text(object, "convention") +
                                      (Text(object, "chat_windows") == "single" ? ", chats" : "") +
                                      (Text(object, "score") == "answers" ? ", answers" : ""),
                        .stride = Number(object, "stride"),
                        .bytes = Number(object, "bytes"),
                        .bits_per_weight = Number(object, "bits_per_weight"),
                        .perplexity = Number(object, "perplexity"),
                        .mean_nll = Number(object, "mean_nll"),
                        .standard_error = Number(object, "standard_error"),
                        .tokens_scored = Number(object, "tokens_scored"),
                        .windows = Number(object, "windows"),
                        .context = Number(object, "context"),
                        .seconds = Number(object, "seconds"),
                        .peak_bytes = Number(object, "peak_bytes"),
                        .threads = Number(object, "threads")};
  if (object.Has("reference")) {
    const JsonObject reference = object.Object("reference");
    evaluation.reference = BaseName(reference, "model");
    evaluation.reference_perplexity = Number(reference, "perplexity");
    evaluation.mean_kl = Number(reference, "mean_kl");
    evaluation.kl_error = Number(reference, "kl_error");
    evaluation.median_kl = Number(reference, "median_kl");
    evaluation.kl_90 = Number(reference, "kl_90");
    evaluation.kl_99 = Number(reference, "kl_99");
    evaluation.kl_999 = Number(reference, "kl_999");
    evaluation.largest_kl = Number(reference, "largest_kl");
    evaluation.first_kl = Number(reference, "first_kl");
    evaluation.same_top = Number(reference, "same_top");
    evaluation.top_overlap = Number(reference, "top_5_overlap");
  }
  return evaluation;
}

TaskScores ReadTaskScores(const JsonObject& object, const ReportInput& input) {
  TaskScores scores{.run = input.run, .model = BaseName(object, "model"), .tasks = {}};
  const std::size_t count = Array(object, "tasks", kMaxRows).size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonObject task = Item(object, "tasks", i);
    scores.tasks.push_back({.name = Text(task, "name"),
                            .items = Number(task, "items"),
                            .accuracy = Number(task, "accuracy"),
                            .accuracy_error = Number(task, "accuracy_error"),
                            .normalized = Number(task, "normalized"),
                            .normalized_error = Number(task, "normalized_error")});
  }
  return scores;
}

AnswerScores ReadAnswers(const JsonObject& object, const ReportInput& input) {
  AnswerScores scores{.run = input.run,
                      .model = BaseName(object, "model"),
                      .source = Text(object, "source"),
                      .prompts = Number(object, "prompts"),
                      .empty = Number(object, "empty"),
                      .repeating = Number(object, "repeating"),
                      .cut = Number(object, "cut"),
                      .missed_end = Number(object, "missed_end"),
                      .same = Number(object, "same")};
  if (object.Has("reference")) {
    const JsonObject reference = object.Object("reference");
    scores.reference = BaseName(reference, "model");
    scores.reference_empty = Number(reference, "empty");
    scores.reference_repeating = Number(reference, "repeating");
    scores.reference_cut = Number(reference, "cut");
  }
  return scores;
}

Study ReadStudy(const JsonObject& object, const ReportInput& input) {
  Study study{.run = input.run, .study = Text(object, "study"), .model = Text(object, "model")};
  if (object.Has("base")) study.base_perplexity = Named(object.Object("base"), "perplexity");
  const std::size_t flags = Array(object, "flags", kMaxRows).size();
  for (std::size_t i = 0; i < flags; ++i) {
    const JsonObject flag = Item(object, "flags", i);
    study.flags.push_back({.flag = Text(flag, "flag"), .text = Text(flag, "text")});
  }
  const std::size_t rows = Array(object, "rows", kMaxRows).size();
  for (std::size_t i = 0; i < rows; ++i) {
    const JsonObject row = Item(object, "rows", i);
    study.rows.push_back(input.json["rows"][i]);
    if (study.study != "layers") continue;
    study.sweep.push_back({.ranking = Text(row, "ranking"),
                           .high_layers = Number(row, "high_layers"),
                           .code_bits = Number(row, "code_bits"),
                           .bits_per_weight = Number(row, "bits_per_weight"),
                           .perplexity = Named(row, "perplexity")});
  }
  return study;
}

template <class T, class F>
void Append(std::vector<T>& list, F* read, const ReportInput& input, const JsonObject& object) {
  list.push_back(read(object, input));
}

/// A kind of record and what reads it.
struct KindRow {
  std::string_view kind;
  void (*read)(const ReportInput& input, const JsonObject& object, Records& records);
};

constexpr std::array kKinds{
    KindRow{"quantized model", [](const ReportInput& i, const JsonObject& o,
                                  Records& r) { Append(r.models, ReadModel, i, o); }},
    KindRow{"run", [](const ReportInput& i, const JsonObject& o,
                      Records& r) { Append(r.runs, ReadRun, i, o); }},
    KindRow{"diagnostics", [](const ReportInput& i, const JsonObject& o,
                              Records& r) { Append(r.diagnostics, ReadDiagnostics, i, o); }},
    KindRow{"sensitivities", [](const ReportInput& i, const JsonObject& o,
                                Records& r) { Append(r.sensitivities, ReadSensitivities, i, o); }},
    KindRow{"plan", [](const ReportInput& i, const JsonObject& o,
                       Records& r) { Append(r.plans, ReadPlan, i, o); }},
    KindRow{"evaluation", [](const ReportInput& i, const JsonObject& o,
                             Records& r) { Append(r.evaluations, ReadEvaluation, i, o); }},
    KindRow{"tasks", [](const ReportInput& i, const JsonObject& o,
                        Records& r) { Append(r.tasks, ReadTaskScores, i, o); }},
    KindRow{"answers", [](const ReportInput& i, const JsonObject& o,
                          Records& r) { Append(r.answers, ReadAnswers, i, o); }},
    KindRow{"study", [](const ReportInput& i, const JsonObject& o,
                        Records& r) { Append(r.studies, ReadStudy, i, o); }},
};

const KindRow* FindKind(const Record& json) {
  if (!json.is_object()) return nullptr;
  const auto kind = json.find("kind");
  if (kind == json.end() || !kind->is_string()) return nullptr;
  const auto* row = std::ranges::find(kKinds, kind->get<std::string>(), &KindRow::kind);
  return row != kKinds.end() ? row : nullptr;
}

std::string KindNames() {
  std::string names;
  for (const KindRow& row : kKinds) {
    names += (names.empty() ? "" : ", ") + std::string(row.kind);
  }
  return names;
}

}  // namespace

bool Evaluation::SameTextAs(const Evaluation& other) const {
  const bool same_text = text_hash.empty() && other.text_hash.empty()
                             ? text == other.text
                             : text_hash == other.text_hash;
  const auto plain = [](const std::string& name) { return name.empty() ? "plain" : name; };
  return same_text && windows == other.windows && context == other.context &&
         stride.value_or(0) == other.stride.value_or(0) &&
         plain(convention) == plain(other.convention);
}

bool IsReportRecord(const Record& json) {
  return FindKind(json) != nullptr;
}

Records ReadRecords(std::span<const ReportInput> inputs) {
  Records records;
  for (const ReportInput& input : inputs) {
    const std::string where = input.run == input.file ? input.file : input.run + "/" + input.file;
    const Json json = input.json;
    const JsonObject object(json, where);
    const KindRow* row = FindKind(input.json);
    if (row == nullptr) {
      throw Error({.what = "not a record that a report can show",
                   .where = object.Where("kind"),
                   .expected = "one of " + KindNames(),
                   .found = object.Has("kind") ? Compact(object.At("kind")) : "nothing"});
    }
    if (object.Integer("schema", 1) != 1) Wrong(object, "schema", "1, the one this version reads");
    row->read(input, object, records);
  }
  return records;
}

}  // namespace lieq
