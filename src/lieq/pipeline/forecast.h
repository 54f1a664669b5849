// What a plan will come to before anything is measured for it: widths, counts, and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/output_sizes.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/pipeline/source.h"
#include "lieq/plan/plan.h"

namespace lieq {

struct Forecast {
  Plan plan;                // a stand-in where which layers get which width is to be measured
  Candidates candidates;    // of an optimal plan, else empty
  std::uint64_t bytes = 0;  // of the weight files that are written: so many, or
  bool exact = true;        // false: at most so many; about, where a budget is of `elsewhere`
  std::optional<BytesElsewhere> elsewhere;  // in the container of --for
  bool planned = false;                     // an earlier start of the run made it
};

/// Writes nothing, and reads no more than the files that the request name. untied: the head that
/// is tied will be a matrix of its own. Throws Error where a budget cannot be met.
[[nodiscard]] Forecast ForecastPlan(const QuantizeRequest& request, Source& source,
                                    const std::optional<EndGrids>& ends, bool untied,
                                    Session& session);

/// Adds what making the plan takes.
void AddPlanning(const QuantizeRequest& request, const Source& source, const Forecast& forecast,
                 Work& work);

/// Adds the windows of the calibration text that candidates are made on.
void AddCalibration(const QuantizeRequest& request, Source& source, Work& work);

/// Where an optimal plan keeps its codes: --codes, or OUT.run/codes, or beside OUT.
[[nodiscard]] std::filesystem::path CodesFolder(const QuantizeRequest& request, bool in_run);

}  // namespace lieq
