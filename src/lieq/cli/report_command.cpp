#include <fmt/format.h>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/cli/commands.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/report/gather.h"
#include "lieq/report/report.h"

namespace lieq {

int RunReport(const Arguments& arguments, CommandSession& session) {
  std::vector<std::string> skipped;
  const auto hash = [&](const std::filesystem::path& folder) -> std::string {
    try {
      return HashModel(OpenModel(folder));
    } catch (const Error&) {
      session.log().Warning(
          fmt::format("{} holds no weights that open: which evaluations are of it, their names and "
                      "folders say",
                      folder.string()));
      return {};
    }
  };
  const std::vector<ReportInput> inputs = GatherRecords(arguments.runs, skipped, hash);
  for (const std::string& file : skipped) {
    session.log().Warning(fmt::format("{} is no record of this program; left out", file));
  }
  const bool picture = arguments.run.output.extension() == ".svg";
  const std::string page = picture ? RenderLossPicture(inputs) : RenderReport(inputs);
  WriteFileAtomically(arguments.run.output, page);
  if (arguments.json) {
    session.Answer({{"schema", 1},
                    {"kind", "report"},
                    {"output", arguments.run.output.string()},
                    {"bytes", page.size()},
                    {"records", inputs.size()}});
    return 0;
  }
  fmt::print("records     {}\n", inputs.size());
  fmt::print("written to  {} ({})\n", arguments.run.output.string(),
             FormatBytes(static_cast<double>(page.size())));
  return 0;
}

}  // namespace lieq
