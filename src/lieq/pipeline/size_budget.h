// What --size must leave room for.
#pragma once

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/pipeline/requests.h"

namespace lieq {

/// Throws Error where the weight files exceed --size even with these grids, the cheapest ones:
/// what share of them embedding and head are, and what narrower ones would come to.
void CheckSizeHolds(const QuantizeRequest& request, const ModelFolder& model,
                    const LayerGrids& cheapest);

}  // namespace lieq
