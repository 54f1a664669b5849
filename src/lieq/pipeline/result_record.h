// lieq.json, run.json and the model card of a quantized model.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/output_sizes.h"
#include "lieq/pipeline/requests.h"
#include "lieq/plan/plan.h"
#include "lieq/quantize/layer_quantizer.h"

namespace lieq {

using LayerReports = std::array<LinearReport, kSites>;
using EndReports = std::vector<std::pair<std::string, LinearReport>>;  // by module

[[nodiscard]] Record ReportToJson(const LinearReport& report);
[[nodiscard]] LinearReport ReportFromJson(const JsonObject& row);
[[nodiscard]] Record ReportsToJson(const LayerReports& reports);
/// Throws Error naming `where` for anything that ReportsToJson does not write.
[[nodiscard]] LayerReports ReportsFromJson(const Json& json, const std::string& where);

/// What a finished run is described by; everything in it is the same for any run of the command.
struct ResultFacts {
  const ModelFolder& model;  // the transformed one, where there were transforms
  std::uint64_t source_bytes = 0;
  const Origin& origin;      // of the source
  const Record& transforms;  // TransformedModel; empty where there were none
  const Plan& plan;
  const std::vector<LayerReports>& reports;  // [layers]
  const EndReports& ends;
  const Record& settings;
  const EncodedText* calibration;  // null where none was used
  Index calibration_tokens = 0;
  const std::vector<std::string>& text_notes;  // of --text, which the damage was measured on
  std::uint64_t output_bytes = 0;
  std::optional<BytesElsewhere> elsewhere;  // in the container of --for
  std::string command;
};

/// Bits a weight of the decoder's linears with scales and zero-points counted.
[[nodiscard]] double StoredBits(const ModelConfig& config, const ModelGrids& grids);

/// Bytes of a model's weight files.
[[nodiscard]] std::uint64_t SourceBytes(const ModelFolder& model);

[[nodiscard]] Record ResultRecord(const ResultFacts& facts);

}  // namespace lieq
