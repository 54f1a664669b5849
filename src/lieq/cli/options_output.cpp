// Options of what is written, and where.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    OptionRow{.names = "--output,-o",
              .value = "PATH",
              .commands = kDiagnose | kSensitivity | kPlan | kQuantize | kReport | kStudy | kExport,
              .help = "file (diagnose, sensitivity, plan, report) or folder (quantize, export) to "
                      "write",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.output = v; }},
    OptionRow{.names = "--force",
              .value = "",
              .commands = kQuantize | kExport,
              .help = "replace an output that is there, and start over",
              .set = [](Arguments& a, const std::string&) { a.force = true; }},
    OptionRow{.names = "--dry-run",
              .value = "",
              .commands = kQuantize,
              .help = "print what the run will take and the bytes it will write, and stop",
              .set = [](Arguments& a, const std::string&) { a.dry_run = true; }},
};

}  // namespace

std::span<const OptionRow> OutputOptions() noexcept {
  return kRows;
}

}  // namespace lieq
