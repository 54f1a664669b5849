// What --size and --bpw leave room for: both mean the weight files.
#pragma once

#include <cstdint>
#include <optional>

#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/pipeline/requests.h"

namespace lieq {

/// The weights that --bpw divides the files' bits by: of all linears, the embedding, and a head of
/// its own.
[[nodiscard]] double FileWeights(const ModelConfig& config) noexcept;

[[nodiscard]] double FileBits(std::uint64_t bytes, const ModelConfig& config) noexcept;

/// The ceiling on the bytes of the weight files, where there is one.
[[nodiscard]] std::optional<std::int64_t> ByteBudget(const BudgetRequest& budget,
                                                     const ModelConfig& config) noexcept;

/// Throws Error where the weight files exceed the budget even with these grids, the cheapest ones:
/// what share of them embedding and head are, and what narrower ones would come to.
void CheckSizeHolds(const QuantizeRequest& request, const ModelFolder& model,
                    const ModelGrids& cheapest);

}  // namespace lieq
