// The subcommands. Each prints its result on stdout, or gives it to the session under --json, and
// returns the exit code.
#pragma once

#include "lieq/cli/arguments.h"
#include "lieq/cli/session.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/plan/plan.h"

namespace lieq {

int RunInspect(const Arguments& arguments, Session& session);
int RunDiagnose(const Arguments& arguments, Session& session);
int RunPlan(const Arguments& arguments, Session& session);
int RunPlanDiff(const Arguments& arguments, Session& session);
int RunQuantize(const Arguments& arguments, Session& session);
int RunSensitivity(const Arguments& arguments, Session& session);
int RunStudy(const Arguments& arguments, Session& session);
int RunEvaluate(const Arguments& arguments, Session& session);
int RunGenerate(const Arguments& arguments, Session& session);
int RunCompare(const Arguments& arguments, Session& session);
int RunExport(const Arguments& arguments, Session& session);
int RunVerify(const Arguments& arguments, Session& session);
int RunCalibrate(const Arguments& arguments, Session& session);
int RunCompare(const Arguments& arguments, Session& session);
int RunReport(const Arguments& arguments, Session& session);

/// The one that the arguments name. Throws what the commands throw: Error, UsageError, Stopped.
int RunCommand(const Arguments& arguments, Session& session);

/// Everything: parses, runs, prints errors, and gives the exit code.
int RunProgram(int count, const char* const* words);

}  // namespace lieq
