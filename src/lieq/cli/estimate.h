// What a quantization run will take, before it starts.
#pragma once

#include <cstdint>
#include <filesystem>

#include "lieq/cli/arguments.h"
#include "lieq/container/model_folder.h"

namespace lieq {

struct Estimate {
  std::int64_t memory_bytes = 0;  // peak resident memory
  std::int64_t disk_bytes = 0;    // at most, beside the source: finished layers and the output
  double seconds = 0;
};

/// windows [count of length] of calibration, 0 for none; spectra: whether compactness is measured.
/// Time is from the arithmetic to do and the speed of a short matrix product measured here.
[[nodiscard]] Estimate EstimateRun(const ModelFolder& model, Index windows, Index length,
                                   bool spectra, std::uint64_t output_bytes, int threads);

/// Throws Error where memory or disk will not do, naming both figures.
void CheckEstimate(const Estimate& estimate, const std::filesystem::path& output);

}  // namespace lieq
