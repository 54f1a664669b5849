#include "lieq/diagnose/activations.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {
namespace {

constexpr Index kBlockRows = 64;

struct Block {
  double cosines = 0;
  float largest = 0;
  bool finite = true;
};

double Cosine(std::span<const float> x, std::span<const float> y) {
  double xx = 0, yy = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double a = x[i], b = y[i];
    xx += a * a;
    yy += b * b;
    xy += a * b;
  }
  if (xx == 0 || yy == 0) return xx == yy ? 1 : 0;
  return xy / (std::sqrt(xx) * std::sqrt(yy));
}

/// Median of base/statistics.h on floats, in place: half the memory, and there are millions.
double MedianOf(std::vector<float>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return static_cast<double>(*middle);
  const float below = *std::max_element(values.begin(), middle);
  return (static_cast<double>(below) + static_cast<double>(*middle)) / 2;
}

}  // namespace

ActivationMeasures MeasureActivations(View<const float, 2> before, View<const float, 2> after,
                                      Index layer, Context& context) {
  LIEQ_ASSERT(before.rows() == after.rows() && before.cols() == after.cols());
  LIEQ_ASSERT(after.rows() >= 1 && after.cols() >= 1);
  std::vector<Block> blocks(Size(CeilDiv(after.rows(), kBlockRows)));
  std::vector<float> sizes(Size(after.size()));
  context.pool.ParallelFor(static_cast<Index>(blocks.size()), [&](Index task, int) {
    Block& block = blocks[Size(task)];
    const Index end = std::min(after.rows(), (task + 1) * kBlockRows);
    for (Index row = task * kBlockRows; row < end; ++row) {
      block.cosines += Cosine(before.Row(row), after.Row(row));
      for (Index col = 0; col < after.cols(); ++col) {
        const float size = std::fabs(after(row, col));
        block.finite = block.finite && std::isfinite(size);
        block.largest = std::max(block.largest, size);
        sizes[Size(row * after.cols() + col)] = size;
      }
    }
  });

  ActivationMeasures measures;
  double cosines = 0;
  for (const Block& block : blocks) {
    if (!block.finite) {
      throw Error({.what = "the residual stream is not finite",
                   .where = "layer " + std::to_string(layer) + ", output",
                   .hint = "the weights hold or produce NaN or infinity"});
    }
    cosines += block.cosines;
    measures.largest = std::max(measures.largest, static_cast<double>(block.largest));
  }
  measures.block_influence = 1 - cosines / static_cast<double>(after.rows());
  const double median = MedianOf(sizes);
  if (median > 0 && std::isfinite(measures.largest / median)) {
    measures.ratio = measures.largest / median;
  }
  return measures;
}

}  // namespace lieq
