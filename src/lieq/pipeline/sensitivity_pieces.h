// What `sensitivity` measures as pieces (base/work_pieces.h): layers, and candidates of the ends.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/plan/sensitivities.h"

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

}  // namespace lieq
