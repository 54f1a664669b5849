// Measuring what each candidate grid costs a model.
#pragma once

#include "lieq/model/config.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/plan/sensitivities.h"

namespace lieq {

struct SensitivityForecast {
  Estimate estimate;
  ModelConfig config;
};

/// What the request will take. Writes nothing but what was timed, in the session's cache. Throws as
/// MeasureSensitivities.
[[nodiscard]] SensitivityForecast ForecastSensitivities(const QuantizeRequest& request,
                                                        Session& session);

/// Quantizes every unit of request.model at every candidate grid of request.grids, and measures the
/// divergence with one unit replaced at a time, as request.damage says. Codes are kept in
/// request.damage.codes, or beside request.output, and used again; nothing else is written.
///
/// Throws UsageError for a request that contradicts itself, Error for inputs that are wrong, and
/// Stopped: the codes that are finished are kept then.
[[nodiscard]] Sensitivities MeasureSensitivities(const QuantizeRequest& request, Session& session);

}  // namespace lieq
