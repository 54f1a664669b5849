// What a command works with: a session of the pipeline, and where its result goes under --json.
#pragma once

#include <functional>

#include "lieq/cli/arguments.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// Where what a command says goes: the terminal, or the caller in a process that runs commands of
/// its own. What is referred to must outlive the command.
struct Outputs {
  const Log& log;
  Progress& progress;
  std::function<void(const Record&)> record;  // the result, under --json
};

class CommandSession : public Session {
 public:
  CommandSession(const Arguments& arguments, Outputs outputs, std::stop_token stop)
      : Session(arguments.machine, outputs.log, outputs.progress, std::move(stop)),
        record_(std::move(outputs.record)) {}

  /// Gives the result of a command under --json.
  void Answer(const Record& record) const { record_(record); }

 private:
  std::function<void(const Record&)> record_;
};

}  // namespace lieq
