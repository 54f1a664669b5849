#include "lieq/model/weights.h"

namespace lieq {

void Weights::Release(const AnyMatrix& matrix) const noexcept {
  const auto bytes = MappedBytes(matrix);
  if (bytes.empty()) return;
  for (const auto& map : maps) map->Drop(bytes);
}

void Weights::ReleaseLayer(Index layer) const noexcept {
  for (const Linear& linear : layers[Size(layer)].linears) Release(linear.weight);
}

}  // namespace lieq
