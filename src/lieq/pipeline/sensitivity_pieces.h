// What `sensitivity` measures as pieces (base/work_pieces.h): layers, and candidates of the ends.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/plan/sensitivities.h"
#include "lieq/quantize/options.h"
#include "lieq/text/windows.h"

namespace lieq {

/// The units of a layer, and what is of the run as a whole, which every layer repeats.
struct LayerSensitivity {
  std::vector<UnitSensitivity> units;  // [kUnits]
  Index stride = 1;                    // as of Sensitivities
  double base_kl = 0, base_nll_rise = 0;
};

[[nodiscard]] std::string PieceOf(const LayerSensitivity& layer);
/// Of `candidates` candidates and `windows` windows. Throws Error naming the piece.
[[nodiscard]] LayerSensitivity LayerOfPiece(std::string_view piece, const std::string& key,
                                            Index layer, std::size_t candidates, Index windows);

/// What is measured, as far as it says how long that takes.
struct SensitivityWork {
  const ModelConfig& config;
  const QuantOptions& options;  // that candidates are rounded by
  std::span<const Grid> candidates;
  std::span<const EndCandidates> ends;
  const Windows& calibration;
  const Windows& damage;
  bool every = false;  // all candidates are run, not one of each unit
};

/// Which of `parts` parts measures what: the layers, then the candidates of ends that are no
/// floats, 0 .. parts - 1. What calibration tells about the ends takes two passes over the text in
/// each part that rounds some, so that few parts do where that makes the longest one shorter.
/// Depends on shapes and options alone, so that all parts say the same.
[[nodiscard]] std::vector<Index> DealSensitivities(const SensitivityWork& work, Index parts);

}  // namespace lieq
