#include "lieq/model/weights.h"

#include <variant>

namespace lieq {

Index ExpertsOf(const LayerWeights& layer) noexcept {
  const Index cols = Cols(layer.At(Site::kGate).weight);
  return cols == 0 ? 0 : std::ssize(layer.router) / cols;
}

void Weights::Release(const AnyMatrix& matrix) const noexcept {
  if (const auto* codes = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
    if (*codes) (*codes)->Release(0, (*codes)->rows());
    return;
  }
  if (const auto* stacked = std::get_if<std::shared_ptr<const StackedRows>>(&matrix)) {
    for (const StackedRows::Part& part : (*stacked)->parts()) {
      std::visit([&](const auto& view) { Release(AnyMatrix(view)); }, part);
    }
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
