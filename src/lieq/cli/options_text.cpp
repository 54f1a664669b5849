// Options of the texts that are read.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/pipeline/inputs.h"

namespace lieq {
namespace {

void SetContext(Arguments& a, const std::string& v) {
  a.run.calibration.context =
      Parse<Index>("--context", v, 2, kMostTokens, "a whole number, at least 2");
}

void SetSamples(Arguments& a, const std::string& v) {
  a.run.calibration.samples =
      Parse<Index>("--samples", v, 1, kMostTokens, "a whole number, at least 1");
}

/// FILE or FILE:WEIGHT; a file whose name ends like that is a file.
void AddCalibration(Arguments& a, const std::string& v) {
  CalibrationRequest& calibration = a.run.calibration;
  const std::size_t colon = v.rfind(':');
  std::optional<double> weight;
  if (colon != std::string::npos && colon > 0 && !std::filesystem::exists(v)) {
    weight = Parse<double>("--calibration FILE:WEIGHT", v.substr(colon + 1), 1e-6, 1e6,
                           "a number above 0");
  }
  if (weight && calibration.weights.empty()) {
    calibration.weights.assign(calibration.files.size(), 1);
  }
  if (weight || !calibration.weights.empty()) calibration.weights.push_back(weight.value_or(1));
  calibration.files.emplace_back(weight ? v.substr(0, colon) : v);
}

constexpr std::array kTextRows{
    OptionRow{
        .names = "--text",
        .value = "FILE",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize,
        .help = "UTF-8 text, .jsonl or .json, or gzip of these to measure perplexity or damage on",
        .set = [](Arguments& a, const std::string& v) { a.run.damage.text = v; },
        .first = kDiagnose},
    OptionRow{
        .names = "--calibration",
        .value = "FILE",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate | kTune,
        .help =
            "UTF-8 texts, .jsonl or .json, or gzip of these whose activations are used (default: a "
            "bundled text); sensitivity, plan, quantize, calibrate, tune: or self, a text that the "
            "float model writes (by --seed), and FILE:WEIGHT for a share of the windows by weight",
        .many = true,
        .set = AddCalibration,
        .first = kDiagnose | kSensitivity | kQuantize | kStudy | kCalibrate | kTune,
        .choices = [] { return std::vector<std::string>{"self"}; },
        .open = true},
    OptionRow{
        .names = "--second-text",
        .value = "FILE",
        .commands = kDiagnose,
        .help = "texts of another kind: measure on them too, and say how far the rankings agree",
        .many = true,
        .set = [](Arguments& a, const std::string& v) { a.diagnose.second_text.emplace_back(v); }},
    OptionRow{
        .names = "--text-field",
        .value = "NAME,..",
        .commands =
            kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy | kCalibrate | kTune,
        .help = "fields of a row that are its text, for .jsonl and .json files (default: text, or "
                "those of a known layout)",
        .set = SetTextFields},
    OptionRow{.names = "--chat-fields",
              .value = "ROLE=NAME,..",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy |
                          kCalibrate | kTune,
              .help = "fields of a row that are turns of a chat, for .jsonl and .json files: "
                      "user=instruction,user=input,assistant=output; rows of messages need none",
              .set = SetChatFields},
    OptionRow{
        .names = "--chat-windows",
        .value = "KIND",
        .commands = kSensitivity | kPlan | kQuantize | kEvaluate | kCalibrate,
        .help = "of texts of chats: packed (windows are cut from chats that follow one another) or "
                "single (one chat a window, cut at its end)",
        .set = [](Arguments& a,
                  const std::string& v) { a.run.calibration.single_chats = v == "single"; },
        .preset = [](const Arguments&) { return Shown(std::string("packed")); },
        .choices = [] { return std::vector<std::string>{"packed", "single"}; }},
    OptionRow{.names = "--line-ends",
              .value = "KIND",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kEvaluate | kStudy |
                          kCalibrate | kGenerate | kTune,
              .help = "of texts: lf (CRLF and CR are read as LF, as Python and the loaders of data "
                      "sets do) or keep",
              .set = SetLineEnds,
              .preset = [](const Arguments&) { return Shown(std::string("lf")); },
              .choices = [] { return std::vector<std::string>{"lf", "keep"}; }},
    OptionRow{
        .names = "--context",
        .value = "T",
        .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate | kTune,
        .help = "tokens in a window",
        .set = SetContext,
        .first = kCalibrate,
        .preset = [](const Arguments&) { return Shown(kDefaultContext); }},
    OptionRow{.names = "--context",
              .value = "T",
              .commands = kEvaluate,
              .help = "tokens in a window (default: as the convention has it)",
              .set = SetContext,
              .first = kEvaluate},
    OptionRow{
        .names = "--samples",
        .value = "N",
        .commands = kSensitivity | kPlan | kQuantize | kStudy | kCalibrate,
        .help =
            "windows of calibration, from the start of the text: as many as it has, and no more "
            "than this",
        .set = SetSamples,
        .first = kCalibrate,
        .preset = [](const Arguments&) { return Shown(kDefaultSamples); }},
    OptionRow{.names = "--samples",
              .value = "N",
              .commands = kDiagnose | kEvaluate | kTune,
              .help = "windows from the start of the text (default: all)",
              .set = SetSamples,
              .first = kEvaluate},
    OptionRow{.names = "--seed",
              .value = "S",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kStudy | kCalibrate |
                          kGenerate | kChat | kTune,
              .help = "seed of everything random",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.seed = Parse<std::uint64_t>("--seed", v, 0, UINT64_MAX, "a whole number");
                  },
              .first = kGenerate,
              .preset = [](const Arguments& a) { return Shown(a.run.seed); }},
};

}  // namespace

std::span<const OptionRow> TextRows() noexcept {
  return kTextRows;
}

}  // namespace lieq
