// Options of tuning.
#include <algorithm>
#include <string>
#include <vector>

#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kTuneRows{
    OptionRow{.names = "--reference",
              .value = "MODEL",
              .commands = kTune,
              .help = "the float model that it was quantized from",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.tune.reference = v; },
              .first = kTune},
    OptionRow{
        .names = "--tokens",
        .value = "N",
        .commands = kTune,
        .help = "train on so many tokens (default: twice those of the text)",
        .set = [](Arguments& a, const std::string& v) { a.tune.tokens = ParseSize("--tokens", v); },
        .first = kTune},
    OptionRow{.names = "--minutes",
              .value = "M",
              .commands = kTune,
              .help = "train for about so long on this machine: how many steps that are is in "
                      "the record",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.tune.minutes = Parse<double>("--minutes", v, 0.01, 1e5, "minutes above 0");
                  },
              .first = kTune},
    OptionRow{
        .names = "--what",
        .value = "PART",
        .commands = kTune,
        .help = "what moves: scales, with norms and biases, or codes beside them, which takes "
                "16 bytes of memory a weight",
        .set =
            [](Arguments& a, const std::string& v) {
              const auto found = std::ranges::find(kTuneWhatNames, v);  // a choice
              a.tune.what = static_cast<TuneWhat>(found - kTuneWhatNames.begin());
            },
        .preset = [](const Arguments&) { return Shown(std::string(kTuneWhatNames[0])); },
        .choices =
            [] { return std::vector<std::string>(kTuneWhatNames.begin(), kTuneWhatNames.end()); }},
    OptionRow{.names = "--code-rate",
              .value = "R",
              .commands = kTune,
              .help = "largest step of a code, in units of codes, with --what codes",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.tune.code_rate = Parse<double>("--code-rate", v, 1e-7, 1, "a number up to 1");
                  },
              .preset = [](const Arguments& a) { return Shown(a.tune.code_rate); }},
    OptionRow{.names = "--rate",
              .value = "R",
              .commands = kTune,
              .help = "largest step of a scale, as a share of it",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.tune.rate = Parse<double>("--rate", v, 1e-7, 1, "a number up to 1");
                  },
              .preset = [](const Arguments& a) { return Shown(a.tune.rate); }},
    OptionRow{.names = "--batch-tokens",
              .value = "N",
              .commands = kTune,
              .help = "tokens of a step, in whole windows",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.tune.batch_tokens =
                        Parse<Index>("--batch-tokens", v, 2, 1 << 24, "a whole number");
                  },
              .preset = [](const Arguments& a) { return Shown(a.tune.batch_tokens); }},
};

}  // namespace

std::span<const OptionRow> TuneOptionRows() noexcept {
  return kTuneRows;
}

}  // namespace lieq
