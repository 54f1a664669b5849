#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iterator>
#include <new>

#include "lieq/base/error.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/output_check.h"
#include "lieq/cli/signal_stop.h"
#include "lieq/cli/terminal.h"

namespace lieq {
namespace {

enum ExitCode : int { kDone = 0, kInternal = 1, kUsage = 2, kInput = 3 };

/// One line of JSON on stdout.
void PrintJson(const Record& record) {
  fmt::print("{}\n", record.dump());
}

}  // namespace

int RunCommand(const Arguments& given, CommandSession& session) {
  struct Row {
    std::string_view name;
    int (*run)(const Arguments&, CommandSession&);
  };
  constexpr Row kRows[] = {
      {"inspect", RunInspect},     {"diagnose", RunDiagnose}, {"sensitivity", RunSensitivity},
      {"plan", RunPlan},           {"quantize", RunQuantize}, {"evaluate", RunEvaluate},
      {"export", RunExport},       {"verify", RunVerify},     {"report", RunReport},
      {"calibrate", RunCalibrate}, {"study", RunStudy},       {"plan diff", RunPlanDiff},
      {"generate", RunGenerate},   {"compare", RunCompare},   {"chat", RunChat},
      {"bench", RunBench},         {"serve", RunServe},       {"tune", RunTune},
      {"merge", RunMerge},         {"pack", RunPack}};
  const auto* row = std::ranges::find(kRows, given.command, &Row::name);
  if (row == std::end(kRows)) throw UsageError("no such command: " + given.command);
  const Arguments arguments = WithPlainOutputs(given);
  CheckOutputs(arguments);  // of every command, before it does anything
  return arguments.part ? RunPart(arguments, session, row->run) : row->run(arguments, session);
}

int RunProgram(int count, const char* const* words) {
  const SignalStop stop;
  Arguments arguments;
  try {
    arguments = ParseArguments(count, words);
  } catch (const std::exception& error) {  // UsageError, or Error of a table that has no such row
    fmt::print(stderr, "lieq: {}\nSee `lieq --help` or `lieq COMMAND --help`.\n", error.what());
    return kUsage;
  }
  if (!arguments.page.empty()) {
    fmt::print("{}", arguments.page);
    return kDone;
  }
  Terminal terminal({.quiet = arguments.quiet, .verbose = arguments.verbose});
  try {
    CommandSession session(arguments, {terminal.log(), terminal.progress(), PrintJson},
                           stop.token());
    return RunCommand(arguments, session);
  } catch (const Stopped&) {
    terminal.Error("stopped by a signal");
    return 128 + stop.signal();
  } catch (const UsageError& error) {
    terminal.Error(error.what());
    return kUsage;
  } catch (const Error& error) {
    terminal.Error(error.what());
    return kInput;
  } catch (const std::bad_alloc&) {
    terminal.Error("out of memory");
    return kInput;
  } catch (const std::filesystem::filesystem_error& error) {
    terminal.Error(error.what());
    return kInput;
  } catch (const std::exception& error) {
    terminal.Error(fmt::format("internal error: {}", error.what()));
    return kInternal;
  }
}

}  // namespace lieq
