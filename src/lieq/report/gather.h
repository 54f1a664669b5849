// Finds the records in the folders and files that a command line names.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lieq/report/records.h"

namespace lieq {

/// The hash of the weights in a folder; empty where it has none that open.
using HashFolder = std::function<std::string(const std::filesystem::path& folder)>;

/// What the named folders and files hold, in a fixed order. A folder gives those of lieq.json,
/// run.json, diagnostics.json, sensitivities.json, plan.json, study.json and eval*.json that have a
/// known `kind`; what has another goes to `skipped`. Throws Error for a folder without any, and for
/// a file that is none. hash: asked for the folders of quantized models where an evaluation says
/// the hash of what it measured; may be empty.
[[nodiscard]] std::vector<ReportInput> GatherRecords(std::span<const std::filesystem::path> runs,
                                                     std::vector<std::string>& skipped,
                                                     const HashFolder& hash = {});

}  // namespace lieq
