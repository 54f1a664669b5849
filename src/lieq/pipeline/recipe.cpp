#include "lieq/pipeline/recipe.h"

#include <fmt/format.h>

#include "lieq/base/shell.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/module_rules.h"
#include "lieq/pipeline/planning.h"
#include "lieq/plan/plan.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr int kSchema = 1;

/// As the option takes it.
std::string Text(const Strength& strength) {
  return strength.narrow == strength.wide ? fmt::format("{}", strength.narrow)
                                          : fmt::format("{},{}", strength.narrow, strength.wide);
}

void AddBudget(const QuantizeRequest& a, Record& options) {
  if (a.budget.uniform) {
    options["uniform"] = *a.budget.uniform;
    return;
  }
  if (a.budget.bpw) {
    options["bpw"] = *a.budget.bpw;
  } else if (a.budget.size) {
    options["size"] = *a.budget.size;
  } else if (a.budget.high_layers) {
    options["high-layers"] = *a.budget.high_layers;
  } else {
    options["bits"] = a.budget.bits.value_or(kDefaultBits);
  }
  if (a.budget.rounding == Rounding::kPaper) options["rounding"] = "paper";
}

/// What layers are ranked by, or how their damage is measured.
void AddAllocation(const QuantizeRequest& a, Record& options) {
  if (a.budget.allocation != "optimal") {
    options["widths"] = fmt::format("{},{}", a.budget.low, a.budget.high);
    options["ranking"] = a.ranking.name;
    if (!a.ranking.scores.empty()) options["scores"] = a.ranking.scores.string();
    if (!a.ranking.diagnostics.empty()) options["diagnostics"] = a.ranking.diagnostics.string();
    if (a.ranking.name == "combined") {
      const auto& weights = a.ranking.weights;
      options["ranking-weights"] = fmt::format("{},{},{}", weights[0], weights[1], weights[2]);
    }
    if (!a.damage.sensitivities.empty()) options["sensitivities"] = a.damage.sensitivities.string();
    return;
  }
  options["allocation"] = "optimal";
  options["granularity"] = a.budget.by_group ? "group" : "layer";
  if (!a.damage.sensitivities.empty()) options["sensitivities"] = a.damage.sensitivities.string();
  std::string candidates;
  for (const Candidate& candidate : a.grids.candidates) {
    candidates += (candidates.empty() ? "" : ",") + Label(candidate.Resolved(a.grids.offset));
  }
  if (!candidates.empty()) options["candidates"] = candidates;
  if (!a.damage.text.empty()) options["text"] = a.damage.text.string();
  if (!a.damage.method.empty()) options["damage-method"] = a.damage.method;
  options["damage-windows"] = a.damage.windows;
  options["damage-context"] = a.damage.context;
  if (a.damage.refine > 0) options["refine"] = a.damage.refine;
}

void AddQuantizer(const QuantizeRequest& a, Record& options) {
  options["method"] = a.quant.method;
  options["group-size"] = a.grids.group_size == 0 ? Record("row") : Record(a.grids.group_size);
  if (a.grids.k_quant) {
    options["grid"] = "k-quant";
  } else {
    options["offset"] = Name(a.grids.offset);
  }
  options["act-order"] = Name(a.quant.act_order);
  options["damping"] = a.quant.damping;
  options["clip"] = Name(a.quant.clip);
  const QuantOptions quant = WithDefaults(a.quant);
  options["drift"] = Text(*quant.drift);
  options["residual"] = Text(*quant.residual);
  options["rounds"] = *quant.rounds;
  if (!*quant.search) options["no-search"] = true;
}

std::string Joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

/// A file by its name alone.
std::string LastName(const std::string& text) {
  const fs::path path(text);
  return (path.filename().empty() ? path.parent_path() : path).filename().string();
}

bool IsPath(std::string_view option) noexcept {
  for (const char* path :
       {"plan", "scores", "diagnostics", "sensitivities", "text", "codes", "calibration"}) {
    if (option == path) return true;
  }
  return false;
}

}  // namespace

Record RecipeOptions(const QuantizeRequest& a) {
  Record options = Record::object();
  if (!a.plan.empty()) {
    options["plan"] = a.plan.string();
  } else {
    AddBudget(a, options);
    if (!a.budget.uniform) AddAllocation(a, options);
  }
  AddQuantizer(a, options);
  if (a.grids.target != nullptr) options["for"] = a.grids.target->name;
  if (!a.transforms.empty()) options["transform"] = Joined(a.transforms);
  if (a.grids.embedding_bits) options["embedding-bits"] = *a.grids.embedding_bits;
  if (a.grids.head_bits) options["head-bits"] = *a.grids.head_bits;
  for (const ModuleRule& rule : a.grids.rules) {
    options["set"].push_back(rule.pattern + "=" + GridOf(rule));
  }
  if (a.tune) {
    options["tune"] = Name(a.tune->what);
    if (a.tune->tokens) options["tune-tokens"] = *a.tune->tokens;
    if (a.tune->minutes) options["tune-minutes"] = *a.tune->minutes;
  }
  if (a.assemble) {
    options["assemble"] = true;
    options["codes"] = a.damage.codes.string();
  }
  for (std::size_t i = 0; i < a.calibration.files.size(); ++i) {
    std::string file = a.calibration.files[i].string();
    if (!a.calibration.weights.empty()) file += fmt::format(":{}", a.calibration.weights[i]);
    options["calibration"].push_back(std::move(file));
  }
  if (!a.reading.fields.empty()) options["text-field"] = Joined(a.reading.fields);
  std::string turns;
  for (const auto& [role, field] : a.reading.turns) {
    turns += (turns.empty() ? "" : ",") + role + "=" + field;
  }
  if (!turns.empty()) options["chat-fields"] = turns;
  if (a.reading.line_ends != LineEnds::kLf) options["line-ends"] = Name(a.reading.line_ends);
  options["samples"] = a.calibration.samples.value_or(kDefaultSamples);
  options["context"] = a.calibration.context.value_or(kDefaultContext);
  if (a.calibration.single_chats) options["chat-windows"] = "single";
  options["seed"] = a.seed;
  return options;
}

Record RecipeOf(const QuantizeRequest& request) {
  return {{"schema", kSchema}, {"kind", "recipe"}, {"options", RecipeOptions(request)}};
}

std::string CanonicalCommand(const QuantizeRequest& request) {
  std::string command =
      "lieq quantize " + ShellQuoted(LastName(request.model.string())) + " -o OUT";
  const Record options = RecipeOptions(request);
  for (const auto& [option, value] : options.items()) {
    const auto word = [&](const Record& each) {
      if (!each.is_string())
        return each.is_number_float() ? fmt::format("{}", each.get<double>()) : each.dump();
      const std::string text = each.get<std::string>();
      return ShellQuoted(IsPath(option) ? LastName(text) : text);
    };
    command += " --" + option;
    if (value.is_boolean()) continue;
    if (!value.is_array()) {
      command += " " + word(value);
      continue;
    }
    for (const Record& each : value) command += " " + word(each);
  }
  return command;
}

}  // namespace lieq
