// What a dry run says.
#pragma once

#include <string>

#include "lieq/cli/command_session.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/forecast.h"

namespace lieq {

/// forecast: null where no plan is made; ends and config: of the model as it will be written.
void Announce(const Arguments& arguments, const Estimate& estimate, const Forecast* forecast,
              const EndGrids& ends, const ModelConfig& config, const CommandSession& session);

/// "as gguf  91500000 bytes (91.5 MB), 4.0 bits a weight of the whole file": of the "for" of a plan
/// or a result. of_bytes, of_bits: what follows the figures: ", at most 91550000", " (at most 4)".
[[nodiscard]] std::string ElsewhereText(const Record& elsewhere, const std::string& of_bytes = "",
                                        const std::string& of_bits = "");

}  // namespace lieq
