// Exporting: the same model in another container; and comparing two models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/container/exporters.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// A model to be written in another container.
struct ExportRequest {
  std::filesystem::path model, output;
  const Exporter* exporter = nullptr;     // a row of Exporters(): FindExporter
  int gptq_version = 0;                   // 1 or 2; 0: by the grids
  std::vector<std::string> types;         // of packed matrices in GGUF files; none: by their codes
  std::string embedding_type, head_type;  // of GGUF files; empty: as they are
  bool approximate = false;               // GGUF: rounds matrices that no type holds exactly
  bool verify = true;                     // opens and compares what was written
  bool force = false;                     // replaces what this program wrote at `output`

  /// What of the output may be rounded.
  [[nodiscard]] RoundedMatrices rounded() const noexcept;
};

struct ExportOutcome {
  std::optional<Comparison> comparison;  // with the source; none: not asked for
  Record record;                         // lieq.json, or what the file holds of it
  std::uint64_t bytes = 0;               // of the output
  std::string serve;                     // the command that serves it
  std::string verify;                    // the command that repeats the comparison
  std::vector<std::string> notes;        // what else is worth knowing, a line each
  double seconds = 0;

  /// False: it differed from its source, and nothing was left at the output.
  [[nodiscard]] bool good() const noexcept { return !comparison || comparison->equal(); }
};

/// Writes request.model to request.output, a folder with lieq.json and a model card or one file
/// with its card beside it. The output appears by one rename once it was opened and found the same.
///
/// Throws UsageError for a request that contradicts itself, Error for inputs that are wrong, grids
/// that the container does not hold, or an output that is there and is not this program's to
/// replace, and Stopped.
ExportOutcome Export(const ExportRequest& request, Session& session);

/// Two models to be compared, tensor by tensor.
struct VerifyRequest {
  std::filesystem::path model, against;
  bool approximate = false;  // matrices that were rounded to types of GGUF may pass
};

/// CompareModels of what `against` holds with what `model` does. Throws Error.
[[nodiscard]] Comparison Verify(const VerifyRequest& request, Session& session);

}  // namespace lieq
