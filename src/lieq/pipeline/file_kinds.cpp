#include "lieq/pipeline/file_kinds.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/checkpoint_files.h"
#include "lieq/container/packed_file.h"
#include "lieq/io/gguf_file.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/tune_store.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// The first bytes of a file; none where it cannot be read.
std::string Head(const fs::path& file, std::size_t bytes) {
  std::ifstream in(file, std::ios::binary);
  std::string head(bytes, '\0');
  in.read(head.data(), static_cast<std::streamsize>(bytes));
  head.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return head;
}

/// The object in a file of JSON; none for anything else, without reading what cannot be one.
std::optional<Record> ObjectIn(const fs::path& file) {
  const std::string head = Head(file, 64);
  const std::size_t first = head.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || head[first] != '{') return std::nullopt;
  try {
    Record record = ParseRecord(ReadText(file, kLargestRecord), file.string());
    if (record.is_object()) return record;
  } catch (const Error&) {  // not JSON, or more than a record has
  }
  return std::nullopt;
}

bool HasText(const Record& object, const char* key, std::string_view start = "") {
  const auto value = object.find(key);
  return value != object.end() && value->is_string() &&
         value->get_ref<const std::string&>().starts_with(start);
}

/// The text of a key of a GGUF file; empty where it has none or is no such file.
std::string GgufText(const fs::path& file, std::string_view key) {
  if (Head(file, 4) != "GGUF") return {};
  try {
    const FileMap map(file);
    const GgufHeader header = ParseGguf(map.bytes(), file.string());
    if (header.keys.Has(key)) return header.keys.String(key);
  } catch (const Error&) {
  }
  return {};
}

/// A page, or the picture of size against loss.
bool IsReport(const fs::path& file) {
  const std::string head = Head(file, 4096);
  if (head.starts_with("<svg ")) return head.find("<metadata>LieQ report") != head.npos;
  return head.starts_with("<!doctype html>") && (head.find("content=\"LieQ ") != head.npos ||
                                                 head.find("LieQ report</title>") != head.npos);
}

/// Both forms: a GGUF file that says so, and the older one that begins with the number of its
/// entries and the name of the first.
bool IsImatrix(const fs::path& file) {
  if (Head(file, 4) == "GGUF") return GgufText(file, "general.type") == "imatrix";
  const std::string head = Head(file, 12);
  if (head.size() < 12) return false;
  std::array<std::int32_t, 2> numbers{};
  std::memcpy(numbers.data(), head.data(), sizeof(numbers));
  return numbers[0] > 0 && numbers[1] > 4 && numbers[1] < 256 && head.substr(8) == "blk.";
}

/// Too large to be read whole: its keys are sorted, and this one is among the first.
bool IsPart(const fs::path& file) {
  return Head(file, 64).starts_with("{\"finished\":") &&
         Head(file, 64).find("\"kind\":\"part\"") != std::string::npos;
}

/// One record of `evaluate`, or a list of them.
bool IsEvaluation(const fs::path& file) {
  if (Head(file, 1) != "{" && Head(file, 1) != "[") return false;
  try {
    const Record record = ParseRecord(ReadText(file, kLargestRecord), file.string());
    const Record& first = record.is_array() && !record.empty() ? record.front() : record;
    return first.is_object() &&
           (HasText(first, "kind", "evaluation") || HasText(first, "kind", "tasks") ||
            HasText(first, "kind", "answers"));
  } catch (const Error&) {
    return false;
  }
}

bool IsPredictions(const fs::path& file) {
  const std::string head = Head(file, std::size_t{1} << 16);
  const std::string line = head.substr(0, head.find('\n'));
  if (!line.starts_with('{')) return false;
  try {
    const Record row = ParseRecord(line, file.string());
    return HasText(row, "model") && HasText(row, "task") && row.contains("gold") &&
           row.contains("log_likelihoods");
  } catch (const Error&) {
    return false;
  }
}

/// An object all of whose keys but the named ones begin like this.
bool HasKeys(const fs::path& file, std::string_view start, bool (*other)(std::string_view)) {
  const std::optional<Record> object = ObjectIn(file);
  if (!object || object->empty()) return false;
  bool any = false;
  for (const auto& [key, unused] : object->items()) {
    if (key.starts_with(start)) {
      any = true;
    } else if (!other(key)) {
      return false;
    }
  }
  return any;
}

/// Plans in the words of others have no mark of ours: they are told by what every line says.
bool IsPlanForOthers(const fs::path& file) {
  const auto none = [](std::string_view) { return false; };
  const auto defaults = [](std::string_view key) { return key == "group_size" || key == "bits"; };
  return Head(file, 6) == "^blk\\." || HasKeys(file, "+:^model", none) ||
         HasKeys(file, "model.layers.", defaults);
}

struct KindRow {
  std::string_view name;
  FileKind kind;
};

constexpr std::array kKinds{
    KindRow{"diagnostics",
            {"diagnostics", [](const fs::path& f) { return IsRecord(f, "diagnostics"); }}},
    KindRow{"sensitivities",
            {"sensitivities", [](const fs::path& f) { return IsRecord(f, "sensitivities"); }}},
    KindRow{"plan", {"a plan", [](const fs::path& f) { return IsRecord(f, "plan"); }}},
    KindRow{"evaluation", {"records of an evaluation", IsEvaluation}},
    KindRow{"merged",
            {"what parts come to",
             [](const fs::path& f) { return IsEvaluation(f) || IsRecord(f, "sensitivities"); }}},
    KindRow{"part", {"a part of a run", IsPart}},
    KindRow{"report", {"a report of this program", IsReport}},
    KindRow{"gguf",
            {"a GGUF file that this program wrote",
             [](const fs::path& f) {
               return GgufText(f, "general.quantized_by").starts_with("lieq");
             }}},
    KindRow{"packed", {"a packed file", IsPackedFile}},
    KindRow{"imatrix", {"an importance matrix", IsImatrix}},
    KindRow{"predictions", {"a file of predictions", IsPredictions}},
    KindRow{"plan --as", {"a plan for another tool", IsPlanForOthers}},
};

/// "lieq.json" while it is written: lieq.json.tmp123.
std::string_view WithoutTemporary(std::string_view name) noexcept {
  const std::size_t at = name.rfind(".tmp");
  if (at == std::string_view::npos || at + 4 == name.size()) return name;
  const bool number = name.find_first_not_of("0123456789", at + 4) == std::string_view::npos;
  return number ? name.substr(0, at) : name;
}

bool Matches(std::string_view name, std::string_view start, std::string_view end) noexcept {
  return name.size() >= start.size() + end.size() && name.starts_with(start) && name.ends_with(end);
}

bool IsResultName(std::string_view name) noexcept {
  constexpr std::array<std::string_view, 13> kNames{"lieq.json",
                                                    "run.json",
                                                    "README.md",
                                                    "config.json",
                                                    "plan.json",
                                                    "quantize_config.json",
                                                    "recipe.json",
                                                    "diagnostics.json",
                                                    "sensitivities.json",
                                                    "study.json",
                                                    "report.html",
                                                    "predictions.jsonl",
                                                    "model.safetensors.index.json"};
  return std::ranges::find(kNames, name) != kNames.end() || IsSidecar(name) ||
         Matches(name, "model", ".safetensors") || Matches(name, "eval", ".json");
}

std::vector<std::string> Foreign(const fs::path& folder, bool (*known)(const fs::path&)) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!known(entry->path())) names.push_back(entry->path().filename().string());
  }
  if (error) {
    throw Error({.what = "cannot list the folder: " + error.message(), .where = folder.string()});
  }
  std::ranges::sort(names);
  return names;
}

/// A lock holds the number of a process.
bool IsLock(const fs::path& file) {
  return fs::is_regular_file(fs::symlink_status(file)) &&
         Head(file, 64).find_first_not_of("0123456789\n") == std::string::npos;
}

}  // namespace

const FileKind* FindFileKind(std::string_view name) noexcept {
  const auto* row = std::ranges::find(kKinds, name, &KindRow::name);
  return row != kKinds.end() ? &row->kind : nullptr;
}

bool IsRecord(const fs::path& file, std::string_view kind) {
  const std::optional<Record> record = ObjectIn(file);
  return record && HasText(*record, "kind", kind) && (*record)["kind"] == kind;
}

bool IsResult(const fs::path& folder) {
  const std::optional<Record> record = ObjectIn(folder / "lieq.json");
  return record && HasText(*record, "kind") && HasText(*record, "program", "lieq ");
}

std::vector<std::string> ForeignToResult(const fs::path& folder) {
  return Foreign(folder, [](const fs::path& path) {
    const std::string name = path.filename().string();
    return IsResultName(WithoutTemporary(name)) && !fs::is_directory(fs::symlink_status(path));
  });
}

std::vector<std::string> ForeignToRun(const fs::path& folder) {
  const bool began = IsLock(folder / "lock") || IsSettings(folder / "settings.json");
  if (!began) return Foreign(folder, [](const fs::path&) { return false; });
  return Foreign(folder, [](const fs::path& path) { return IsRunName(path.filename().string()); });
}

bool IsRunName(std::string_view name) noexcept {
  constexpr std::array<std::string_view, 10> kNames{
      "lock", "seconds.json", "settings.json", "plan.json", "edges.safetensors",
      "out",  "model",        "codes",         "filling",   kTuneStateName};
  name = WithoutTemporary(name);
  return std::ranges::find(kNames, name) != kNames.end() || Matches(name, "layer-", ".safetensors");
}

bool IsSettings(const fs::path& file) {
  const std::optional<Record> record = ObjectIn(file);
  return record && HasText(*record, "version") && HasText(*record, "model") &&
         HasText(*record, "method");
}

}  // namespace lieq
