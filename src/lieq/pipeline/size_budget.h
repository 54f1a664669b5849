// What --size and --bpw leave room for: both mean the weight files, in the container of --for.
#pragma once

#include <cstdint>
#include <optional>

#include "lieq/container/container_sizes.h"
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
/// what share of them embedding and head are, and what narrower ones would come to. sizes: of the
/// container of --for.
void CheckSizeHolds(const QuantizeRequest& request, const ModelConfig& config,
                    const ContainerSizes& sizes, const ModelGrids& cheapest);

}  // namespace lieq
