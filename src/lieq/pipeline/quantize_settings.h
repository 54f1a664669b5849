// What a quantization run is told, as one record: it identifies a run that may go on, and stands in
// lieq.json.
#pragma once

#include "lieq/container/compressed_tensors.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/plan/plan.h"

namespace lieq {

/// Adds what the quantizer is told, with the method's own values where the options say nothing.
void AddOptions(const QuantOptions& options, Record& record);

/// "bits", and "rounding" where it is the paper's.
void AddAverage(const QuantizeRequest& request, Record& record);

/// Everything that the bytes of the result depend on. calibration: null where none is used.
[[nodiscard]] Record QuantizeSettings(const QuantizeRequest& request, const std::string& model_hash,
                                      const EncodedText* calibration, const Windows& windows);

/// The same, and "device" where the session's computes other bytes than a processor: what was begun
/// on one goes on there alone.
[[nodiscard]] Record WithDevice(Record settings, Session& session);

/// The grid of a width by --group-size and --offset, or by --grid the K-quant that has it. Throws
/// Error where none has.
[[nodiscard]] Grid GridOfBits(const QuantizeRequest& request, int bits);

/// Grids of the embedding and the head by --embedding-bits and --head-bits. Throws UsageError where
/// the two differ in a tied model, which has one matrix for both.
[[nodiscard]] EndGrids EndsOf(const QuantizeRequest& request, const ModelConfig& config);

}  // namespace lieq
