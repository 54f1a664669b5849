// The one table of commands and options: parsing, --help, the man page and the completion script
// are made from it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/cli/arguments.h"

namespace lieq {

/// Bits of OptionRow::commands, in the order of Commands().
enum CommandBit : unsigned {
  kInspect = 1,
  kDiagnose = 2,
  kPlan = 4,
  kQuantize = 8,
  kEvaluate = 16,
  kSensitivity = 32,
  kReport = 64,
  kStudy = 128,
  kPlanDiff = 256,
  kExport = 512,
  kVerify = 1024,
  kCalibrate = 2048,
  kGenerate = 4096,
  kCompare = 8192,
  kChat = 16384,
  kBench = 32768,
  kServe = 65536,
  kTune = 131072,
  kMerge = 262144,
  kPack = 524288,
  kAllCommands = 1048575,
};

/// A word that a command takes by its place.
struct PositionalRow {
  std::string_view name;  // "MODEL"; with "..." at the end, one or more of them
  std::string_view help;
  /// Called once for each word. Throws UsageError or Error for a bad one.
  void (*set)(Arguments& arguments, const std::string& value);
  std::vector<std::string> (*choices)() = nullptr;  // the names that it takes; null: any
};

struct CommandRow {
  std::string_view name;  // one word, or two: "plan diff"
  unsigned bit;
  std::string_view summary;                    // one line
  std::string_view details;                    // what it writes and prints
  std::span<const PositionalRow> positionals;  // all required, in their order
  std::string_view example = {};               // a command line, without "lieq"
  bool interactive = false;                    // for a person at a terminal, not for programs
};

struct OptionRow {
  std::string_view names;  // "--output,-o", as CLI11 takes them
  std::string_view value;  // "FILE"; empty for a flag
  unsigned commands;
  std::string_view help;  // what it does; HelpOf adds the default
  bool required = false;
  bool many = false;  // takes several values
  /// Called once for each value (with "" for a flag). Throws UsageError or Error for a bad value.
  void (*set)(Arguments& arguments, const std::string& value) = nullptr;
  unsigned first = 0;  // commands on whose page of help it stands among the first options
  /// Its default as text, from arguments that nothing was set in, so that what is said is what
  /// happens. Null where there is none, or where it takes words: then `help` has them.
  std::string (*preset)(const Arguments& untouched) = nullptr;
  /// The names that it takes (of a LIST, any of them between commas). Null: no names.
  std::vector<std::string> (*choices)() = nullptr;
  bool open = false;            // takes other values than `choices` too
  std::string_view group = {};  // title of its group: by Options()
};

/// The row's help with its default: "... (default 2.25)".
[[nodiscard]] std::string HelpOf(const OptionRow& row);
/// Call row.set, once `value` is one of its choices. Throw UsageError, with the choice that was
/// probably meant.
void SetOption(const OptionRow& row, Arguments& arguments, const std::string& value);
/// Sets the options that a recipe names (pipeline/recipe.h). Throws Error for unknown keys, with
/// the place and the nearest name.
void ReadRecipe(Arguments& arguments, const std::string& file);
void SetWord(const PositionalRow& row, Arguments& arguments, const std::string& value);

[[nodiscard]] std::span<const CommandRow> Commands() noexcept;
/// "quantize MODEL [OPTIONS]"
[[nodiscard]] std::string UsageOf(const CommandRow& command);
[[nodiscard]] std::span<const OptionRow> Options() noexcept;

/// "a, b or c"
[[nodiscard]] std::string Listed(std::span<const std::string> names, std::string_view last = "or");

/// What `lieq --help` and `lieq COMMAND --help` print.
[[nodiscard]] std::string HelpPage();
[[nodiscard]] std::string HelpPage(const CommandRow& command);

/// Options of one kind, each kind in a file of its own: options_budget.cpp, ...
struct OptionGroup {
  std::string_view title;  // "Grids"; on pages of help
  std::span<const OptionRow> rows;
};
[[nodiscard]] std::span<const OptionGroup> OptionGroups() noexcept;

[[nodiscard]] std::span<const OptionRow> OutputOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> BudgetOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> GridOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> QuantizerOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> TextRows() noexcept;
[[nodiscard]] std::span<const OptionRow> DamageOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> SpectrumOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> StudyOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> EvaluationOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> GenerationOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> ServeOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> ExportOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> TuneOptionRows() noexcept;
[[nodiscard]] std::span<const OptionRow> MachineOptions() noexcept;

}  // namespace lieq
