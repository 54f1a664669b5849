#include <fmt/format.h>

#include "lieq/cli/commands.h"
#include "lieq/cli/print_comparison.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/export.h"
#include "lieq/pipeline/export_record.h"

namespace lieq {
namespace {

void PrintExport(const ExportRequest& request, const ExportOutcome& outcome) {
  if (outcome.good()) {
    fmt::print("written to     {}, {} bytes ({})\n", request.output.string(), outcome.bytes,
               FormatBytes(static_cast<double>(outcome.bytes)));
  }
  if (outcome.comparison) PrintComparison(*outcome.comparison);
  if (!outcome.good()) return;
  fmt::print("check again    {}\n", outcome.verify);
  fmt::print("serve with     {}\n", outcome.serve);
  for (const std::string& note : outcome.notes) fmt::print("note           {}\n", note);
}

}  // namespace

int RunExport(const Arguments& arguments, CommandSession& session) {
  const ExportRequest request = ExportRequestOf(arguments);
  const ExportOutcome outcome = Export(request, session);
  if (arguments.json) {
    session.Answer(ExportRecord(request, outcome));
  } else {
    PrintExport(request, outcome);
  }
  return outcome.good() ? 0 : kDiffer;
}

}  // namespace lieq
