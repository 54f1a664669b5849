#include <fmt/format.h>

#include "lieq/base/shell.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/pack.h"

namespace lieq {

int RunPack(const Arguments& arguments, CommandSession& session) {
  const PackRequest request = PackRequestOf(arguments);
  const PackOutcome outcome = Pack(request, session);
  if (arguments.json) {
    session.Answer(PackRecord(request, outcome));
    return 0;
  }
  const std::string file = ShellQuoted(request.output.string());
  fmt::print("written to     {}, {} bytes ({})\n", request.output.string(), outcome.bytes,
             FormatBytes(static_cast<double>(outcome.bytes)));
  fmt::print("packed         {} matrices, {}\n", outcome.matrices,
             FormatBytes(static_cast<double>(outcome.packed_bytes)));
  if (outcome.float_matrices > 0) {
    fmt::print("in floats      {} matrices\n", outcome.float_matrices);
  }
  fmt::print("check again    lieq verify {} --against {}\n", file,
             ShellQuoted(request.model.string()));
  fmt::print("run with       lieq chat {}\n", file);
  return 0;
}

}  // namespace lieq
