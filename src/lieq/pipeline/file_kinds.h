// Which files and folders this program made: what it may replace. docs/files.md has the rules.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

/// A kind of file that a command writes.
struct FileKind {
  std::string_view name;  // "a plan"
  /// True for a file of this kind, whatever else it may be; false for one that cannot be read.
  bool (*is)(const std::filesystem::path& file);
};

inline constexpr std::size_t kLargestRecord = std::size_t{1} << 28;  // bytes of a record

/// The kinds by name of what makes them: "diagnostics", "sensitivities", "plan", "report", "gguf",
/// "packed", "imatrix", "predictions", "plan --as". Null where there is none.
[[nodiscard]] const FileKind* FindFileKind(std::string_view name) noexcept;

/// True where `file` holds one JSON object whose "kind" is this.
[[nodiscard]] bool IsRecord(const std::filesystem::path& file, std::string_view kind);

/// True where a folder has a lieq.json of this program.
[[nodiscard]] bool IsResult(const std::filesystem::path& folder);

/// What a folder holds besides what `quantize` and `export` write and the records of other commands
/// that are kept beside it, sorted.
[[nodiscard]] std::vector<std::string> ForeignToResult(const std::filesystem::path& folder);

/// The names of what lies in OUT.run (run_folder.h) but for what a run puts there, sorted; all of
/// them where no run began it.
[[nodiscard]] std::vector<std::string> ForeignToRun(const std::filesystem::path& folder);

/// True for a name that a run gives to something in OUT.run, also while it writes it.
[[nodiscard]] bool IsRunName(std::string_view name) noexcept;

/// True where a folder has a settings.json of codes.
[[nodiscard]] bool IsSettings(const std::filesystem::path& file);

}  // namespace lieq
