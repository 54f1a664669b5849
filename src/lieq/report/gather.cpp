#include "lieq/report/gather.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "lieq/base/error.h"
#include "lieq/base/files.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 28;  // of one record

Record ReadFile(const fs::path& path) {
  return ParseRecord(ReadText(path, kMaxBytes), path.string());
}

/// What a file holds: one record, or each of an array of them, as of several texts or models.
void Append(std::vector<ReportInput>& inputs, const std::string& run, const std::string& file,
            Record json) {
  if (!json.is_array()) {
    inputs.push_back({.run = run, .file = file, .json = std::move(json)});
    return;
  }
  for (Record& each : json) inputs.push_back({.run = run, .file = file, .json = std::move(each)});
}

/// Whether it is a record of ours, or an array of nothing else.
bool IsOurs(const Record& json) {
  if (!json.is_array()) return IsReportRecord(json);
  return !json.empty() && std::ranges::all_of(json, IsReportRecord);
}

/// What a folder is called: its last part ("out/q/" and "." have none of their own), and the one
/// before where another of the runs has the same.
std::string NameOf(const fs::path& folder, std::span<const fs::path> runs) {
  const fs::path whole = fs::weakly_canonical(folder), name = whole.filename();
  if (name.empty()) return folder.string();
  const bool shared = std::ranges::any_of(runs, [&](const fs::path& run) {
    const fs::path other = fs::weakly_canonical(run);
    return other != whole && other.filename() == name && fs::is_directory(other);
  });
  return shared ? (whole.parent_path().filename() / name).string() : name.string();
}

/// Whether the evaluation says which weights it was measured on.
bool SaysHash(const ReportInput& input) {
  const auto kind = input.json.find("kind");
  return kind != input.json.end() && *kind == "evaluation" && input.json.contains("model_hash");
}

/// Names of the files of a folder that may hold records, in the order of a run.
std::vector<std::string> CandidateFiles(const fs::path& folder) {
  std::vector<std::string> names;
  // A result's plan.json says again what its lieq.json does.
  const bool result = fs::exists(folder / "lieq.json");
  for (const char* name : {"lieq.json", "run.json", "diagnostics.json", "sensitivities.json",
                           "plan.json", "study.json"}) {
    if (fs::exists(folder / name) && !(result && std::string_view(name) == "plan.json")) {
      names.emplace_back(name);
    }
  }
  std::vector<std::string> evaluations;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("eval") && name.ends_with(".json")) evaluations.push_back(name);
  }
  std::ranges::sort(evaluations);
  names.insert(names.end(), evaluations.begin(), evaluations.end());
  return names;
}

}  // namespace

std::vector<ReportInput> GatherRecords(std::span<const fs::path> runs,
                                       std::vector<std::string>& skipped, const HashFolder& hash) {
  std::vector<ReportInput> inputs;
  std::vector<std::pair<std::size_t, fs::path>> folders;  // of the records of models
  std::set<fs::path> seen;                                // a file may be named beside its folder
  for (const fs::path& run : runs) {
    if (!fs::is_directory(run)) {
      if (!seen.insert(fs::weakly_canonical(run)).second) continue;
      const std::string name = run.filename().string();
      if (name == "lieq.json") folders.emplace_back(inputs.size(), run.parent_path());
      Append(inputs, name, name, ReadFile(run));
      continue;
    }
    bool any = false;
    for (const std::string& name : CandidateFiles(run)) {
      Record json = ReadFile(run / name);
      // Other programs write run.json and eval_results.json too.
      if (!IsOurs(json)) {
        skipped.push_back((run / name).string());
        continue;
      }
      any = true;
      if (!seen.insert(fs::weakly_canonical(run / name)).second) continue;
      if (name == "lieq.json") folders.emplace_back(inputs.size(), run);
      Append(inputs, NameOf(run, runs), name, std::move(json));
    }
    if (!any) {
      throw Error({.what = "a folder without records",
                   .where = run.string(),
                   .expected = "lieq.json, run.json, diagnostics.json, sensitivities.json, "
                               "plan.json, study.json or eval*.json",
                   .hint = "`lieq quantize`, `lieq diagnose -o FOLDER/diagnostics.json` or `lieq "
                           "evaluate --json > FOLDER/eval.json` write them"});
    }
  }
  if (hash && std::ranges::any_of(inputs, SaysHash)) {
    for (const auto& [input, folder] : folders) inputs[input].model_hash = hash(folder);
  }
  return inputs;
}

}  // namespace lieq
