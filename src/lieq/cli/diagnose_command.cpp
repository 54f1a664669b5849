#include <fmt/format.h>

#include "lieq/base/files.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/planning.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/diagnose/diagnosis_json.h"

namespace lieq {
namespace {

std::string Cell(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

void PrintDiagnosis(const Diagnosis& diagnosis) {
  fmt::print("layer  compactness  top-k energy  perplexity drop  NLL drop\n");
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const LayerDiagnosis& row = diagnosis.layers[i];
    fmt::print("{:>5}  {:>11}  {:>12}  {:>15}  {:>8}\n", i, Cell(row.compactness, "{:.4f}"),
               Cell(row.top_k_energy, "{:.4f}"), Cell(row.perplexity_drop, "{:.3f}"),
               Cell(row.nll_drop, "{:.4f}"));
  }
  if (diagnosis.base_perplexity) {
    fmt::print("perplexity of the whole model: {:.3f}\n", *diagnosis.base_perplexity);
  }
}

}  // namespace

int RunDiagnose(const Arguments& arguments, Session& session) {
  const ModelFolder model = OpenModel(arguments.model);
  const Tokenizer tokenizer = OpenTokenizer(model);
  const std::string model_hash = HashModel(model);
  const EncodedText calibration =
      EncodeFiles(tokenizer, arguments.calibration, arguments.text_fields);
  const Index context = arguments.context.value_or(kDefaultContext);

  Diagnosis diagnosis;
  if (context == kDefaultContext) {
    diagnosis = MeasureForRanking(model, model_hash, calibration, arguments.seed, session);
  } else {
    const Windows windows =
        CutWindows(calibration.ids, context, kSpectrumWindows, "the calibration text");
    DiagnoseOptions options;
    options.seed = arguments.seed;
    MeasureSpectra(model.weights, session.device(), windows.view(), options, session.context(),
                   diagnosis);
    diagnosis.model_hash = model_hash;
    diagnosis.calibration_hash = calibration.hash;
  }
  if (!arguments.text.empty()) {
    const std::filesystem::path files[] = {arguments.text};
    EncodedText text = EncodeFiles(tokenizer, files, arguments.text_fields);
    diagnosis.text_hash = text.hash;
    const Windows windows = CutWindows(std::move(text.ids), context, arguments.samples.value_or(0),
                                       arguments.text.string());
    MeasurePerplexityDrop(model.weights, session.device(), windows.view(), session.context(),
                          diagnosis);
  }

  const Record record = ToJson(diagnosis);
  WriteFileAtomically(arguments.output, record.dump(2) + "\n");
  if (arguments.json) {
    PrintJson(record);
  } else {
    PrintDiagnosis(diagnosis);
    fmt::print("written to {}\n", arguments.output.string());
  }
  return 0;
}

}  // namespace lieq
