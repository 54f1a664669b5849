#include "lieq/pipeline/diagnose.h"

#include <fmt/format.h>

#include <span>
#include <utility>

#include "lieq/base/statistics.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/plan/rankings.h"

namespace lieq {
namespace {

/// What the request asks of a calibration text, measured on `text`.
Diagnosis MeasureOnText(const DiagnoseRequest& request, const ModelFolder& model,
                        const EncodedText& text, Session& session) {
  const Index wanted = request.spectrum_windows.value_or(kSpectrumWindows);
  const Windows windows = request.context
                              ? CutWindows(text.ids, *request.context, wanted, text.where)
                              : SpectrumWindows(text, wanted);
  if (windows.count < wanted && request.spectrum_windows) {
    session.log().Warning(fmt::format("{} has {} windows of {} tokens, fewer than {}", text.where,
                                      windows.count, windows.length, wanted));
  }
  Diagnosis diagnosis;
  MeasureSpectra(model.weights, session.device(), windows.view(), request.options,
                 session.context(), diagnosis);
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

/// What removing each layer does to the perplexity of `text`.
void MeasureDrop(const DiagnoseRequest& request, const ModelFolder& model, EncodedText text,
                 Session& session, Diagnosis& diagnosis) {
  diagnosis.text_hash = text.hash;
  diagnosis.text_files = text.names;
  diagnosis.text_notes = text.notes;
  const Windows windows = CutWindows(std::move(text.ids), request.context.value_or(kDefaultContext),
                                     request.samples, text.where);
  MeasurePerplexityDrop(model.weights, session.device(), windows.view(), session.context(),
                        diagnosis);
}

}  // namespace

void CheckRequest(const DiagnoseRequest& request) {
  if (request.options.settings.inputs != SpectrumInputs::kWeights) return;
  if (request.calibration.empty() && request.second_text.empty() && !request.spectrum_windows) {
    return;
  }
  throw UsageError(
      "--inputs weights reads no text: leave out --calibration, --second-text and "
      "--spectrum-windows");
}

Diagnosis Diagnose(const DiagnoseRequest& request, Session& session) {
  CheckRequest(request);
  const ModelFolder model = OpenInput(request.model, session.log());
  const bool weights_alone = request.options.settings.inputs == SpectrumInputs::kWeights;
  std::optional<Tokenizer> tokenizer;  // the weights alone need none
  if (!weights_alone || !request.text.empty()) tokenizer = OpenTokenizer(model, session.log());
  const auto encode = [&](std::span<const std::filesystem::path> files) {
    return EncodeFiles(*tokenizer, files, request.reading, model, session.log());
  };

  Diagnosis diagnosis;
  if (weights_alone) {
    MeasureWeightSpectra(model.weights, request.options, session.context(), diagnosis);
  } else {
    diagnosis = MeasureOnText(request, model, encode(request.calibration), session);
    if (!request.second_text.empty()) {
      diagnosis.stability = CompareRankings(
          diagnosis, MeasureOnText(request, model, encode(request.second_text), session));
    }
  }
  diagnosis.model_hash = HashModel(model);
  if (!request.text.empty()) {
    MeasureDrop(request, model, encode({&request.text, 1}), session, diagnosis);
  }
  return diagnosis;
}

}  // namespace lieq
