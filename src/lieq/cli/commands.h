// The subcommands. Each prints its result on stdout, or gives it to the session under --json, and
// returns the exit code.
#pragma once

#include "lieq/cli/arguments.h"
#include "lieq/cli/command_session.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/plan/plan.h"

namespace lieq {

int RunInspect(const Arguments& arguments, CommandSession& session);
int RunDiagnose(const Arguments& arguments, CommandSession& session);
int RunPlan(const Arguments& arguments, CommandSession& session);
int RunPlanDiff(const Arguments& arguments, CommandSession& session);
int RunQuantize(const Arguments& arguments, CommandSession& session);
int RunSensitivity(const Arguments& arguments, CommandSession& session);
int RunStudy(const Arguments& arguments, CommandSession& session);
int RunEvaluate(const Arguments& arguments, CommandSession& session);
int RunGenerate(const Arguments& arguments, CommandSession& session);
int RunServe(const Arguments& arguments, CommandSession& session);
int RunBench(const Arguments& arguments, CommandSession& session);
int RunChat(const Arguments& arguments, CommandSession& session);
int RunCompare(const Arguments& arguments, CommandSession& session);
int RunExport(const Arguments& arguments, CommandSession& session);
int RunPack(const Arguments& arguments, CommandSession& session);
int RunVerify(const Arguments& arguments, CommandSession& session);
int RunTune(const Arguments& arguments, CommandSession& session);
int RunCalibrate(const Arguments& arguments, CommandSession& session);
int RunCompare(const Arguments& arguments, CommandSession& session);
int RunReport(const Arguments& arguments, CommandSession& session);
int RunMerge(const Arguments& arguments, CommandSession& session);

/// Computes the part of a command that --part names, and writes it.
int RunPart(const Arguments& arguments, CommandSession& session,
            int (*run)(const Arguments&, CommandSession&));

/// The one that the arguments name. Throws what the commands throw: Error, UsageError, Stopped.
int RunCommand(const Arguments& arguments, CommandSession& session);

/// Everything: parses, runs, prints errors, and gives the exit code.
int RunProgram(int count, const char* const* words);

}  // namespace lieq
