#include "lieq/model/weights.h"

#include <variant>

namespace lieq {

void Weights::Release(const AnyMatrix& matrix) const noexcept {
  if (const auto* codes = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
    if (*codes) (*codes)->Release(0, (*codes)->rows());
    return;
  }
  const auto bytes = MappedBytes(matrix);
  if (bytes.empty()) return;
  for (const auto& map : maps) map->Drop(bytes);
}

void Weights::ReleaseLayer(Index layer) const noexcept {
  for (const Linear& linear : layers[Size(layer)].linears) Release(linear.weight);
}

}  // namespace lieq
