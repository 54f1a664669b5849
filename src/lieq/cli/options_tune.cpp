// Options of tuning, as a command and as the last step of quantize.
#include <algorithm>
#include <string>
#include <vector>

#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

TuneWhat WhatOf(const std::string& name) {  // one of the row's choices
  return static_cast<TuneWhat>(std::ranges::find(kTuneWhatNames, name) - kTuneWhatNames.begin());
}
std::vector<std::string> WhatNames() {
  return {kTuneWhatNames.begin(), kTuneWhatNames.end()};
}
/// An amount alone asks for the step, too.
TuneStep& Step(Arguments& a) {
  if (!a.run.tune) a.run.tune.emplace();
  return *a.run.tune;
}
double Minutes(std::string_view option, const std::string& v) {
  return Parse<double>(option, v, 0.01, 1e5, "minutes above 0");
}
double Rate(std::string_view option, const std::string& v) {
  return Parse<double>(option, v, 1e-7, 1, "a number up to 1");
}

constexpr std::array kTuneRows{
    OptionRow{.names = "--reference",
              .value = "MODEL",
              .commands = kTune,
              .help = "the float model that it was quantized from",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.tune.reference = v; },
              .first = kTune},
    OptionRow{.names = "--tokens",
              .value = "N",
              .commands = kTune,
              .help = "train on so many tokens (default: twice those of the text)",
              .set = [](Arguments& a,
                        const std::string& v) { a.tune.tokens = ParseTokens("--tokens", v); },
              .first = kTune},
    OptionRow{
        .names = "--minutes",
        .value = "M",
        .commands = kTune,
        .help = "train for about so long on this machine: how many steps that are is in the record",
        .set = [](Arguments& a, const std::string& v) { a.tune.minutes = Minutes("--minutes", v); },
        .first = kTune},
    OptionRow{.names = "--what",
              .value = "PART",
              .commands = kTune,
              .help =
                  "what moves: scales, with norms and biases, or codes beside them, which takes "
                  "16 bytes of memory a weight",
              .set = [](Arguments& a, const std::string& v) { a.tune.what = WhatOf(v); },
              .first = kTune,
              .preset = [](const Arguments& a) { return Shown(std::string(Name(a.tune.what))); },
              .choices = WhatNames},
    OptionRow{.names = "--tuned",
              .value = "PART",
              .commands = kVerify,
              .help = "the model was tuned from the other: what training moves may differ",
              .set = [](Arguments& a, const std::string& v) { a.tuned = WhatOf(v); },
              .choices = WhatNames},
    OptionRow{.names = "--rate",
              .value = "R",
              .commands = kTune,
              .help = "largest step of a scale, as a share of it",
              .set = [](Arguments& a, const std::string& v) { a.tune.rate = Rate("--rate", v); },
              .preset = [](const Arguments& a) { return Shown(a.tune.rate); }},
    OptionRow{.names = "--code-rate",
              .value = "R",
              .commands = kTune,
              .help = "largest step of a code, in units of codes (default: by the number of steps)",
              .set = [](Arguments& a,
                        const std::string& v) { a.tune.code_rate = Rate("--code-rate", v); }},
    OptionRow{.names = "--batch-tokens",
              .value = "N",
              .commands = kTune,
              .help = "tokens of a step, in whole windows",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.tune.batch_tokens =
                        Parse<Index>("--batch-tokens", v, 2, 1 << 24, "a whole number, at least 2");
                  },
              .preset = [](const Arguments& a) { return Shown(a.tune.batch_tokens); }},
    OptionRow{.names = "--tune",
              .value = "PART",
              .commands = kQuantize,
              .help =
                  "as a last step train scales, or codes too, as `lieq tune` does, on all of the "
                  "calibration text: with gradients, which nothing else here uses",
              .set = [](Arguments& a, const std::string& v) { Step(a).what = WhatOf(v); },
              .choices = WhatNames},
    OptionRow{
        .names = "--tune-tokens",
        .value = "N",
        .commands = kQuantize,
        .help = "train on so many tokens (default: twice those of the text)",
        .set = [](Arguments& a,
                  const std::string& v) { Step(a).tokens = ParseTokens("--tune-tokens", v); }},
    OptionRow{.names = "--tune-minutes",
              .value = "M",
              .commands = kQuantize,
              .help = "train for about so long on this machine",
              .set = [](Arguments& a,
                        const std::string& v) { Step(a).minutes = Minutes("--tune-minutes", v); }},
};

}  // namespace

std::span<const OptionRow> TuneOptionRows() noexcept {
  return kTuneRows;
}

}  // namespace lieq
