// The one table of commands and options: parsing, --help, the man page and the completion script
// are made from it.
#pragma once

#include <span>
#include <string>
#include <string_view>

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
  kAllCommands = 16383,
};

/// A word that a command takes by its place.
struct PositionalRow {
  std::string_view name;  // "MODEL"; with "..." at the end, one or more of them
  std::string_view help;
  /// Called once for each word. Throws UsageError or Error for a bad one.
  void (*set)(Arguments& arguments, const std::string& value);
};

struct CommandRow {
  std::string_view name;  // one word, or two: "plan diff"
  unsigned bit;
  std::string_view summary;                    // one line
  std::string_view details;                    // what it writes and prints
  std::span<const PositionalRow> positionals;  // all required, in their order
};

struct OptionRow {
  std::string_view names;  // "--output,-o", as CLI11 takes them
  std::string_view value;  // "FILE"; empty for a flag
  unsigned commands;
  std::string_view help;  // what it does, and its default
  bool required = false;
  bool many = false;  // takes several values
  /// Called once for each value (with "" for a flag). Throws UsageError or Error for a bad value.
  void (*set)(Arguments& arguments, const std::string& value) = nullptr;
};

[[nodiscard]] std::span<const CommandRow> Commands() noexcept;
[[nodiscard]] std::span<const OptionRow> Options() noexcept;

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
[[nodiscard]] std::span<const OptionRow> TextOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> DamageOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> SpectrumOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> StudyOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> EvaluationOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> ExportOptions() noexcept;
[[nodiscard]] std::span<const OptionRow> MachineOptions() noexcept;

}  // namespace lieq
