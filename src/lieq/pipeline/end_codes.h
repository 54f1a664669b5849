// The codes of embedding and head: in the working folder of a run, made before the layers, which
// are then quantized for what the rounded embedding gives them; and in a folder of candidates.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "lieq/container/model_folder.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/pipeline/session.h"
#include "lieq/quantize/ends.h"
#include "lieq/text/windows.h"

namespace lieq {

struct EndCodes {
  std::shared_ptr<const QMatrix> embedding, head;  // null where they stay floats
  EndReports reports;
};

/// What progress calls the making of them.
inline constexpr const char* kEndsStage = "rounding the ends";
/// Their file in the working folder of a run.
inline constexpr const char* kEndsFile = "edges.safetensors";

/// Whether an end on this grid is rounded by what calibration tells: a head, or an embedding that
/// is head too. What nearest rounding loses at 6 bits is too little to be worth a pass over
/// the model.
[[nodiscard]] bool IsCalibrated(End end, const Grid& grid, const ModelConfig& config,
                                const QuantOptions& options);
/// Whether any of them is.
[[nodiscard]] bool AnyCalibrated(const EndGrids& ends, const ModelConfig& config,
                                 const QuantOptions& options);

/// Rounds the ends that have grids, and writes `file`: packed tensors, and the reports in its
/// metadata. statistics: of MeasureEnds; null where none IsCalibrated.
EndCodes WriteEnds(const std::filesystem::path& file, const ModelFolder& model,
                   const EndGrids& ends, const QuantOptions& options,
                   const EndStatistics* statistics, Session& session);
/// Reads that file. Throws Error for one that was cut.
[[nodiscard]] EndCodes ReadEnds(const std::filesystem::path& file, const EndGrids& ends);

}  // namespace lieq
