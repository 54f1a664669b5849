#include "lieq/pipeline/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/model_sizes.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 28;  // of one record

using Value = std::optional<double>;

constexpr std::array kDistances{DistanceRow{"median_kl", "median", false},
                                DistanceRow{"kl_90", "90 %", false},
                                DistanceRow{"kl_99", "99 %", false},
                                DistanceRow{"kl_999", "99.9 %", false},
                                DistanceRow{"largest_kl", "largest", false},
                                DistanceRow{"first_kl", "first of answer", false},
                                DistanceRow{"same_top", "same top %", true},
                                DistanceRow{"top_5_overlap", "same top 5 %", true}};

/// A record and where it stands in a file that may hold several.
struct FoundRecord {
  Json json;
  std::string where;
};

Json ReadRecordFile(const fs::path& file) {
  return ParseJson(ReadText(file, kMaxBytes), file.string());
}

/// The last part of a path; "out/q/" and "." have one too.
std::string LastPart(const fs::path& path) {
  const fs::path whole = fs::weakly_canonical(path);
  return whole.has_filename() ? whole.filename().string() : whole.parent_path().filename().string();
}

Value Number(const JsonObject& object, std::string_view key) {
  if (!object.Has(key)) return std::nullopt;
  const double number = object.Number(key);
  return std::isfinite(number) ? Value(number) : std::nullopt;
}

std::optional<std::int64_t> Bytes(const JsonObject& object) {
  return object.Has("bytes") ? std::optional(object.Integer("bytes")) : std::nullopt;
}

/// `evaluate --json` prints one record, or an array of them.
std::vector<FoundRecord> Unfold(Json json, const std::string& where) {
  std::vector<FoundRecord> records;
  if (!json.is_array()) return {{std::move(json), where}};
  for (std::size_t i = 0; i < json.size(); ++i) {
    records.push_back({std::move(json[i]), where + ": /" + std::to_string(i)});
  }
  return records;
}

/// "evaluation", "tasks" or "answers"; empty for anything else.
std::string KindOf(const Json& json) {
  if (!json.is_object()) return {};
  const auto kind = json.find("kind");
  if (kind == json.end() || !kind->is_string()) return {};
  const auto name = kind->get<std::string>();
  return name == "evaluation" || name == "tasks" || name == "answers" ? name : std::string();
}

void RequireSchema(const JsonObject& object) {
  if (object.Integer("schema", 1) == 1) return;
  throw Error({.what = "a record of another schema",
               .where = object.Where("schema"),
               .expected = "1, the one this version reads",
               .found = std::to_string(object.Integer("schema"))});
}

[[noreturn]] void RefuseKind(const FoundRecord& record) {
  std::string found = "no `kind`";
  if (record.json.is_object() && record.json.contains("kind")) {
    found = record.json["kind"].dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  throw Error({.what = "not a record of an evaluation",
               .where = record.where,
               .expected = "kind evaluation, tasks or answers",
               .found = std::move(found),
               .hint = "give what `lieq evaluate --json` printed, and of a run its folder"});
}

ComparedText ReadText(const JsonObject& object) {
  const std::string text = fs::path(object.String("text", "")).filename().string();
  // What was scored is part of how it was counted.
  const std::string single = object.String("chat_windows", "packed") == "packed" ? "" : ", chats";
  const std::string scored = object.String("score", "all") == "all" ? "" : ", answers";
  ComparedText result{.on = {.text = text,
                             .hash = object.String("text_hash", text),
                             .convention = object.String("convention", "plain") + single + scored,
                             .stride = object.Integer("stride", 0),
                             .context = object.Integer("context", 0),
                             .windows = object.Integer("windows", 0)},
                      .perplexity = Number(object, "perplexity"),
                      .standard_error = Number(object, "standard_error"),
                      .model_hash = object.String("model_hash", "")};
  if (object.Has("reference")) {
    const JsonObject reference = object.Object("reference");
    result.reference_perplexity = Number(reference, "perplexity");
    result.mean_kl = Number(reference, "mean_kl");
    result.kl_error = Number(reference, "kl_error");
    for (const DistanceRow& row : kDistances) {
      result.distances.push_back(Number(reference, row.key));
    }
  }
  return result;
}

std::vector<ComparedTask> ReadTasks(const JsonObject& object) {
  std::vector<ComparedTask> tasks;
  const Json& rows = object.At("tasks");
  if (!rows.is_array()) {
    throw Error({.what = "wrong type", .where = object.Where("tasks"), .expected = "an array"});
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const JsonObject row(rows[i], object.Where("tasks") + "/" + std::to_string(i));
    tasks.push_back({.name = row.String("name"),
                     .items = row.Integer("items"),
                     .accuracy = Number(row, "accuracy"),
                     .accuracy_error = Number(row, "accuracy_error"),
                     .normalized = Number(row, "normalized"),
                     .normalized_error = Number(row, "normalized_error")});
  }
  return tasks;
}

/// Of two measurements of the same thing the later counts.
template <class Row, class Same>
void Put(std::vector<Row>& rows, Row row, const Same& same) {
  const auto found = std::ranges::find_if(rows, [&](const Row& other) { return same(other, row); });
  if (found == rows.end()) {
    rows.push_back(std::move(row));
  } else {
    *found = std::move(row);
  }
}

bool SameTask(const ComparedTask& a, const ComparedTask& b) {
  return a.name == b.name && a.items == b.items;
}

void Add(ComparedRun& run, const JsonObject& object, const std::string& kind) {
  RequireSchema(object);
  if (kind == "tasks") {
    for (ComparedTask& task : ReadTasks(object)) Put(run.tasks, std::move(task), SameTask);
  } else if (kind == "answers") {
    run.answers = {.source = object.String("source", ""),
                   .prompts = object.Integer("prompts"),
                   .empty = object.Integer("empty"),
                   .repeating = object.Integer("repeating"),
                   .cut = object.Integer("cut"),
                   .missed_end = Number(object, "missed_end"),
                   .same = Number(object, "same")};
  } else {
    Put(run.texts, ReadText(object),
        [](const ComparedText& a, const ComparedText& b) { return a.on == b.on; });
    return;
  }
  if (!run.bits_per_weight) run.bits_per_weight = Number(object, "bits_per_weight");
  if (!run.bytes) run.bytes = Bytes(object);
}

/// "rotate + gptq"; a transform that the method itself brings (awq) is not named twice.
std::string MethodOf(const JsonObject& record) {
  std::string method;
  const std::string last =
      record.Has("settings") ? record.Object("settings").String("method", "") : "";
  if (record.Has("transforms") && record.At("transforms").is_array()) {
    const Json& transforms = record.At("transforms");
    for (std::size_t i = 0; i < transforms.size(); ++i) {
      const JsonObject row(transforms[i], record.Where("transforms") + "/" + std::to_string(i));
      if (row.String("name") != last) method += row.String("name") + " + ";
    }
  }
  return method + last;
}

/// Bits and bytes by lieq.json, or by the weights where there is none.
void AddModel(ComparedRun& run) {
  const fs::path record = run.model / "lieq.json";
  if (!fs::exists(record)) {
    const ModelSizes sizes = MeasureSizes(OpenModel(run.model));
    run.code_bits = sizes.code_bits / static_cast<double>(sizes.weights);
    run.bits_per_weight = sizes.BitsPerWeight();
    run.bytes = static_cast<std::int64_t>(sizes.bytes);
    return;
  }
  const Json json = ReadRecordFile(record);
  const JsonObject object(json, record.string());
  RequireSchema(object);
  run.base_model = object.String("base_model", "");
  run.method = MethodOf(object);
  run.allocation = object.String("allocation", "");
  run.code_bits = Number(object, "code_bits_per_weight");
  run.bits_per_weight = Number(object, "bits_per_weight");
  run.bytes = Bytes(object);
  if (fs::exists(run.model / "run.json")) {
    const Json finished = ReadRecordFile(run.model / "run.json");
    run.seconds = Number(JsonObject(finished, (run.model / "run.json").string()), "seconds");
  }
}

/// Names of the eval*.json of a folder, sorted.
std::vector<fs::path> EvaluationFiles(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("eval") && name.ends_with(".json")) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

class Gatherer {
 public:
  explicit Gatherer(const Log& log) : log_(log) {}

  void AddRun(const fs::path& word) {
    if (!places_.emplace(fs::weakly_canonical(word), runs_.size()).second) return;
    ComparedRun& run = runs_.emplace_back();
    run.model = word;
    AddModel(run);
  }

  /// folder: the run that the file lies in; empty for a file that was named.
  void AddFile(const fs::path& file, const fs::path& folder = {}) {
    if (!files_.insert(fs::weakly_canonical(file)).second) return;
    for (const FoundRecord& record : Unfold(ReadRecordFile(file), file.string())) {
      const std::string kind = KindOf(record.json);
      if (kind.empty() && folder.empty()) RefuseKind(record);
      if (kind.empty()) {  // other programs write eval_results.json too
        log_.Warning(record.where + " is no record of an evaluation; left out");
        continue;
      }
      const JsonObject object(record.json, record.where);
      Add(RunOf(object.String("model"), folder), object, kind);
    }
  }

  [[nodiscard]] std::vector<ComparedRun> Finish() {
    std::map<std::string, int> uses;
    for (const ComparedRun& run : runs_) ++uses[LastPart(run.model)];
    for (ComparedRun& run : runs_) {
      run.name = LastPart(run.model);
      if (uses[run.name] > 1) run.name = run.model.string();
    }
    return std::move(runs_);
  }

 private:
  ComparedRun& RunOf(const fs::path& model, const fs::path& folder) {
    const auto found = places_.find(fs::weakly_canonical(model));
    if (found != places_.end()) return runs_[found->second];
    // What lies in a folder is of that folder, from wherever it was measured.
    if (!folder.empty() && LastPart(model) == LastPart(folder)) {
      return runs_[places_.at(fs::weakly_canonical(folder))];
    }
    places_.emplace(fs::weakly_canonical(model), runs_.size());
    ComparedRun& run = runs_.emplace_back();
    run.model = model;
    return run;
  }

  const Log& log_;
  std::vector<ComparedRun> runs_;
  std::map<fs::path, std::size_t> places_;  // of runs_, by their paths
  std::set<fs::path> files_;                // a file may be named beside its folder
};

template <class T>
Record OrNull(const std::optional<T>& value) {
  return value ? Record(*value) : Record(nullptr);
}

Record OrNull(const std::string& text) {
  return text.empty() ? Record(nullptr) : Record(text);
}

Record ToJson(const ComparedText& text) {
  Record record{{"text", text.on.text},
                {"text_hash", text.on.hash},
                {"convention", text.on.convention},
                {"stride", text.on.stride},
                {"context", text.on.context},
                {"windows", text.on.windows},
                {"perplexity", OrNull(text.perplexity)},
                {"standard_error", OrNull(text.standard_error)},
                {"mean_kl", OrNull(text.mean_kl)},
                {"kl_error", OrNull(text.kl_error)}};
  for (std::size_t i = 0; i < kDistances.size(); ++i) {
    const bool known = i < text.distances.size();
    record[std::string(kDistances[i].key)] = OrNull(known ? text.distances[i] : Value());
  }
  return record;
}

Record ToJson(const std::optional<ComparedAnswers>& answers) {
  if (!answers) return nullptr;
  return {{"source", answers->source},    {"prompts", answers->prompts},
          {"empty", answers->empty},      {"repeating", answers->repeating},
          {"cut", answers->cut},          {"missed_end", OrNull(answers->missed_end)},
          {"same", OrNull(answers->same)}};
}

Record ToJson(const ComparedTask& task) {
  return {{"name", task.name},
          {"items", task.items},
          {"accuracy", OrNull(task.accuracy)},
          {"accuracy_error", OrNull(task.accuracy_error)},
          {"normalized", OrNull(task.normalized)},
          {"normalized_error", OrNull(task.normalized_error)}};
}

}  // namespace

std::span<const DistanceRow> Distances() noexcept {
  return kDistances;
}

std::optional<double> ComparedText::Distance(std::string_view key) const {
  const auto* row = std::ranges::find(kDistances, key, &DistanceRow::key);
  const auto at = static_cast<std::size_t>(row - kDistances.begin());
  return at < distances.size() ? distances[at] : std::nullopt;
}

std::optional<double> RunComparison::Average(const ComparedRun& run) const {
  if (tasks.empty()) return std::nullopt;
  double sum = 0;
  for (const ComparedTask& column : tasks) {
    const auto task = std::ranges::find_if(
        run.tasks, [&](const ComparedTask& each) { return SameTask(each, column); });
    if (task == run.tasks.end() || !task->shown()) return std::nullopt;
    sum += *task->shown();
  }
  return sum / static_cast<double>(tasks.size());
}

RunComparison CompareRuns(std::span<const fs::path> words, const Log& log) {
  Gatherer gatherer(log);
  const auto is_record = [](const fs::path& word) {
    return !fs::is_directory(word) && word.extension() == ".json";
  };
  for (const fs::path& word : words) {
    if (!fs::exists(word)) {
      throw Error({.what = "no such run",
                   .where = word.string(),
                   .expected = "a model folder, a GGUF file, or a .json file of `lieq evaluate`"});
    }
    if (!is_record(word)) gatherer.AddRun(word);
  }
  // After all models: a record may come before the model that it names.
  for (const fs::path& word : words) {
    if (is_record(word)) {
      gatherer.AddFile(word);
    } else if (fs::is_directory(word)) {
      for (const fs::path& file : EvaluationFiles(word)) gatherer.AddFile(file, word);
    }
  }
  RunComparison comparison{.runs = gatherer.Finish(), .texts = {}, .tasks = {}};
  for (const ComparedRun& run : comparison.runs) {
    for (const ComparedText& text : run.texts) {
      if (std::ranges::find(comparison.texts, text.on) == comparison.texts.end()) {
        comparison.texts.push_back(text.on);
      }
    }
    for (const ComparedTask& task : run.tasks) {
      Put(comparison.tasks, {.name = task.name, .items = task.items}, SameTask);
    }
  }
  return comparison;
}

Record ToJson(const RunComparison& comparison) {
  Record runs = Record::array();
  for (const ComparedRun& run : comparison.runs) {
    Record texts = Record::array(), tasks = Record::array();
    for (const ComparedText& text : run.texts) texts.push_back(ToJson(text));
    for (const ComparedTask& task : run.tasks) tasks.push_back(ToJson(task));
    runs.push_back({{"name", run.name},
                    {"model", run.model.string()},
                    {"base_model", OrNull(run.base_model)},
                    {"method", OrNull(run.method)},
                    {"allocation", OrNull(run.allocation)},
                    {"code_bits_per_weight", OrNull(run.code_bits)},
                    {"bits_per_weight", OrNull(run.bits_per_weight)},
                    {"bytes", OrNull(run.bytes)},
                    {"seconds", OrNull(run.seconds)},
                    {"texts", std::move(texts)},
                    {"tasks", std::move(tasks)},
                    {"answers", ToJson(run.answers)},
                    {"average", OrNull(comparison.Average(run))}});
  }
  return {{"schema", 1}, {"kind", "comparison"}, {"runs", std::move(runs)}};
}

}  // namespace lieq
