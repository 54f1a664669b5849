// What a model will take in a container, known before anything is quantized.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "lieq/model/grids.h"

namespace lieq {

/// Bytes of a model in one container, by the grids that its matrices will be on.
class ContainerSizes {
 public:
  ContainerSizes() = default;
  ContainerSizes(const ContainerSizes&) = delete;
  ContainerSizes& operator=(const ContainerSizes&) = delete;
  virtual ~ContainerSizes() = default;

  /// Of the finished weight files, or of the one file, with headers and all else that they hold.
  /// grids.layer_count() is the model's. Throws Error for a grid that the container does not hold.
  [[nodiscard]] virtual std::uint64_t Whole(const ModelGrids& grids) const = 0;
  /// Whether Whole says the very bytes of these grids; else it says the most that they may be.
  [[nodiscard]] virtual bool IsExact(const ModelGrids&) const { return true; }

  /// Of the tensors of one linear, whose rows the grid's groups divide and which the container
  /// holds. What Whole has besides does not depend on grids, but for some digits in headers.
  [[nodiscard]] virtual std::int64_t OfLinear(Index layer, Site site, const Grid& grid) const = 0;
  /// Of the tensors of an end; none: as floats. A tied embedding's are those of the head too.
  [[nodiscard]] virtual std::int64_t OfEnd(End end, const std::optional<Grid>& grid) const = 0;
};

}  // namespace lieq
