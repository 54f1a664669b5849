// What a command will take, before it starts: seconds by stage, memory, and disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/pipeline/stage_clock.h"
#include "lieq/transform/transforms.h"

namespace lieq {

/// What there is to do. What is empty is not done.
struct Work {
  const QuantizeRequest& request;
  const ModelFolder& model;
  Index windows = 0, length = 0;  // of calibration
  bool draws = false;             // the model writes them itself first
  Index spectrum_tokens = 0;      // that layers are measured on, for a ranking
  bool spectra = false;           // their compactness too
  // Of a plan by measured damage:
  std::vector<Grid> candidates;
  std::vector<EndCandidates> ends;
  std::filesystem::path codes;   // where their codes lie
  bool measures_damage = false;  // false: it is read
  bool in_context = false;       // each unit inside a mix
  Index damage_windows = 0, damage_length = 0;
  Index mixes = 0;  // that are run after the plan, or to refine it
  // Of quantizing:
  ModelGrids grids;
  Index finished = 0;          // layers that an earlier start of the run left
  bool ends_finished = false;  // likewise
  TransformList transforms;
  std::uint64_t output_bytes = 0;
};

struct Estimate {
  std::int64_t memory_bytes = 0;  // peak resident memory
  std::int64_t disk_bytes = 0;    // at most, beside the source and what is there already
  std::vector<PlannedStage> stages;
  double spent = 0;  // seconds that went by before

  [[nodiscard]] double seconds() const;  // of all stages, and what was spent
};

/// Pieces of the work are timed in the shapes of the model (Pieces), and counted. spent: seconds
/// since the command began.
[[nodiscard]] Estimate EstimateWork(const Work& work, double spent, Session& session);

/// Memory and disk alone: nothing is timed, and no stages are named.
[[nodiscard]] Estimate EstimateSpace(const Work& work, Session& session);

/// Free bytes where `output` will be.
[[nodiscard]] std::uint64_t FreeBytes(const std::filesystem::path& output);

/// Throws Error where memory or disk will not do, naming both figures.
void CheckEstimate(const Estimate& estimate, const std::filesystem::path& output);

}  // namespace lieq
