// lieq.json and the model card of an export: those of its source, true of the new container; and
// what exports and comparisons print under --json.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lieq/base/log.h"
#include "lieq/container/exporters.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/comparison.h"
#include "lieq/pipeline/export.h"

namespace lieq {

/// The record of the source, which is what a GGUF file keeps in itself; where there is none, what
/// the weights say of themselves. Without what only the finished file tells.
[[nodiscard]] Record BeforeExport(const ExportRequest& request, const ModelFolder& source);

/// The same as text for a file that keeps it in itself: without the errors of each linear.
[[nodiscard]] std::string CompactText(Record record);

/// The same with the bits and bytes of the result.
[[nodiscard]] Record AfterExport(Record record, const ModelFolder& written);

/// What the eval*.json beside a quantized model say of these very weights (by their hash), for the
/// card of what holds the same numbers. Nothing where they cannot be read.
[[nodiscard]] std::vector<ComparedText> EvaluationsOf(const ModelFolder& source, const Log& log);
/// The card of the result.
[[nodiscard]] std::string CardOfExport(const Record& record, const Exporter& exporter,
                                       const ModelFolder& written,
                                       std::vector<ComparedText> evaluations);

/// Where the card of a one-file export lies: FILE.md. Empty where something else lies there.
[[nodiscard]] std::filesystem::path CardBeside(const std::filesystem::path& file);

/// Keys "equal", "differences", "linears", "same_grids", "values", "rounded" and "first".
[[nodiscard]] Record ComparisonRecord(const Comparison& comparison);
[[nodiscard]] Record ExportRecord(const ExportRequest& request, const ExportOutcome& outcome);
[[nodiscard]] Record VerificationRecord(const VerifyRequest& request, const Comparison& comparison);

}  // namespace lieq
