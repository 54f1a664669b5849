// Options of the texts that are read.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    OptionRow{
        .names = "--text",
        .value = "FILE",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize,
        .help = "UTF-8 text, .jsonl or .json, or gzip of these to measure perplexity or damage on",
        .set = [](Arguments& a, const std::string& v) { a.text = v; }},
    OptionRow{
        .names = "--calibration",
        .value = "FILE",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate,
        .help =
            "UTF-8 texts, .jsonl or .json, or gzip of these whose activations are used (default: a "
            "bundled text); sensitivity, plan, quantize, calibrate: or self, a text that the "
            "model writes (by --seed)",
        .many = true,
        .set = [](Arguments& a, const std::string& v) { a.calibration.emplace_back(v); }},
    OptionRow{
        .names = "--second-text",
        .value = "FILE",
        .commands = kDiagnose,
        .help = "texts of another kind: measure on them too, and say how far the rankings agree",
        .many = true,
        .set = [](Arguments& a, const std::string& v) { a.second_text.emplace_back(v); }},
    OptionRow{
        .names = "--text-field",
        .value = "NAME,..",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate,
        .help = "fields of a row that are its text, for .jsonl and .json files (default: text, or "
                "those of a known layout)",
        .set = SetTextFields},
    OptionRow{.names = "--line-ends",
              .value = "KIND",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy |
                          kCalibrate | kGenerate,
              .help =
                  "of texts: lf (default: CRLF and CR are read as LF, as Python and the loaders "
                  "of data sets do) or keep",
              .set = SetLineEnds},
    OptionRow{
        .names = "--context",
        .value = "T",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate,
        .help = "tokens in a window (default 1024; evaluate: by the convention)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.context =
                  Parse<Index>("--context", v, 2, kMostTokens, "a whole number, at least 2");
            }},
    OptionRow{
        .names = "--samples",
        .value = "N",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate,
        .help =
            "windows from the start of the text (default: quantize and calibrate 128, or as many "
            "as the text has, else all)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.samples =
                  Parse<Index>("--samples", v, 1, kMostTokens, "a whole number, at least 1");
            }},
    OptionRow{
        .names = "--seed",
        .value = "S",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate | kGenerate,
        .help = "seed of everything random (default 0)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.seed = Parse<std::uint64_t>("--seed", v, 0, UINT64_MAX, "a whole number");
            }},
};

}  // namespace

std::span<const OptionRow> TextOptions() noexcept {
  return kRows;
}

}  // namespace lieq
