#include "lieq/cli/option_table.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/base/suggestions.h"
#include "lieq/cli/option_values.h"
#include "lieq/diagnose/settings.h"
#include "lieq/evaluate/task_description.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/plan/exports.h"
#include "lieq/plan/rankings.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/transform/transforms.h"

namespace lieq {
namespace {

/// "gptq (a folder for ...), mlx (...)"
template <class Row>
std::string Described(std::span<const Row> rows) {
  std::string text;
  for (const Row& row : rows) {
    text += (text.empty() ? "" : ", ") + std::string(row.name) + " (" +
            std::string(row.description) + ")";
  }
  return text;
}

void CheckChoice(std::string_view option, const std::vector<std::string>& choices,
                 const std::string& value) {
  if (std::ranges::find(choices, value) != choices.end()) return;
  throw UsageError(std::string(option) + ": expected " + Listed(choices) + ", found '" + value +
                   "'" + DidYouMean(value, choices));
}

}  // namespace

std::string Listed(std::span<const std::string> names, std::string_view last) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " " + std::string(last) + " " : ", ";
    text += names[i];
  }
  return text;
}

std::string HelpOf(const OptionRow& row) {
  std::string text(row.help);
  if (row.preset != nullptr) text += " (default " + row.preset(Arguments{}) + ")";
  if (row.required) text += " (required)";
  return text;
}

void SetOption(const OptionRow& row, Arguments& arguments, const std::string& value) {
  if (row.choices != nullptr && !row.open) {
    const std::string_view option = row.names.substr(0, row.names.find(','));
    const std::vector<std::string> parts =
        row.value == "LIST" ? SplitAtCommas(value) : std::vector{value};
    for (const std::string& part : parts) CheckChoice(option, row.choices(), part);
  }
  if (row.choices == nullptr || !row.open) return row.set(arguments, value);
  try {
    row.set(arguments, value);
  } catch (const Error& error) {  // neither a name nor a file: or a name that was misspelt
    const std::string meant = DidYouMean(value, row.choices());
    if (meant.empty()) throw;
    throw UsageError(std::string(row.names) + ": " + error.what() + meant);
  }
}

void SetWord(const PositionalRow& row, Arguments& arguments, const std::string& value) {
  if (row.choices != nullptr) CheckChoice(row.name, row.choices(), value);
  row.set(arguments, value);
}

std::span<const OptionGroup> OptionGroups() noexcept {
  static const std::array groups{
      OptionGroup{"Output", OutputOptions()},
      OptionGroup{"Bits", BudgetOptions()},
      OptionGroup{"Grids", GridOptions()},
      OptionGroup{"Rounding", QuantizerOptions()},
      OptionGroup{"Texts", TextRows()},
      OptionGroup{"Damage", DamageOptions()},
      OptionGroup{"Spectra", SpectrumOptions()},
      OptionGroup{"Studies", StudyOptions()},
      OptionGroup{"Evaluation", EvaluationOptions()},
      OptionGroup{"Generation", GenerationOptions()},
      OptionGroup{"Server", ServeOptions()},
      OptionGroup{"Containers", ExportOptions()},
      OptionGroup{"Tuning", TuneOptionRows()},
      OptionGroup{"Machine and messages", MachineOptions()},
  };
  return groups;
}

std::span<const OptionRow> Options() noexcept {
  static const std::string ranking =
      "what orders the layers for --bits: " + std::string(RankingNames());
  static const std::string exports =
      "write the plan for another quantizer: " + std::string(PlanExportNames());
  static const std::string targets =
      "use grids alone that this container holds exactly, choose among them, and count its bytes "
      "where --size or --bpw say how many: " +
      NamesOfRows(Targets()) + " (default: what the other options say)";
  static const std::string containers = "container to write: " + Described(Exporters());
  static const std::string conventions = "how perplexity is counted: " + Described(Conventions());
  static const std::string tasks =
      "zero-shot tasks: " + NamesOfRows(Tasks()) + ", or files that describe one (NAME.json)";
  static const std::string transforms =
      "other weights of the same function, before anything is rounded: " + TransformNames() +
      " (default none, of awq as method its own; docs/transforms.md)";
  static const auto options = [] {
    std::vector<OptionRow> rows;
    for (const OptionGroup& group : OptionGroups()) {
      for (OptionRow row : group.rows) {
        row.group = group.title;
        rows.push_back(row);
      }
    }
    for (OptionRow& row : rows) {
      if (row.names == "--ranking") row.help = ranking;
      if (row.names == "--as") row.help = exports;
      if (row.names == "--for") row.help = targets;
      if (row.names == "--to") row.help = containers;
      if (row.names == "--convention") row.help = conventions;
      if (row.names == "--tasks") row.help = tasks;
      if (row.names == "--transform") row.help = transforms;
    }
    return rows;
  }();
  return options;
}

}  // namespace lieq
