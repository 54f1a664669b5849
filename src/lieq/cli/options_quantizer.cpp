// Options of how weights are rounded to their grids.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    OptionRow{
        .names = "--method",
        .value = "NAME",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "rtn (round to nearest), weighted (the same by the mean square of each input), awq "
                "(the same of scaled channels), gptq, or best (default): GPTQ towards a target "
                "that makes up for earlier layers, then coordinate descent and grid refits",
        .set = [](Arguments& a, const std::string& v) { a.quant.method = FindQuantizer(v).name; }},
    OptionRow{.names = "--transform",
              .value = "LIST",
              .commands = kQuantize,
              .help = "other weights of the same function first",  // the names follow: Options()
              .set = SetTransforms},
    OptionRow{
        .names = "--act-order",
        .value = "KIND",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "order in which gptq rounds columns: none, static (default) or group",
        .set = [](Arguments& a, const std::string& v) { a.quant.act_order = ParseActOrder(v); }},
    OptionRow{.names = "--damping",
              .value = "D",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "share of the mean diagonal added to the Gram matrix (default 0.01)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.damping = Parse<double>("--damping", v, 0.0, 1.0, "0 to 1");
                  }},
    OptionRow{.names = "--clip",
              .value = "KIND",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "outermost level at the extreme weight (none) or where the error is least "
                      "(search, default)",
              .set = [](Arguments& a, const std::string& v) { a.quant.clip = ParseClip(v); }},
    OptionRow{.names = "--drift",
              .value = "S",
              .commands = kQuantize | kStudy,
              .help = "share, 0 to 1, of what earlier layers' quantization did to a linear's "
                      "inputs that its codes make up for, or two: at 2 bits and at more (default "
                      "0.5,1; rtn and gptq 0)",
              .set = [](Arguments& a,
                        const std::string& v) { a.quant.drift = ParseStrength("--drift", v); }},
    OptionRow{
        .names = "--residual",
        .value = "S",
        .commands = kQuantize | kStudy,
        .help = "the same for the residual stream, made up for in o and down (default "
                "0.5,1; rtn and gptq 0)",
        .set = [](Arguments& a,
                  const std::string& v) { a.quant.residual = ParseStrength("--residual", v); }},
    OptionRow{.names = "--rounds",
              .value = "N",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "of coordinate descent and grid refits after error feedback (default 4; rtn "
                      "and gptq 0)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.rounds = Parse<int>("--rounds", v, 0, 100, "0 to 100");
                  }},
    OptionRow{.names = "--no-search",
              .value = "",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "refit grids to the codes there are, without trying grids with other codes",
              .set = [](Arguments& a, const std::string&) { a.quant.search = false; }},
    OptionRow{.names = "--correct-bias",
              .value = "",
              .commands = kQuantize | kStudy,
              .help = "where linears have biases, these take over the mean of the output error in "
                      "each row whose held-out error falls by it (gptq, best, weighted, awq)",
              .set = [](Arguments& a, const std::string&) { a.quant.bias = true; }},
    OptionRow{.names = "--sink-cap",
              .value = "T",
              .commands = kQuantize | kStudy,
              .help = "count a token whose input is larger than T times the median (of squared "
                      "norms) as that much and no more (default 0: off)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.sink_cap = Parse<double>("--sink-cap", v, 0.0, 1e9, "0 to 1e9");
                  }},
    OptionRow{.names = "--loss-weights",
              .value = "P",
              .commands = kQuantize | kStudy,
              .help = "weigh calibration tokens by the P-th power of the loss's squared gradient: "
                      "one backward pass, so no longer gradient-free (default 0: off; 0.5 is "
                      "steadier than 1)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.quant.loss_weights = Parse<double>("--loss-weights", v, 0.0, 1.0, "0 to 1");
                  }},
};

}  // namespace

std::span<const OptionRow> QuantizerOptions() noexcept {
  return kRows;
}

}  // namespace lieq
