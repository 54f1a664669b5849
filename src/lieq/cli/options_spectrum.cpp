// Options of diagnose alone.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/pipeline/inputs.h"

namespace lieq {
namespace {

constexpr std::array kSpectrumRows{
    OptionRow{
        .names = "--projections",
        .value = "KIND",
        .commands = kDiagnose,
        .help = "linears whose spectra count: all or qkv",
        .set =
            [](Arguments& a, const std::string& v) {
              a.diagnose.options.settings.projections =
                  ParseChoice<Projections>("--projections", v);
            },
        .preset = [](const Arguments& a) { return Shown(a.diagnose.options.settings.projections); },
        .choices = [] { return std::vector<std::string>{"all", "qkv"}; }},
    OptionRow{.names = "--heads",
              .value = "KIND",
              .commands = kDiagnose,
              .help = "outputs of q, k and v: per-head or whole",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.options.settings.heads = ParseChoice<Heads>("--heads", v);
                  },
              .preset = [](const Arguments& a) { return Shown(a.diagnose.options.settings.heads); },
              .choices = [] { return std::vector<std::string>{"per-head", "whole"}; }},
    OptionRow{
        .names = "--spectrum",
        .value = "KIND",
        .commands = kDiagnose,
        .help = "what shares the energy: squared singular values or plain ones",
        .set =
            [](Arguments& a, const std::string& v) {
              a.diagnose.options.settings.energies = ParseChoice<Energies>("--spectrum", v);
            },
        .preset = [](const Arguments& a) { return Shown(a.diagnose.options.settings.energies); },
        .choices = [] { return std::vector<std::string>{"squared", "plain"}; }},
    OptionRow{
        .names = "--inputs",
        .value = "KIND",
        .commands = kDiagnose,
        .help = "of the linears: activations of the calibration text, or weights: none, the "
                "weights alone are measured",
        .set =
            [](Arguments& a, const std::string& v) {
              a.diagnose.options.settings.inputs = ParseChoice<SpectrumInputs>("--inputs", v);
            },
        .preset = [](const Arguments& a) { return Shown(a.diagnose.options.settings.inputs); },
        .choices = [] { return std::vector<std::string>{"activations", "weights"}; }},
    OptionRow{.names = "--top-fraction",
              .value = "F",
              .commands = kDiagnose,
              .help = "share of the spectrum that top-k energy counts",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.options.top_fraction =
                        Parse<double>("--top-fraction", v, 1e-9, 1.0, "above 0, at most 1");
                  },
              .preset = [](const Arguments& a) { return Shown(a.diagnose.options.top_fraction); }},
    OptionRow{.names = "--twins",
              .value = "N",
              .commands = kDiagnose,
              .help = "random projections that each trained one is compared with",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.options.twins = Parse<int>("--twins", v, 1, 1024, "1 to 1024");
                  },
              .preset = [](const Arguments& a) { return Shown(a.diagnose.options.twins); }},
    OptionRow{.names = "--spectrum-windows",
              .value = "N",
              .commands = kDiagnose,
              .help = "windows of the calibration text for spectra and block influence",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.diagnose.spectrum_windows = Parse<Index>(
                        "--spectrum-windows", v, 1, kMostTokens, "a whole number, at least 1");
                  },
              .preset = [](const Arguments&) { return Shown(kSpectrumWindows); }},
};

}  // namespace

std::span<const OptionRow> SpectrumOptions() noexcept {
  return kSpectrumRows;
}

}  // namespace lieq
