// Measuring what each input channel of a model carries: an importance matrix.
#pragma once

#include "lieq/diagnose/importance.h"
#include "lieq/model/config.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"

namespace lieq {

struct Calibration {
  Importance importance;
  ModelConfig config;
  EncodedText text;               // that it was measured on
  Index windows = 0, length = 0;  // of it
};

/// Measures request.model on request.calibration and writes nothing: WriteCalibration, or
/// WriteImatrix of container/imatrix.h. Throws Error for inputs that are wrong, Stopped.
[[nodiscard]] Calibration Calibrate(const QuantizeRequest& request, Session& session);

/// An importance matrix that llama-quantize takes: GGUF where the name ends in .gguf, else the
/// older binary form. Throws Error.
void WriteCalibration(const Calibration& calibration, const std::filesystem::path& file);

}  // namespace lieq
