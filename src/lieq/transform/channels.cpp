#include "lieq/transform/channels.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "lieq/linalg/linalg.h"
#include "lieq/quantize/gptq.h"

namespace lieq {
namespace {

/// Sum over rows of e H eᵀ, e = W - Q, in double: choices are told apart by little.
double OutputError(View<const float, 2> w, const QMatrix& q, const UnitStatistics& input,
                   Context& context) {
  constexpr Index kRows = 64;
  const Index n = w.cols();
  std::vector<double> sums(Size(CeilDiv(w.rows(), kRows)));
  context.pool.ParallelFor(static_cast<Index>(sums.size()), [&](Index task, int) {
    const Index first = task * kRows, rows = std::min(kRows, w.rows() - first);
    Matrix<float> levels(rows, n);
    q.Dequantize(first, levels.view());
    Matrix<double> error(rows, n), product(rows, n);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < n; ++c) {
        error(r, c) = static_cast<double>(w(first + r, c)) - static_cast<double>(levels(r, c));
      }
    }
    Gemm(1.0, error.view(), Transpose::kNo, input.gram.view(), Transpose::kNo, 0.0, product.view());
    sums[Size(task)] =
        std::inner_product(error.data(), error.data() + error.size(), product.data(), 0.0);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

InputChannels ChannelsOf(Unit unit, const ModelConfig& config) {
  const Index in = config.In(SitesOf(unit).front());
  InputChannels channels{.channel = std::vector<Index>(Size(in)), .count = in};
  for (Index j = 0; j < in; ++j) channels.channel[Size(j)] = j;
  if (unit != Unit::kO) return channels;
  channels.count = config.Out(Site::kV);
  const Index group = config.heads / config.kv_heads;
  for (Index j = 0; j < in; ++j) {
    channels.channel[Size(j)] = j / config.head_dim / group * config.head_dim + j % config.head_dim;
  }
  return channels;
}

double RoundingError(std::span<const View<const float, 2>> w, const Grid& grid,
                     const UnitStatistics& input, bool weighted, const LayerTask& task) {
  std::vector<float> importance;
  if (weighted) {
    for (Index j = 0; j < input.gram.rows(); ++j) {
      importance.push_back(static_cast<float>(input.gram(j, j)));
    }
  }
  double sum = 0;
  for (const View<const float, 2> linear : w) {
    LinearReport unused;
    const QMatrix q =
        QuantizeRtn(linear, importance, grid, task.options.clip, task.context, unused);
    sum += OutputError(linear, q, input, task.context);
  }
  return sum;
}

}  // namespace lieq
