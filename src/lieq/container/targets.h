// Which grids each container holds exactly. To add one: a function and a row in targets.cpp; the
// tests of every row run on it unasked.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/compressed_tensors.h"
#include "lieq/model/config.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// A container that a quantized model may be meant for, though it is written to another first.
struct ContainerTarget {
  std::string_view name;         // "gguf"
  std::string_view description;  // of what it holds, one line
  /// Whether a matrix with rows of `cols` weights on the grid has a form in the container that
  /// gives back the very same values and stores the codes at their own width.
  bool (*holds)(const Grid& grid, Index cols) noexcept;
  bool offers_k_quants = false;  // they are among what is chosen from unasked
  bool offers_six_bits = false;  // to embedding and head, likewise
  bool half_scales = false;      // scales are stored as f16, whatever the model's own type is
  bool packs_ends = true;        // embedding and head may be quantized too
};

[[nodiscard]] std::span<const ContainerTarget> Targets() noexcept;
/// Throws Error naming the rows there are.
[[nodiscard]] const ContainerTarget& FindTarget(std::string_view name);

/// The containers that hold every grid of a model, without the one that holds anything.
[[nodiscard]] std::vector<const ContainerTarget*> HoldersOf(const LayerGrids& grids,
                                                            const ModelConfig& config);

/// Whether a container holds the embedding or the head on this grid.
[[nodiscard]] bool HoldsEnds(const ContainerTarget& target, const Grid& grid,
                             const ModelConfig& config);

/// What to do about a grid that the container does not hold, one line.
[[nodiscard]] std::string WayOut(const ContainerTarget& target);

/// Throws Error naming the first linear whose grid the container does not hold, and the containers
/// that hold all of them. option: "--for", that named the container. grids.size() == config.layers.
void CheckTarget(const ContainerTarget& target, const LayerGrids& grids, const ModelConfig& config,
                 std::string_view option);
/// The same of the ends too.
void CheckTarget(const ContainerTarget& target, const ModelGrids& grids, const ModelConfig& config,
                 std::string_view option);

}  // namespace lieq
