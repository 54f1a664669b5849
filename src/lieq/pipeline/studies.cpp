#include "lieq/pipeline/studies.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/hash.h"
#include "lieq/base/rows.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/io/printable.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/run_folder.h"
#include "lieq/plan/sensitivities_json.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::array kStudies{
    StudyRow{"correlation", "do the cheap scores predict what removing or rounding a layer costs?",
             StudyCorrelation},
    StudyRow{"activations", "do the layers whose weights need bits also need them in their inputs?",
             StudyActivations},
    StudyRow{"layers", "perplexity by the number of layers raised, for each ranking", StudyLayers},
    StudyRow{"calibration", "perplexity and rankings by calibration text, length and size",
             StudyCalibration},
    StudyRow{"backend", "perplexity by quantizer, order and group size, under one plan",
             StudyBackend},
};

/// Everything that a row depends on besides its key.
Record Settings(const StudyRequest& a, const std::string& model_hash,
                const std::vector<StudyText>& texts) {
  Record record{{"model", model_hash},
                {"group_size", a.run.grids.group_size},
                {"symmetric", a.run.grids.offset == Offset::kSymmetric},
                {"widths", {a.run.budget.low, a.run.budget.high}},
                {"ranking", a.run.ranking.name},
                {"windows", a.windows},
                {"seed", a.run.seed}};
  AddOptions(a.run.quant, record);
  AddOffset(a.run.grids.offset, record);
  record["samples"] = a.run.calibration.samples.value_or(kDefaultSamples);
  record["context"] = a.run.calibration.context.value_or(kDefaultContext);
  // Studies of damage have the length in their keys, the others measure on the first one.
  if (a.name == "activations") record["group_sizes"] = a.group_sizes;
  if (a.name != "correlation" && a.name != "activations") record["length"] = a.lengths.front();
  if (a.name == "calibration" || a.name == "backend") {
    if (!a.run.plan.empty()) {
      record["plan"] = HashPlan(a.run.plan);
    } else if (a.run.budget.high_layers) {
      record["high_layers"] = *a.run.budget.high_layers;
    } else {
      AddAverage(a.run, record);
    }
  }
  if (!a.run.damage.sensitivities.empty())
    record["sensitivities"] = HashFile(a.run.damage.sensitivities);
  if (!a.run.reading.fields.empty()) record["text_fields"] = a.run.reading.fields;
  if (a.run.reading.line_ends != LineEnds::kLf) record["line_ends"] = Name(a.run.reading.line_ends);
  for (const StudyText& text : texts) {
    Hasher hasher;
    hasher.Add(std::as_bytes(std::span(text.ids)));
    record["texts"][text.name] = hasher.Hex();
  }
  for (const fs::path& file : a.run.calibration.files) {
    record["calibration"].push_back({{"file", file.filename().string()}, {"hash", HashFile(file)}});
  }
  return record;
}

/// Throws Error unless `object` has a number for each text.
void CheckTexts(const JsonObject& object, const std::vector<StudyText>& texts) {
  for (const StudyText& text : texts) (void)object.Number(text.name);
}

/// Throws Error unless `tables` has numbers [layers, windows] at `key`, windows of the row.
void CheckMeasured(const JsonObject& row, const JsonObject& tables, std::string_view key) {
  const auto windows = static_cast<std::size_t>(row.Integer("windows"));
  const Json& table = tables.At(key);
  const bool good =
      table.is_array() && !table.empty() && std::ranges::all_of(table, [&](const Json& layer) {
        return layer.is_array() && layer.size() == windows &&
               std::ranges::all_of(layer, [](const Json& v) { return v.is_number(); });
      });
  if (!good) {
    throw Error({.what = "not a table of numbers",
                 .where = tables.Where(key),
                 .expected = fmt::format("layers of {} windows each", windows)});
  }
}

void CheckSame(const Record& there, const Record& here, const std::string& where) {
  if (there == here) return;
  throw Error({.what = "another study, or one of other settings, is there already",
               .where = where,
               .expected = SettingText(here),
               .found = SettingText(there),
               .hint = "choose another -o, or remove the folder"});
}

/// Throws Error where the document is no study, or one of something else.
void CheckSettings(const Record& json, const JsonObject& study, const std::string& name,
                   const Record& settings) {
  if (study.String("kind") != "study" || study.Integer("schema") != 1) {
    throw Error({.what = "not a study",
                 .where = study.Where("kind"),
                 .expected = "kind \"study\", schema 1"});
  }
  CheckSame(study.String("study"), name, study.Where("study"));
  const JsonObject found = study.Object("settings");
  for (const auto& [key, value] : settings.items()) {
    CheckSame(json["settings"].value(key, Record()), value, found.Where(key));
  }
  for (const auto& [key, value] : json["settings"].items()) {
    if (!settings.contains(key)) CheckSame(value, Record(), found.Where(Printable(key)));
  }
}

/// Throws Error naming the place for rows that no study leaves behind: flags are read off them.
void CheckRows(const JsonObject& study, const std::vector<StudyText>& texts) {
  const bool activations = study.String("study") == "activations";
  const bool correlates = activations || study.String("study") == "correlation";
  if (study.Has("base")) CheckTexts(study.Object("base").Object("perplexity"), texts);
  const Json& rows = study.At("rows");
  if (!rows.is_array()) throw Error({.what = "not an array", .where = study.Where("rows")});
  std::set<std::string> keys;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const JsonObject row(rows[i], study.Where("rows") + "/" + std::to_string(i));
    const std::string key = row.String("key");
    if (!keys.insert(key).second) {
      throw Error({.what = "two rows of one key", .where = row.Where("key"), .found = key});
    }
    if (!correlates) {
      CheckTexts(row.Object("perplexity"), texts);
    } else if (key.starts_with("measured: ") && activations) {
      const JsonObject kl = row.Object("kl");
      for (const auto& [name, table] : rows[i]["kl"].items()) CheckMeasured(row, kl, name);
    } else if (key.starts_with("measured: ") && row.Has("expert_kl")) {
      CheckMeasured(row, row, "expert_kl");
    } else if (key.starts_with("measured: ")) {
      (void)row.Number("base_perplexity");
      for (const char* name : {"drop", "solo", "solo_kl"}) CheckMeasured(row, row, name);
    } else if (row.Has("rho")) {
      (void)row.Number("rho");
    }
  }
}

/// What a piece holds: the text of a record. Throws Error naming it.
Record RecordOf(const std::string& piece, const std::string& name) {
  const Json text = ParseJson(piece, name);
  if (!text.is_string()) {
    throw Error({.what = "a piece of another form than this work's", .where = name});
  }
  return ParseRecord(text.get<std::string>(), name);
}

}  // namespace

std::span<const StudyRow> Studies() noexcept {
  return kStudies;
}

const StudyRow& FindStudy(std::string_view name) {
  return FindRow(kStudies, name, "no such study", "study");
}

StudyBench::StudyBench(const StudyRequest& request_, Session& session_)
    : request(request_),
      session(session_),
      model(OpenInput(request_.run.model, session_.log())),
      pieces_(session_.context().pieces) {
  RequireSource(model, "study the float model it was made from", session.log());
  model_hash = HashModel(model);
  tokenizer_ = OpenTokenizer(model, session.log());
  std::set<std::string> names;
  for (const fs::path& file : request.texts) {
    StudyText text{file.filename().string(), Encode({&file, 1}).ids};
    if (!names.insert(text.name).second) {
      throw Error({.what = "two texts of one name", .where = "--texts", .found = text.name});
    }
    texts.push_back(std::move(text));
  }
  file_ = request.run.output / "study.json";
  const Record settings = Settings(request, model_hash, texts);
  if (fs::exists(file_)) {
    const Json json = ReadJson(file_);
    const JsonObject study(json, file_.string());
    study_ = ReadRecord(file_);
    CheckSettings(study_, study, request.name, settings);
    CheckRows(study, texts);
    study_["flags"] = Record::array();
    return;
  }
  study_ = {{"schema", 1},
            {"kind", "study"},
            {"study", request.name},
            {"model", fs::weakly_canonical(request.run.model).filename().string()},
            {"model_hash", model_hash},
            {"settings", settings},
            {"flags", Record::array()},
            {"rows", Record::array()}};
}

const Record& StudyBench::Derived(const std::string& key, const std::function<Record()>& make) {
  for (const Record& row : study_["rows"]) {
    if (row.value("key", "") == key) return row;
  }
  Record row = make();
  row["key"] = key;
  study_["rows"].push_back(std::move(row));
  Save();
  return study_["rows"].back();
}

const Record& StudyBench::Row(const std::string& key, const std::function<Record()>& make) {
  static const Record kAnothers;
  const auto made = [&] {
    session.log().Info("study " + request.name + ": " + key);
    row_ = Stopwatch();
    const WithoutPieces alone(session.context());
    return make();
  };
  if (pieces_ == nullptr) return Derived(key, made);
  const std::string name = "row " + key;
  const bool asked_before = !asked_.insert(key).second;
  const std::string* known = pieces_->Find(name);
  if (known == nullptr) {
    // An index for each row, in the order of the study, whoever computes it; 0 is the base's.
    if (!asked_before) is_mine_[key] = pieces_->IsMine(static_cast<Index>(is_mine_.size()) + 1);
    if (!is_mine_[key]) return kAnothers;
    pieces_->Keep(name, Json(made().dump()).dump());  // as text, which keeps the order of keys
    known = pieces_->Find(name);
  } else if (!asked_before) {
    is_mine_[key] = true;
  }
  return Derived(key, [&] { return RecordOf(*known, name); });
}

void StudyBench::Depend() {
  if (pieces_ == nullptr) return;
  for (const auto& [name, value] : study_["settings"].items()) pieces_->Depend(name, value.dump());
  (void)session.device_description();
  (void)session.arithmetic_name();
  if (pieces_->computes()) session.others().Show();
}

std::vector<std::string> StudyBench::ForAll(
    const std::vector<std::string>& keys,
    const std::function<std::vector<std::string>(const std::vector<Index>&)>& make) {
  const auto make_missing = [&](const std::vector<Index>& of) {
    std::vector<Index> missing;
    for (const Index index : of) {
      if (pieces_->Find(keys[Size(index)]) == nullptr) missing.push_back(index);
    }
    if (missing.empty()) return;
    // Of a run that is put together a piece that is missing is refused, by name.
    if (!pieces_->computes()) (void)pieces_->IsMine(missing.front());
    const WithoutPieces alone(session.context());
    std::vector<std::string> made = make(missing);
    for (std::size_t i = 0; i < made.size(); ++i) {
      pieces_->Keep(keys[Size(missing[i])], std::move(made[i]));
    }
    session.others().Show();
  };
  const auto all_known = [&] { return session.others().TakeOver(keys); };
  const Stopwatch watch;
  if (!all_known()) {
    const auto count = static_cast<Index>(keys.size());
    if (pieces_->computes()) {
      make_missing(pieces_->Share(count));
      (void)AwaitOthers(session.others(), session.context(), watch.seconds(), all_known);
    }
    std::vector<Index> all(keys.size());
    std::iota(all.begin(), all.end(), 0);
    make_missing(all);
  }
  std::vector<std::string> values;
  for (const std::string& key : keys) values.push_back(*pieces_->Find(key));
  return values;
}

void StudyBench::Save() {
  // The parts of a study are in files of their own until they are put together.
  if (pieces_ != nullptr && pieces_->computes()) return;
  fs::create_directories(request.run.output);
  WriteFileAtomically(file_, study_.dump(1) + "\n");
}

void StudyBench::Flag(std::string_view name, std::string text) {
  study_["flags"].push_back({{"flag", name}, {"text", std::move(text)}});
}

EncodedText StudyBench::Encode(std::span<const fs::path> files) const {
  return EncodeFiles(*tokenizer_, files, request.run.reading, model, session.log());
}

Windows StudyBench::TextWindows(const StudyText& text, Index length) const {
  return CutWindows(text.ids, length, request.windows, text.name, "--lengths");
}

Record StudyBench::Perplexities(const Weights& weights) {
  Record perplexities;
  for (const StudyText& text : texts) {
    const Windows windows = TextWindows(text, request.lengths.front());
    perplexities[text.name] =
        MeasurePerplexity(weights, session.team(), windows.view(), session.context()).perplexity;
  }
  return perplexities;
}

void StudyBench::BeginWithBase() {
  const bool is_anothers = pieces_ != nullptr && pieces_->computes() && pieces_->Share(1).empty();
  if (!is_anothers) (void)Base();
}

const Record& StudyBench::Base() {
  if (study_.contains("base")) return study_["base"]["perplexity"];
  Record perplexities;
  if (pieces_ == nullptr) {
    perplexities = Perplexities(model.weights);
  } else {
    const std::vector<std::string> key{"base"};
    const auto known = [&] { return session.others().TakeOver(key); };
    // Who has it to compute began with it, and it takes as long as a row.
    if (!known() && pieces_->computes() && pieces_->Share(1).empty()) {
      (void)AwaitOthers(session.others(), session.context(), row_.seconds(), known);
    }
    perplexities = RecordOf(ForAll(key,
                                   [&](const std::vector<Index>&) {
                                     const Record made = Perplexities(model.weights);
                                     return std::vector{Json(made.dump()).dump()};
                                   })
                                .front(),
                            key.front());
  }
  study_["base"] = {{"perplexity", std::move(perplexities)}};
  Save();
  return study_["base"]["perplexity"];
}

Record StudyBench::Gaps(const Record& perplexities) {
  Record gaps;
  for (const auto& [text, perplexity] : perplexities.items()) {
    gaps[text] = std::log(perplexity.get<double>() / Base()[text].get<double>());
  }
  return gaps;
}

Grid StudyBench::LowGrid() const {
  return {.bits = request.run.budget.low,
          .group_size = request.run.grids.group_size,
          .offset = request.run.grids.offset};
}
Grid StudyBench::HighGrid() const {
  return {.bits = request.run.budget.high,
          .group_size = request.run.grids.group_size,
          .offset = request.run.grids.offset};
}

CodeStore StudyBench::Codes(const std::string& name, const QuantOptions& options,
                            const EncodedText* calibration, Index samples, Index context,
                            std::span<const Grid> grids, const ModelFolder* transformed) {
  const bool calibrated = FindQuantizer(options.method).needs_calibration;
  Windows windows;
  if (calibrated) windows = CutWindows(calibration->ids, context, samples, calibration->where);
  StudyRequest told = request;
  told.run.quant = options;
  const fs::path folder = name.empty() && !request.run.damage.codes.empty()
                              ? request.run.damage.codes
                              : request.run.output / (name.empty() ? "codes" : "codes-" + name);
  CodeStore store(
      folder, transformed != nullptr ? *transformed : model,
      WithDevice(CodeSettings(told.run, model_hash, calibrated ? calibration : nullptr, windows),
                 session));
  WorkPieces* pieces = session.context().pieces;  // none: they are of a row
  if (pieces == nullptr) {
    store.Make(grids, options, windows, session);
  } else if (pieces->computes()) {
    // Its share of the layers, then what the others have not made in as long.
    const Stopwatch watch;
    store.Make(grids, options, windows, pieces->Share(model.weights.config.layers), session);
    (void)AwaitOthers(session.others(), session.context(), watch.seconds(),
                      [&] { return store.Has(grids); });
    store.Make(grids, options, windows, session);
  }
  return store;
}

Record StudyModel(const StudyRequest& request, Session& session) {
  StudyBench bench(request, session);
  bench.Depend();
  CheckGroupSize(bench.model.weights.config, request.run.grids.group_size);
  try {
    FindStudy(request.name).run(bench);
  } catch (const Stopped&) {
    session.log().Info("stopped; finished rows are kept. To go on:\n  " + request.run.command);
    throw;
  }
  bench.Save();
  return bench.record();
}

}  // namespace lieq
