// Diagnosing: how effective each layer of a model is.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "lieq/diagnose/diagnosis.h"
#include "lieq/diagnose/layer_spectra.h"
#include "lieq/pipeline/session.h"
#include "lieq/text/text_file.h"

namespace lieq {

/// A model and the texts that its layers are measured on.
struct DiagnoseRequest {
  std::filesystem::path model;
  std::vector<std::filesystem::path> calibration;  // for spectra; empty: the bundled text
  std::vector<std::filesystem::path> second_text;  // another kind, to compare rankings; or empty
  std::filesystem::path text;    // for the rise of perplexity without a layer; empty: not measured
  TextOptions reading;           // of all texts
  std::optional<Index> context;  // tokens in a window; none: kDefaultContext
  Index samples = 0;             // windows of `text`; 0: all
  std::optional<Index> spectrum_windows;  // of the others; none: kSpectrumWindows
  DiagnoseOptions options;
};

/// Throws UsageError for a request that contradicts itself; Diagnose begins with it.
void CheckRequest(const DiagnoseRequest& request);

/// Measures every layer. Writes nothing: ToJson of diagnose/diagnosis_json.h makes the record.
///
/// Throws Error for inputs that are wrong, Stopped.
[[nodiscard]] Diagnosis Diagnose(const DiagnoseRequest& request, Session& session);

}  // namespace lieq
