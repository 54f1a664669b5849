// Options of how weights are rounded to their grids.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/transform/transforms.h"

namespace lieq {
namespace {

/// A default that is the method's: "0.5,1; rtn and gptq 0".
template <class T>
std::string OfMethods(T Quantizer::* member) {
  const Quantizer& usual = FindQuantizer(QuantOptions{}.method);
  const std::string shown = Shown(usual.*member);
  std::string others;
  for (const Quantizer& row : Quantizers()) {
    const std::string own = Shown(row.*member);
    if (own != shown) others += "; " + std::string(row.name) + " " + own;
  }
  return shown + others;
}

constexpr std::array kQuantizerRows{
    OptionRow{
        .names = "--method",
        .value = "NAME",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "rtn (round to nearest), weighted (the same by the mean square of each input), awq "
                "(the same of scaled channels), gptq, or best: GPTQ towards a target that makes up "
                "for earlier layers, then coordinate descent and grid refits",
        .set = [](Arguments& a,
                  const std::string& v) { a.run.quant.method = FindQuantizer(v).name; },
        .first = kSensitivity | kQuantize | kStudy,
        .preset = [](const Arguments& a) { return Shown(a.run.quant.method); },
        .choices = [] { return NamesIn(Quantizers()); }},
    OptionRow{.names = "--transform",
              .value = "LIST",
              .commands = kQuantize,
              .help = "other weights of the same function first",  // the names follow: Options()
              .set = SetTransforms,
              .choices = [] { return NamesIn(Transforms()); }},
    OptionRow{
        .names = "--act-order",
        .value = "KIND",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "order in which gptq rounds columns: none, static or group",
        .set = [](Arguments& a, const std::string& v) { a.run.quant.act_order = ParseActOrder(v); },
        .preset = [](const Arguments& a) { return Shown(a.run.quant.act_order); },
        .choices = [] { return std::vector<std::string>{"none", "static", "group"}; }},
    OptionRow{.names = "--damping",
              .value = "D",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "share of the mean diagonal added to the Gram matrix",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.quant.damping = Parse<double>("--damping", v, 0.0, 1.0, "0 to 1");
                  },
              .preset = [](const Arguments& a) { return Shown(a.run.quant.damping); }},
    OptionRow{
        .names = "--clip",
        .value = "KIND",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "outermost level at the extreme weight (none) or where the error is least (search)",
        .set = [](Arguments& a, const std::string& v) { a.run.quant.clip = ParseClip(v); },
        .preset = [](const Arguments& a) { return Shown(a.run.quant.clip); },
        .choices = [] { return std::vector<std::string>{"none", "search"}; }},
    OptionRow{.names = "--drift",
              .value = "S[,S]",
              .commands = kQuantize | kStudy,
              .help = "share, 0 to 1, of what earlier layers' quantization did to a linear's "
                      "inputs that its codes make up for, or two: at 2 bits and at more",
              .set = [](Arguments& a,
                        const std::string& v) { a.run.quant.drift = ParseStrength("--drift", v); },
              .preset = [](const Arguments&) { return OfMethods(&Quantizer::drift); }},
    OptionRow{
        .names = "--residual",
        .value = "S[,S]",
        .commands = kQuantize | kStudy,
        .help = "the same for the residual stream, made up for in o and down",
        .set = [](Arguments& a,
                  const std::string& v) { a.run.quant.residual = ParseStrength("--residual", v); },
        .preset = [](const Arguments&) { return OfMethods(&Quantizer::residual); }},
    OptionRow{.names = "--rounds",
              .value = "N",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "of coordinate descent and grid refits after error feedback",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.quant.rounds = Parse<int>("--rounds", v, 0, 100, "0 to 100");
                  },
              .preset = [](const Arguments&) { return OfMethods(&Quantizer::rounds); }},
    OptionRow{.names = "--no-search",
              .value = "",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "refit grids to the codes there are, without trying grids with other codes",
              .set = [](Arguments& a, const std::string&) { a.run.quant.search = false; }},
};

}  // namespace

std::span<const OptionRow> QuantizerOptions() noexcept {
  return kQuantizerRows;
}

}  // namespace lieq
