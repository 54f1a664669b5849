// lieq.json and the model card of an export: those of its source, true of the new container.
#pragma once

#include <filesystem>
#include <string>

#include "lieq/cli/arguments.h"
#include "lieq/container/exporters.h"
#include "lieq/io/json.h"

namespace lieq {

/// The record of the source, which is what a GGUF file keeps in itself; where there is none, what
/// the weights say of themselves. Without what only the finished file tells.
[[nodiscard]] Record BeforeExport(const Arguments& arguments, const ModelFolder& source);

/// The same as text for a file that keeps it in itself: without the errors of each linear.
[[nodiscard]] std::string CompactText(Record record);

/// The same with the bits and bytes of the result.
[[nodiscard]] Record AfterExport(Record record, const ModelFolder& written);

/// The card of the result.
[[nodiscard]] std::string CardOfExport(const Record& record, const Exporter& exporter,
                                       const ModelFolder& written);

/// Where the card of a one-file export lies: FILE.md. Empty where something else lies there.
[[nodiscard]] std::filesystem::path CardBeside(const std::filesystem::path& file);

}  // namespace lieq
