// What a plan will come to before anything is measured for it: widths, counts, and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/cli/estimate.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/session.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/plan/plan.h"

namespace lieq {

struct Forecast {
  Plan plan;                     // a stand-in where which layers get which width is to be measured
  std::vector<Grid> candidates;  // of an optimal plan, else empty
  std::uint64_t bytes = 0;       // of the weight files: so many, or
  bool exact = true;             // false: at most so many
  bool planned = false;          // an earlier start of the run made it
};

/// Writes nothing, and reads no more than the files that the arguments name. untied: the head that
/// is tied will be a matrix of its own. Throws Error where a budget cannot be met.
[[nodiscard]] Forecast ForecastPlan(const Arguments& arguments, const ModelFolder& model,
                                    const std::string& model_hash, const EndGrids& ends,
                                    bool untied, Session& session);

/// Adds what making the plan takes. text: of calibration; may be null.
void AddPlanning(const Arguments& arguments, const EncodedText* text, const Forecast& forecast,
                 Work& work);

/// Adds the windows of the calibration text that candidates are made on.
void AddCalibration(Session& session, Work& work);

/// What a dry run says. forecast: null where no plan is made; ends and config: of the model as it
/// will be written.
void Announce(const Arguments& arguments, const Estimate& estimate, const Forecast* forecast,
              const EndGrids& ends, const ModelConfig& config, const Session& session);

/// Where an optimal plan keeps its codes: --codes, or OUT.run/codes, or beside OUT.
[[nodiscard]] std::filesystem::path CodesFolder(const Arguments& arguments, bool in_run);

}  // namespace lieq
