// Codes of embedding and head, and their file.
#pragma once

#include <filesystem>

#include "lieq/container/model_folder.h"
#include "lieq/pipeline/quality_warnings.h"
#include "lieq/pipeline/session.h"
#include "lieq/quantize/options.h"

namespace lieq {

/// Rounds the ends that have grids, and writes their packed tensors to one file.
EndReports WriteEnds(const std::filesystem::path& file, const ModelFolder& model,
                     const EndGrids& ends, const QuantOptions& options, Session& session);

}  // namespace lieq
