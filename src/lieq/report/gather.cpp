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

/// "out/q/" and "." have no last part of their own.
std::string NameOf(const fs::path& folder) {
  const std::string name = fs::weakly_canonical(folder).filename().string();
  return name.empty() ? folder.string() : name;
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
                                       std::vector<std::string>& skipped) {
  std::vector<ReportInput> inputs;
  std::set<fs::path> seen;  // a file may be named beside its folder
  for (const fs::path& run : runs) {
    if (!fs::is_directory(run)) {
      if (!seen.insert(fs::weakly_canonical(run)).second) continue;
      const std::string name = run.filename().string();
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
      Append(inputs, NameOf(run), name, std::move(json));
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
  return inputs;
}

}  // namespace lieq
