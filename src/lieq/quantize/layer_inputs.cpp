#include "lieq/quantize/layer_inputs.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <variant>
#include <vector>

#include "lieq/base/error.h"

namespace lieq {

std::string LinearPlace(Index layer, std::string_view linear) {
  return "layer " + std::to_string(layer) + ", " + std::string(linear);
}

Matrix<float> WidenedWeights(const AnyMatrix& weight, Index layer, Site site, Context& context) {
  Matrix<float> w(Rows(weight), Cols(weight));
  constexpr Index kRows = 64;
  context.pool.ParallelFor(CeilDiv(w.rows(), kRows), [&](Index task, int) {
    const Index begin = task * kRows, count = std::min(kRows, w.rows() - begin);
    const View<float, 2> part = w.view().Rows(begin, count);
    WidenRows(weight, begin, part);
    for (Index r = 0; r < count; ++r) {
      for (Index c = 0; c < part.cols(); ++c) {
        if (std::isfinite(part(r, c))) continue;
        throw Error({.what = "weight is not finite",
                     .where = LinearPlace(layer, Name(site)) + ", row " +
                              std::to_string(begin + r) + ", column " + std::to_string(c),
                     .found = std::to_string(part(r, c))});
      }
    }
  });
  return w;
}

LinearFloats FloatsOf(const AnyMatrix& weight, const PreparedMatrix* placed, Device& device,
                      Index layer, Site site, Matrix<float>& host, Context& context) {
  const auto widen = [&context, weight, layer, site] {
    return WidenedWeights(weight, layer, site, context);
  };
  const bool codes = std::holds_alternative<std::shared_ptr<const QMatrix>>(weight);
  if (placed != nullptr && device.rounding() != nullptr && !codes) {
    const float largest = device.rounding()->LargestSize(*placed);
    if (std::isfinite(largest)) return {*placed, largest, widen};
  }
  host = widen();  // which names a weight that is not finite
  return host.view();
}

void RequireFiniteGram(const Sums<double>& gram, Index layer, Unit unit) {
  const std::vector<double> diagonal = gram.Diagonal();
  for (std::size_t j = 0; j < diagonal.size(); ++j) {
    if (std::isfinite(diagonal[j])) continue;
    throw Error({.what = "activations are not finite on the calibration text",
                 .where = LinearPlace(layer, Name(unit)) + " input, channel " + std::to_string(j),
                 .hint = "check the checkpoint with `lieq evaluate` before quantizing it"});
  }
}

}  // namespace lieq
