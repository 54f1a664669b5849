// The requests of a command line: what is said for one command alone, with what several commands
// take alike (MODEL, --output, --context, ...), which `Arguments::run` has.
#pragma once

#include "lieq/cli/arguments.h"

namespace lieq {

[[nodiscard]] DiagnoseRequest DiagnoseRequestOf(const Arguments& arguments);
[[nodiscard]] EvaluateRequest EvaluateRequestOf(const Arguments& arguments);
[[nodiscard]] ExportRequest ExportRequestOf(const Arguments& arguments);
[[nodiscard]] PackRequest PackRequestOf(const Arguments& arguments);
[[nodiscard]] VerifyRequest VerifyRequestOf(const Arguments& arguments);
[[nodiscard]] TuneRequest TuneRequestOf(const Arguments& arguments);
[[nodiscard]] StudyRequest StudyRequestOf(const Arguments& arguments);
[[nodiscard]] GenerateRequest GenerateRequestOf(const Arguments& arguments);
[[nodiscard]] SpeedRequest SpeedRequestOf(const Arguments& arguments);
[[nodiscard]] ServeRequest ServeRequestOf(const Arguments& arguments);
[[nodiscard]] ChatRequest ChatRequestOf(const Arguments& arguments);

}  // namespace lieq
