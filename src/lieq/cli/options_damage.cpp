// Options of measured damage, and of plans that are made from it.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

constexpr std::array kDamageRows{
    OptionRow{.names = "--sensitivities",
              .value = "FILE",
              .commands = kPlan | kQuantize | kStudy,
              .help = "damages of an optimal plan, made by `lieq sensitivity` (default: measured)",
              .set = [](Arguments& a, const std::string& v) { a.run.damage.sensitivities = v; }},
    OptionRow{.names = "--check",
              .value = "N",
              .commands = kPlan | kQuantize,
              .help = "run N mixes, the plan first, to compare the predicted damage with the true "
                      "one; 0: none",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.damage.check = Parse<Index>("--check", v, 0, 10000, "a whole number");
                  },
              .preset = [](const Arguments& a) { return Shown(a.run.damage.check); }},
    OptionRow{.names = "--check",
              .value = "",
              .commands = kInspect,
              .help = "read all weights and fail where one is NaN or infinite, naming it",
              .set = [](Arguments& a, const std::string&) { a.check_weights = true; }},
    OptionRow{.names = "--refine",
              .value = "N",
              .commands = kPlan | kQuantize,
              .help = "improve an optimal plan by N runs of a local search on the true damage",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.damage.refine = Parse<Index>("--refine", v, 0, 1000000, "a whole number");
                  },
              .preset = [](const Arguments& a) { return Shown(a.run.damage.refine); }},
    OptionRow{.names = "--assemble",
              .value = "",
              .commands = kQuantize,
              .help = "put the model together from --codes, made on the float model's inputs, "
                      "instead of quantizing layer after layer on the quantized ones",
              .set = [](Arguments& a, const std::string&) { a.run.assemble = true; }},
    OptionRow{.names = "--codes",
              .value = "FOLDER",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "keep the codes of candidates here and use those that are there (default: "
                      "beside the output); quantize: put the model together from these codes",
              .set = [](Arguments& a, const std::string& v) { a.run.damage.codes = v; }},
    OptionRow{.names = "--mode",
              .value = "MODE",
              .commands = kSensitivity,
              .help = "solo: one unit quantized, the others whole; context: one unit changed in a "
                      "quantized base mix",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.damage.mode = v == "solo" ? DamageMode::kSolo : DamageMode::kContext;
                  },
              .preset =
                  [](const Arguments& a) {
                    return Shown(a.run.damage.mode == DamageMode::kSolo ? std::string("solo")
                                                                        : std::string("context"));
                  },
              .choices = [] { return std::vector<std::string>{"solo", "context"}; }},
    OptionRow{.names = "--base",
              .value = "FILE",
              .commands = kSensitivity,
              .help = "plan of the base mix (default: the cheapest candidate everywhere)",
              .set = [](Arguments& a, const std::string& v) { a.run.damage.base = v; }},
    OptionRow{.names = "--measure-all",
              .value = "",
              .commands = kSensitivity | kPlan,
              .help = "run every candidate, and predict none",
              .set = [](Arguments& a, const std::string&) { a.run.damage.measure_all = true; }},
    OptionRow{.names = "--damage-method",
              .value = "NAME",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "what rounds the candidates whose damage is measured (default: gptq where "
                      "--method is best, which takes longer; else --method)",
              .set = [](Arguments& a,
                        const std::string& v) { a.run.damage.method = FindQuantizer(v).name; },
              .choices = [] { return NamesIn(Quantizers()); }},
    OptionRow{.names = "--damage-windows",
              .value = "N",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "windows that damage is measured on",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.damage.windows = Parse<Index>("--damage-windows", v, 1, kMostTokens,
                                                        "a whole number, at least 1");
                  },
              .preset = [](const Arguments& a) { return Shown(a.run.damage.windows); }},
    OptionRow{.names = "--damage-context",
              .value = "T",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "tokens in one of them",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.damage.context = Parse<Index>("--damage-context", v, 2, kMostTokens,
                                                        "a whole number, at least 2");
                  },
              .preset = [](const Arguments& a) { return Shown(a.run.damage.context); }},
};

}  // namespace

std::span<const OptionRow> DamageOptions() noexcept {
  return kDamageRows;
}

}  // namespace lieq
