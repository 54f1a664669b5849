// Finds the records in the folders and files that a command line names.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "lieq/report/records.h"

namespace lieq {

/// What the named folders and files hold, in a fixed order. A folder gives those of lieq.json,
/// run.json, diagnostics.json, sensitivities.json, plan.json, study.json and eval*.json that have a
/// known `kind`; what has another goes to `skipped`. Throws Error for a folder without any, and for
/// a file that is none.
[[nodiscard]] std::vector<ReportInput> GatherRecords(std::span<const std::filesystem::path> runs,
                                                     std::vector<std::string>& skipped);

}  // namespace lieq
