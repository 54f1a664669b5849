// Channels between two linears of a layer: where one writes them and another reads them.
#pragma once

#include <vector>

#include "lieq/transform/transforms.h"

namespace lieq {

/// Channels that the input of a unit consists of. Several columns may read one: value channels are
/// read by every query head of their group.
struct InputChannels {
  std::vector<Index> channel;  // [in]: of each column
  Index count = 0;
};
[[nodiscard]] InputChannels ChannelsOf(Unit unit, const ModelConfig& config);

/// Sum over the unit's linears of the output error on `input` of rounding w to nearest.
/// w: in the order of SitesOf(unit). weighted: groups are fitted by the sizes of their inputs.
[[nodiscard]] double RoundingError(std::span<const View<const float, 2>> w, const Grid& grid,
                                   const UnitStatistics& input, bool weighted,
                                   const LayerTask& task);

}  // namespace lieq
