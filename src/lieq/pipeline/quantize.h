// Quantizing: from a request to a model folder.
#pragma once

#include <string>
#include <vector>

#include "lieq/container/engines.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/forecast.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// What a request will take and come to.
struct QuantizeForecast {
  Forecast forecast;
  Estimate estimate;
  ModelConfig config;  // of the model as it will be written
};

/// Writes nothing but what was timed, in the session's cache. Throws as Quantize.
[[nodiscard]] QuantizeForecast ForecastQuantize(const QuantizeRequest& request, Session& session);

/// What a finished request came to.
struct QuantizeOutcome {
  bool already_done = false;  // by an earlier start: only `record` is filled
  Record record;              // lieq.json (docs/records.md)
  Record run;                 // run.json: seconds, memory, machine
  std::string asked;          // AskedText
  std::vector<Fit> fits;      // where the result runs
};

/// Quantizes request.model into a compressed-tensors folder, request.output, with lieq.json,
/// run.json, plan.json and a model card in it. Finished layers are kept in OUT.run until the model
/// is complete and read back: the same request given again goes on there. Layers are quantized in
/// order, each on the outputs of those before it; with request.assemble they are put together from
/// codes that are there.
///
/// Throws UsageError for a request that contradicts itself, Error for inputs that are wrong, too
/// little memory or disk, or an output that is there and is not this program's to replace, and
/// Stopped where the session's stop token asks for it: what is finished is kept then.
QuantizeOutcome Quantize(const QuantizeRequest& request, Session& session);

}  // namespace lieq
