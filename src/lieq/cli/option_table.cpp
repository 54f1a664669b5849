#include "lieq/cli/option_table.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lieq/base/rows.h"
#include "lieq/cli/option_values.h"
#include "lieq/cli/transforming.h"
#include "lieq/diagnose/settings.h"
#include "lieq/evaluate/task_description.h"
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

}  // namespace

std::span<const OptionGroup> OptionGroups() noexcept {
  static const std::array groups{
      OptionGroup{"Output", OutputOptions()},
      OptionGroup{"Bits", BudgetOptions()},
      OptionGroup{"Grids", GridOptions()},
      OptionGroup{"Rounding", QuantizerOptions()},
      OptionGroup{"Texts", TextOptions()},
      OptionGroup{"Damage", DamageOptions()},
      OptionGroup{"Spectra", SpectrumOptions()},
      OptionGroup{"Studies", StudyOptions()},
      OptionGroup{"Evaluation", EvaluationOptions()},
      OptionGroup{"Containers", ExportOptions()},
      OptionGroup{"Machine and messages", MachineOptions()},
  };
  return groups;
}

std::span<const OptionRow> Options() noexcept {
  static const std::string ranking =
      "what orders the layers for --bits: " + std::string(RankingNames()) +
      " (default compactness)";
  static const std::string exports =
      "write the plan for another quantizer: " + std::string(PlanExportNames());
  static const std::string containers = "container to write: " + Described(Exporters());
  static const std::string conventions =
      "how perplexity is counted: " + Described(Conventions()) + "; default plain";
  static const std::string tasks =
      "zero-shot tasks: " + NamesOfRows(Tasks()) + ", or files that describe one (NAME.json)";
  static const std::string transforms =
      "other weights of the same function, before anything is rounded: " + TransformNames() +
      " (default none, of awq as method its own); or auto: those that lower the damage on held-out "
      "calibration windows, found by 12 to 15 short runs of the method, with rows that part a tied "
      "head only where named too: auto,rotate (docs/transforms.md)";
  static const auto options = [] {
    std::vector<OptionRow> rows;
    for (const OptionGroup& group : OptionGroups()) {
      rows.insert(rows.end(), group.rows.begin(), group.rows.end());
    }
    for (OptionRow& row : rows) {
      if (row.names == "--ranking") row.help = ranking;
      if (row.names == "--as") row.help = exports;
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
