// Models of which only one layer is held at a time.
#pragma once

#include <filesystem>
#include <functional>

#include "lieq/container/model_folder.h"

namespace lieq {

/// Sees the layers of a model in order.
using SeeLayer = std::function<void(Index layer, const LayerWeights& weights)>;

/// OpenModel of a folder, whose layers are shown to `see` as they are read and not kept: the model
/// that is returned has none.
[[nodiscard]] ModelFolder OpenModelByLayers(const std::filesystem::path& folder,
                                            const SeeLayer& see);

}  // namespace lieq
