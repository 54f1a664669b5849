#include <fmt/format.h>

#include <optional>
#include <span>

#include "lieq/base/files.h"
#include "lieq/base/statistics.h"
#include "lieq/cli/commands.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/planning.h"

namespace lieq {
namespace {

std::string CellText(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

void PrintDiagnosis(const Diagnosis& diagnosis) {
  fmt::print(
      "layer  compactness  top-k energy  perplexity drop  NLL drop  block influence  largest |x|  "
      "over median\n");
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const LayerDiagnosis& row = diagnosis.layers[i];
    fmt::print("{:>5}  {:>11}  {:>12}  {:>15}  {:>8}  {:>15}  {:>11}  {:>11}\n", i,
               CellText(row.compactness, "{:.4f}"), CellText(row.top_k_energy, "{:.4f}"),
               CellText(row.perplexity_drop, "{:.3f}"), CellText(row.nll_drop, "{:.4f}"),
               CellText(row.block_influence, "{:.4f}"), CellText(row.largest_activation, "{:.1f}"),
               CellText(row.activation_ratio, "{:.0f}"));
  }
  if (diagnosis.base_perplexity) {
    fmt::print("perplexity of the whole model: {:.3f}\n", *diagnosis.base_perplexity);
  }
}

/// One line: how far the rankings agree between both texts, and what it means where they do not.
std::string StabilityLine(const Stability& stability) {
  constexpr double kStable = 0.8;  // method.md, section 5
  std::string line, changing;
  for (const auto& [ranking, tau] : stability.kendall) {
    line += fmt::format("{} {} {:.2f}", line.empty() ? "" : ",", ranking, tau);
    if (tau < kStable) changing += (changing.empty() ? "" : ", ") + ranking;
  }
  line = "Kendall's tau between both texts:" + (line.empty() ? " none" : line);
  if (changing.empty()) return line;
  return line +
         fmt::format("; below {:g}, so the ranking changes with the text: {}", kStable, changing);
}

/// What the arguments ask of a calibration text, measured on `text`.
Diagnosis MeasureOnText(const Arguments& arguments, const ModelFolder& model,
                        const EncodedText& text, const DiagnoseOptions& options, Session& session) {
  const Index wanted = arguments.spectrum_windows.value_or(kSpectrumWindows);
  const Windows windows =
      arguments.run.calibration.context
          ? CutWindows(text.ids, *arguments.run.calibration.context, wanted, text.where)
          : SpectrumWindows(text, wanted);
  if (windows.count < wanted && arguments.spectrum_windows) {
    session.log().Warning(fmt::format("{} has {} windows of {} tokens, fewer than {}", text.where,
                                      windows.count, windows.length, wanted));
  }
  Diagnosis diagnosis;
  MeasureSpectra(model.weights, session.device(), windows.view(), options, session.context(),
                 diagnosis);
  diagnosis.calibration_hash = text.hash;
  diagnosis.calibration_files = text.names;
  diagnosis.calibration_notes = text.notes;
  return diagnosis;
}

/// Of each ranking that is measured on a calibration text alone.
Stability CompareRankings(const Diagnosis& first, const Diagnosis& second) {
  Stability stability{.text_hash = second.calibration_hash,
                      .text_files = second.calibration_files,
                      .text_notes = second.calibration_notes};
  for (const Ranking& ranking : Rankings()) {
    if (!ranking.needs.calibration() || ranking.needs.perplexity_drop) continue;
    const auto tau = KendallTau(Score(ranking, first), Score(ranking, second));
    if (tau) stability.kendall[std::string(ranking.name)] = *tau;
  }
  return stability;
}

Diagnosis Measure(const Arguments& arguments, const ModelFolder& model, Session& session) {
  DiagnoseOptions options = arguments.diagnose;
  options.seed = arguments.run.seed;
  const bool weights_alone = options.settings.inputs == SpectrumInputs::kWeights;
  std::optional<Tokenizer> tokenizer;  // the weights alone need none
  if (!weights_alone || !arguments.run.damage.text.empty())
    tokenizer = OpenTokenizer(model, session.log());
  const auto encode = [&](std::span<const std::filesystem::path> files) {
    return EncodeFiles(*tokenizer, files, arguments.run.reading, model, session.log());
  };

  Diagnosis diagnosis;
  if (weights_alone) {
    MeasureWeightSpectra(model.weights, options, session.context(), diagnosis);
  } else {
    diagnosis =
        MeasureOnText(arguments, model, encode(arguments.run.calibration.files), options, session);
    if (!arguments.second_text.empty()) {
      diagnosis.stability = CompareRankings(
          diagnosis,
          MeasureOnText(arguments, model, encode(arguments.second_text), options, session));
    }
  }
  diagnosis.model_hash = HashModel(model);
  if (!arguments.run.damage.text.empty()) {
    EncodedText text = encode({&arguments.run.damage.text, 1});
    diagnosis.text_hash = text.hash;
    diagnosis.text_files = text.names;
    diagnosis.text_notes = text.notes;
    const Windows windows =
        CutWindows(std::move(text.ids), arguments.run.calibration.context.value_or(kDefaultContext),
                   arguments.run.calibration.samples.value_or(0), text.where);
    MeasurePerplexityDrop(model.weights, session.device(), windows.view(), session.context(),
                          diagnosis);
  }
  return diagnosis;
}

}  // namespace

int RunDiagnose(const Arguments& arguments, CommandSession& session) {
  const ModelFolder model = OpenInput(arguments.run.model, session.log());
  const Diagnosis diagnosis = Measure(arguments, model, session);

  const Record record = ToJson(diagnosis);
  WriteFileAtomically(arguments.run.output, record.dump(2) + "\n");
  const std::string stability = diagnosis.stability ? StabilityLine(*diagnosis.stability) : "";
  if (arguments.json) {
    session.Answer(record);
    if (!stability.empty()) session.log().Info(stability);
    return 0;
  }
  PrintDiagnosis(diagnosis);
  if (!stability.empty()) fmt::print("{}\n", stability);
  fmt::print("written to {}\n", arguments.run.output.string());
  return 0;
}

}  // namespace lieq
