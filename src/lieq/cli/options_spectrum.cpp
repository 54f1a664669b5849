// Options of diagnose alone.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    OptionRow{.names = "--projections",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "linears whose spectra count: all (default) or qkv",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.projections = ParseChoice<Projections>("--projections", v);
                  }},
    OptionRow{.names = "--heads",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "outputs of q, k and v: per-head (default) or whole",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.heads = ParseChoice<Heads>("--heads", v);
                  }},
    OptionRow{.names = "--spectrum",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "what shares the energy: squared singular values (default) or plain ones",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.energies = ParseChoice<Energies>("--spectrum", v);
                  }},
    OptionRow{.names = "--inputs",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "of the linears: activations (default) of the calibration text, or weights: "
                      "none, the weights alone are measured",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.settings.inputs = ParseChoice<SpectrumInputs>("--inputs", v);
                  }},
    OptionRow{.names = "--top-fraction",
              .value = "F",
              .commands = kDiagnose,
              .help = "share of the spectrum that top-k energy counts (default 0.1)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.top_fraction =
                        Parse<double>("--top-fraction", v, 1e-9, 1.0, "above 0, at most 1");
                  }},
    OptionRow{.names = "--twins",
              .value = "N",
              .commands = kDiagnose,
              .help = "random projections that each trained one is compared with (default 4)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.twins = Parse<int>("--twins", v, 1, 1024, "1 to 1024");
                  }},
    OptionRow{.names = "--spectrum-windows",
              .value = "N",
              .commands = kDiagnose,
              .help = "windows of the calibration text for spectra and block influence (default 4)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.spectrum_windows = Parse<Index>("--spectrum-windows", v, 1, kMostTokens,
                                                      "a whole number, at least 1");
                  }},
};

}  // namespace

std::span<const OptionRow> SpectrumOptions() noexcept {
  return kRows;
}

}  // namespace lieq
