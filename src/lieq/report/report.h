// The report: one HTML page made from the JSON records of one or more runs.
//
// It opens from a file without a network and without scripts, in a light and a dark theme. The same
// records give the same bytes.
#pragma once

#include <span>
#include <string>

#include "lieq/report/records.h"

namespace lieq {

/// Throws what ReadRecords throws. Shows the sections for which records are there.
[[nodiscard]] std::string RenderReport(std::span<const ReportInput> inputs);

/// The page's figure of file size against perplexity and divergence as an SVG of its own. Throws
/// also where no two models were evaluated on the same windows.
[[nodiscard]] std::string RenderLossPicture(std::span<const ReportInput> inputs);

}  // namespace lieq
