// Packed files: what packed kernels read of a model, written once, so that it starts at once
// (docs/kernels.md).
#pragma once

#include <cstdint>
#include <filesystem>

#include "lieq/container/compare.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// A model whose matrices are to be laid out in a file.
struct PackRequest {
  std::filesystem::path model, output;
  bool force = false;  // replaces a packed file at `output`
};

struct PackOutcome {
  std::uint64_t bytes = 0;        // of the file
  Index matrices = 0;             // that were laid out
  std::int64_t packed_bytes = 0;  // of them
  Index float_matrices = 0;       // that stay as they are
  double seconds = 0;
};

/// Writes a model in one file (container/packed_file.h), with its tokenizer and chat template. A
/// matrix at a time is held; the file appears by one rename, once it was read again and found what
/// was written. Throws Error: a model without quantized matrices, a grid that no packed matrix has,
/// an output that is no packed file or may not be replaced; Stopped.
PackOutcome Pack(const PackRequest& request, Session& session);

[[nodiscard]] Record PackRecord(const PackRequest& request, const PackOutcome& outcome);

/// The model to run: a packed file, or as OpenInput. Throws Error for a packed file where the
/// session's device is another than the processor by packed kernels.
[[nodiscard]] ModelFolder OpenRunnable(const std::filesystem::path& path, Session& session);

/// Whether a packed file is what `lieq pack` makes of the model: every matrix is laid out again and
/// compared, byte for byte, as tensors of floats and the configuration are. Throws Error, also for
/// bytes that are not those which were written to the file.
[[nodiscard]] Comparison VerifyPacked(const std::filesystem::path& file,
                                      const std::filesystem::path& model, Session& session);

}  // namespace lieq
