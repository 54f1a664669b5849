#include "lieq/cli/arguments.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "lieq/base/suggestions.h"
#include "lieq/cli/option_table.h"
#include "lieq/cli/requests_of.h"
#include "lieq/cli/shell_command.h"
#include "lieq/container/packed_file.h"
#include "lieq/device/devices.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

/// Of an option that earlier versions had: the words that do the same; else empty.
std::string_view SuccessorOf(std::string_view option) noexcept {
  if (option == "--symmetric") return "--offset symmetric";
  if (option == "--asymmetric") return "--offset integer";
  return {};
}

std::vector<std::string> LongNames(unsigned command) {
  std::vector<std::string> names{"--help"};
  for (const OptionRow& row : Options()) {
    if ((row.commands & command) == 0) continue;
    names.emplace_back(row.names.substr(0, row.names.find(',')));
  }
  return names;
}

std::string CommandNames() {
  std::string names;
  for (const CommandRow& row : Commands()) {
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  return names;
}

/// What CLI11 calls a command: its names are single words.
std::string OneWord(std::string_view name) {
  std::string word(name);
  std::ranges::replace(word, ' ', '-');
  return word;
}

/// The command line with the two words of a command like "plan diff" as one. They must lead it, so
/// that a folder of the second word's name can be given as ./diff.
std::vector<std::string> JoinCommand(int count, const char* const* words) {
  std::vector<std::string> joined(words, words + count);
  if (count < 3) return joined;
  for (const CommandRow& row : Commands()) {
    if (row.name != joined[1] + " " + joined[2]) continue;
    joined[1] = OneWord(row.name);
    joined.erase(joined.begin() + 2);
    break;
  }
  return joined;
}

/// Options that the table has for this command, and no others.
void AddOptions(CLI::App& app, const CommandRow& command, Arguments& arguments) {
  for (const PositionalRow& row : command.positionals) {
    const bool many = row.name.ends_with("...");
    const std::string name(many ? row.name.substr(0, row.name.size() - 3) : row.name);
    app.add_option_function<std::vector<std::string>>(
           name,
           [&arguments, &row](const std::vector<std::string>& values) {
             for (const std::string& value : values) SetWord(row, arguments, value);
           })
        ->type_name("")
        ->expected(1, many ? 1 << 20 : 1)
        ->allow_extra_args(many)  // else the first of several takes all words
        ->required();
  }
  for (const OptionRow& row : Options()) {
    if ((row.commands & command.bit) == 0) continue;
    const std::string names(row.names);
    if (row.value.empty()) {
      app.add_flag_callback(names, [&arguments, &row] { row.set(arguments, ""); });
      continue;
    }
    CLI::Option* option = app.add_option_function<std::vector<std::string>>(
        names, [&arguments, &row](const std::vector<std::string>& values) {
          for (const std::string& value : values) SetOption(row, arguments, value);
        });
    option->type_name(std::string(row.value))->expected(1, row.many ? 1 << 20 : 1);
    option->required(row.required);
    // Given twice, the last value stands, as shell users expect of aliases.
    if (!row.many) option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

/// What CLI11 says of words it does not know, with the name that was probably meant.
std::string UnknownWord(const std::vector<std::string>& words, const CommandRow* command) {
  std::vector<std::string> names;
  if (command == nullptr) {
    for (const CommandRow& row : Commands()) names.emplace_back(row.name);
  } else {
    names = LongNames(command->bit);
  }
  for (const std::string& word : words) {
    const std::string name = word.substr(0, word.find('='));
    if (std::ranges::find(names, name) != names.end()) continue;
    const std::string text =
        command == nullptr
            ? "no such command: '" + name + "' (there are " + CommandNames() + ")"
            : "`lieq " + std::string(command->name) + "` does not take '" + name + "'";
    const std::string_view instead = SuccessorOf(name);
    const std::string_view option = instead.substr(0, instead.find(' '));
    if (!option.empty() && std::ranges::find(names, option) != names.end()) {
      return text + "\n  give '" + std::string(instead) + "' in its place";
    }
    return text + DidYouMean(name, names);
  }
  return "too many words on the command line";
}

/// --grid q2_k is --uniform 2 on K-quant grids.
void TakeWidthOfGrid(Arguments& a) {
  if (!a.grid_bits) return;
  if (a.run.budget.bits || a.run.budget.bpw || a.run.budget.size || a.run.budget.high_layers ||
      !a.run.plan.empty() || (a.run.budget.uniform && a.run.budget.uniform != a.grid_bits)) {
    throw UsageError(
        "--grid of one width: give no other width, budget or plan, or the grid as k-quant");
  }
  a.run.budget.uniform = a.grid_bits;
}

/// Packed kernels round activations, which a command that measures or makes a model does not.
void CheckKernels(const Arguments& a, const CommandRow& command) {
  const std::string& kernels = a.machine.kernels;
  const bool packed = IsPacked(kernels.empty() ? a.machine.usual_kernels : kernels);
  if (a.says_activations && !packed) throw UsageError("--activations is of --kernels packed");
  const std::vector<std::string> names = LongNames(command.bit);
  if (!packed || std::ranges::find(names, "--activations") != names.end()) return;
  throw UsageError("--kernels: `lieq " + std::string(command.name) +
                   "` does not take packed kernels, which are for running a model");
}

/// Where a model is made or measured for one, bf16 is a GPU's: its calibration sums are those of
/// the rounded inputs.
void CheckArithmetic(const Arguments& a, const CommandRow& command) {
  const bool plain = a.machine.arithmetic == Arithmetic::kFloat32 && !a.machine.probes_arithmetic;
  constexpr unsigned kRunning = kEvaluate | kGenerate | kChat | kBench | kServe | kTune;
  if (plain || (command.bit & kRunning) != 0 || FindDevice(a.machine.device).row.own_bytes) return;
  throw UsageError("--arithmetic: `lieq " + std::string(command.name) +
                   "` computes in float32 on a processor; bf16 is of --device cuda");
}

/// Several devices share what is made of parts; the others would leave all but one idle.
void CheckDevices(const Arguments& a, const CommandRow& command) {
  constexpr unsigned kSharing = kSensitivity | kEvaluate | kQuantize | kPlan | kStudy;
  if (FindDevice(a.machine.device).indices.size() < 2 || (command.bit & kSharing) != 0) return;
  throw UsageError("--device: `lieq " + std::string(command.name) +
                   "` computes on one device; sensitivity, evaluate, quantize, plan and study "
                   "take several");
}

void CheckDeviceMemory(const Arguments& a) {
  if (a.machine.device_memory == 0 || FindDevice(a.machine.device).row.own_bytes) return;
  throw UsageError("--device-memory is of --device cuda; a processor's memory is the machine's");
}

void CheckTogether(const Arguments& a) {
  const int budgets =
      (a.run.budget.bits ? 1 : 0) + (a.run.budget.uniform ? 1 : 0) + (a.run.plan.empty() ? 0 : 1);
  if (budgets > 1) throw UsageError("give one of --bits, --uniform and --plan");
  if (a.run.budget.bits &&
      (*a.run.budget.bits < a.run.budget.low || *a.run.budget.bits > a.run.budget.high)) {
    throw UsageError(
        fmt::format("--bits: expected {} to {}, the widths that are mixed (--widths), "
                    "found {:g}",
                    a.run.budget.low, a.run.budget.high, *a.run.budget.bits));
  }
  if (a.run.budget.rounding && (a.run.budget.bpw || a.run.budget.size || a.run.budget.high_layers ||
                                a.run.budget.uniform || !a.run.plan.empty())) {
    throw UsageError("--rounding is of --bits: leave it out");
  }
  if ((a.run.ranking.name == "file") != !a.run.ranking.scores.empty()) {
    throw UsageError("--ranking file and --scores FILE are given together");
  }
  if (!a.run.ranking.diagnostics.empty() && !a.run.calibration.files.empty()) {
    throw UsageError("give one of --diagnostics and --calibration");
  }
  CheckRequest(DiagnoseRequestOf(a));
  if (a.verbose && a.quiet) throw UsageError("give one of --verbose and --quiet");
}

/// A ranking that is named is asked for, whatever it is.
void TakeBudget(const CommandRow& row, Arguments& a) {
  BudgetRequest& budget = a.run.budget;
  if (a.says_ranking && budget.allocation.empty() && !budget.uniform && a.run.plan.empty()) {
    if (budget.bpw || budget.size) budget.allocation = "top-m";
    if (!budget.bpw && !budget.size && !budget.high_layers && !budget.bits) {
      budget.bits = kDefaultBits;
    }
  }
  if ((row.bit & (kPlan | kQuantize)) != 0) TakeDefaultBudget(a.run);
}

}  // namespace

Arguments ParseArguments(int count, const char* const* words) {
  Arguments arguments;
  arguments.words.assign(words, words + count);
  CLI::App app{"", "lieq"};
  app.require_subcommand(0, 1);
  bool version = false, man = false;
  std::string completion;
  app.add_flag("--version", version);
  app.add_flag("--print-man", man);
  app.add_option("--print-completion", completion);
  std::map<const CLI::App*, const CommandRow*> rows;
  for (const CommandRow& row : Commands()) {
    CLI::App* sub = app.add_subcommand(OneWord(row.name));
    AddOptions(*sub, row, arguments);
    rows[sub] = &row;
  }

  const auto chosen = [&]() -> const CommandRow* {
    const auto subs = app.get_subcommands();
    return subs.empty() ? nullptr : rows.at(subs.front());
  };
  const std::vector<std::string> joined = JoinCommand(count, words);
  std::vector<const char*> pointers;
  for (const std::string& word : joined) pointers.push_back(word.c_str());
  try {
    app.parse(static_cast<int>(pointers.size()), pointers.data());
  } catch (const CLI::CallForHelp&) {
    const CommandRow* row = chosen();
    arguments.page = row != nullptr ? HelpPage(*row) : HelpPage();
    return arguments;
  } catch (const CLI::ExtrasError&) {
    const CommandRow* row = chosen();
    std::vector<std::string> unknown = app.remaining(true);
    throw UsageError(UnknownWord(unknown, row));
  } catch (const CLI::ParseError& error) {
    const CommandRow* row = chosen();
    // A misspelt option often shows as a missing one first.
    const std::vector<std::string> unknown = app.remaining(true);
    if (!unknown.empty()) throw UsageError(UnknownWord(unknown, row));
    throw UsageError(error.what());
  }
  if (version) arguments.page = VersionText();
  if (man) arguments.page = ManPage();
  if (!completion.empty()) {
    if (completion != "bash") throw UsageError("--print-completion: expected bash");
    arguments.page = BashCompletion();
  }
  if (!arguments.page.empty()) return arguments;
  if (chosen() == nullptr) throw UsageError("which command? There are " + CommandNames());
  arguments.command = chosen()->name;
  arguments.run.command = ShellCommand(arguments);
  arguments.run.estimates = !arguments.quiet;
  TakeWidthOfGrid(arguments);
  CheckTogether(arguments);
  // Whoever talks with a model wants it fast; figures of `evaluate` stay those of plain floats.
  const bool runs = (chosen()->bit & (kChat | kBench | kServe)) != 0;
  const bool packed = (chosen()->bit & kGenerate) != 0 && IsPackedFile(arguments.run.model);
  if (runs || packed) arguments.machine.usual_kernels = kPackedKernels;
  if (runs && !arguments.says_kv_cache) arguments.machine.keys_and_values = CacheType::kF16;
  CheckKernels(arguments, *chosen());
  CheckArithmetic(arguments, *chosen());
  CheckDevices(arguments, *chosen());
  CheckDeviceMemory(arguments);
  TakeBudget(*chosen(), arguments);
  if (!arguments.run.calibration.weights.empty() &&
      (chosen()->bit & (kSensitivity | kPlan | kQuantize | kCalibrate | kTune)) == 0) {
    throw UsageError("`lieq " + std::string(chosen()->name) +
                     "` takes --calibration without weights");
  }
  return arguments;
}

}  // namespace lieq
