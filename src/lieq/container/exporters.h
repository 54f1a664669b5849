// Containers that a model can be written to. To add one: a function in export_rows.h and a row in
// exporters.cpp; the tests of every row run on it unasked.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/container_sizes.h"
#include "lieq/container/model_folder.h"

namespace lieq {

/// What the command line says about an export.
struct ExportSettings {
  std::string writer = "lieq";  // "lieq:0.1.0": who wrote the file, where a container has a place
  int gptq_version = 0;         // 1 or 2; 0: 1 where everything is symmetric, else 2
  /// GGUF: where the model comes from, a hub name and the Hub's id of a licence, and the text of
  /// its lieq.json; empty: not said. Folders have files for that.
  std::string base_model, license, record;
  /// GGUF: names of types that packed matrices may take; none: those that store codes at their own
  /// width.
  std::vector<std::string> types;
  /// GGUF: types that embedding and head are rounded to; empty: as they are. The embedding's is
  /// that of a tied head.
  std::string embedding_type, head_type;
  /// GGUF: round matrices that no type holds exactly to the first of `types` that floats are
  /// rounded to, or Q8_0.
  bool approximate = false;
  /// GGUF: the model was quantized with --for gguf, and its bytes counted: what the file says of
  /// its origin takes the room that was counted for it.
  bool counted = false;
  /// Told what the export leaves out, a sentence each; may be empty.
  std::function<void(const std::string&)> note{};
};

struct Exporter {
  std::string_view name;         // "gptq"; that of the row of Targets() too
  std::string_view description;  // one line
  bool one_file = false;         // the output is a file, else a folder
  bool takes_float = false;      // models whose linears are not quantized go in as they are
  /// Writes the model, whose values are then read again bit for bit. `out`: a new name for the file
  /// in a folder that is there, or an empty folder. Throws Error naming the first linear that the
  /// container does not hold exactly, and the containers that would, before anything is written.
  void (*write)(const ModelFolder& source, const std::filesystem::path& out,
                const ExportSettings& settings) = nullptr;
  /// What else is worth knowing of the result, a line each; null: nothing.
  std::vector<std::string> (*notes)(const ModelFolder& source,
                                    const ExportSettings& settings) = nullptr;
  /// The command that serves what was written to `out`, and what it needs.
  std::string (*serve)(const ModelFolder& source, const std::filesystem::path& out) = nullptr;
  /// Bytes of what `write` will write of a model, which outlives the answer, once it is quantized.
  /// Null where that is the folder that `quantize` writes. Throws Error for a model that the
  /// container has no place for, as `write` does.
  std::unique_ptr<ContainerSizes> (*sizes)(const ModelFolder& source) = nullptr;
};

[[nodiscard]] std::span<const Exporter> Exporters() noexcept;
/// What is worth knowing of a model that was written, a line each: engines that do not run it, or
/// run it slowly, and the way out.
[[nodiscard]] std::vector<std::string> NotesOn(const Exporter& exporter, const ModelFolder& source,
                                               const ExportSettings& settings);

/// Throws Error naming the rows there are.
[[nodiscard]] const Exporter& FindExporter(std::string_view name);

}  // namespace lieq
