#include "lieq/model/float_layer.h"

namespace lieq {
namespace {

Matrix<float> Widened(const AnyMatrix& matrix) {
  Matrix<float> wide(Rows(matrix), Cols(matrix));
  WidenRows(matrix, 0, wide.view());
  return wide;
}

}  // namespace

LayerWeights FloatLayer::Views() const {
  LayerWeights views;
  static_cast<LayerVectors&>(views) = *this;
  for (std::size_t site = 0; site < kSites; ++site) {
    views.linears[site] = {weights[site].view(), biases[site]};
  }
  return views;
}

FloatEnds WidenedEnds(const Weights& weights) {
  return {.embedding = Widened(weights.embedding),
          .head = Widened(weights.head),
          .final_norm = weights.final_norm};
}

}  // namespace lieq
