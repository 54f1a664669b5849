// What a training run says on standard output.
#pragma once

#include "lieq/pipeline/tune.h"

namespace lieq {

void PrintTuning(const TuneOutcome& outcome);

}  // namespace lieq
