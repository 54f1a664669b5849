// What a dry run says.
#pragma once

#include "lieq/cli/command_session.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/forecast.h"

namespace lieq {

/// forecast: null where no plan is made; ends and config: of the model as it will be written.
void Announce(const Arguments& arguments, const Estimate& estimate, const Forecast* forecast,
              const EndGrids& ends, const ModelConfig& config, const CommandSession& session);

}  // namespace lieq
