#include "lieq/quantize/layer_quantizer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/quantize/layer_inputs.h"

namespace lieq {
LayerQuantizer::LayerQuantizer(const Weights& weights, Device& device, const QuantOptions& options,
                               View<const TokenId, 2> calibration, Context& context)
    : weights_(weights),
      device_(device),
      options_(options),
      quantizer_(FindQuantizer(options.method)),
      context_(context),
      forward_(weights, device, std::max<Index>(1, calibration.cols())) {
  if (!quantizer_.needs_calibration) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  const ModelConfig& config = weights.config;
  hidden_ = forward_.Embed(calibration);
  weights_.Release(weights_.embedding);
  const Index rows = hidden_.x.rows();
  const Index batch = std::min(rows, forward_.BatchWindows(hidden_.length) * hidden_.length);
  keep_gated_ = rows * config.intermediate <= kMostKeptFloats;
  in_ = device.Alloc(batch, config.hidden);
  attention_ = device.Alloc(rows, config.In(Site::kO));
  gated_ = device.Alloc(keep_gated_ ? rows : batch, config.intermediate);
}

template <class Function>
void LayerQuantizer::ForBatches(const Function& batch) {
  const Index step = forward_.BatchWindows(hidden_.length) * hidden_.length;
  for (Index first = 0; first < hidden_.x.rows(); first += step) {
    context_.ThrowIfStopped();
    batch(first, std::min(step, hidden_.x.rows() - first));
  }
}

DeviceView<float> LayerQuantizer::Gated(Index first, Index rows) {
  return keep_gated_ ? gated_.view().Rows(first, rows) : gated_.view().Rows(0, rows);
}

QuantizedLayer LayerQuantizer::Quantize(std::span<const Grid, kSites> grids) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  layer_ = weights_.layers[Size(next_)];
  QuantizedLayer result;
  if (!quantizer_.needs_calibration) {
    for (const Unit unit : kAllUnits) QuantizeUnit(unit, grids, {}, result);
    weights_.ReleaseLayer(next_++);
    return result;
  }

  const ModelConfig& config = weights_.config;
  LayerSteps& steps = forward_.steps();
  const DeviceView<float> x = hidden_.x.view(), attention = attention_.view();
  const auto in = [&](Index rows) { return in_.view().Rows(0, rows); };
  {
    Matrix<double> gram(config.hidden, config.hidden);
    ForBatches([&](Index first, Index rows) {
      steps.QkvInput(layer_, x.Rows(first, rows), in(rows));
      device_.GramUpdate(in(rows), gram.view());
    });
    QuantizeUnit(Unit::kQkv, grids, gram.view(), result);
  }
  {
    Matrix<double> gram(config.In(Site::kO), config.In(Site::kO));
    ForBatches([&](Index first, Index rows) {
      steps.QkvInput(layer_, x.Rows(first, rows), in(rows));
      steps.AttentionOutput(layer_, in(rows), hidden_.length, attention.Rows(first, rows));
      device_.GramUpdate(attention.Rows(first, rows), gram.view());
    });
    QuantizeUnit(Unit::kO, grids, gram.view(), result);
  }
  {
    Matrix<double> gram(config.hidden, config.hidden);
    ForBatches([&](Index first, Index rows) {
      steps.AddO(layer_, attention.Rows(first, rows), x.Rows(first, rows));
      steps.MlpInput(layer_, x.Rows(first, rows), in(rows));
      device_.GramUpdate(in(rows), gram.view());
    });
    QuantizeUnit(Unit::kGateUp, grids, gram.view(), result);
  }
  {
    Matrix<double> gram(config.intermediate, config.intermediate);
    ForBatches([&](Index first, Index rows) {
      steps.MlpInput(layer_, x.Rows(first, rows), in(rows));
      steps.Gated(layer_, in(rows), Gated(first, rows));
      device_.GramUpdate(Gated(first, rows), gram.view());
    });
    QuantizeUnit(Unit::kDown, grids, gram.view(), result);
  }
  ForBatches([&](Index first, Index rows) {
    if (!keep_gated_) {
      steps.MlpInput(layer_, x.Rows(first, rows), in(rows));
      steps.Gated(layer_, in(rows), Gated(first, rows));
    }
    steps.AddDown(layer_, Gated(first, rows), x.Rows(first, rows));
  });
  weights_.ReleaseLayer(next_++);
  return result;
}

void LayerQuantizer::Skip(const LayerMatrices& matrices) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  const Index layer = next_++;
  if (!quantizer_.needs_calibration) return;
  layer_ = weights_.layers[Size(layer)];
  for (const Site site : kAllSites) {
    layer_.At(site).weight = matrices[static_cast<std::size_t>(site)];
  }
  LayerSteps& steps = forward_.steps();
  ForBatches([&](Index first, Index rows) {
    const DeviceView<float> x = hidden_.x.view().Rows(first, rows);
    const DeviceView<float> in = in_.view().Rows(0, rows);
    const DeviceView<float> attention = attention_.view().Rows(first, rows);
    steps.QkvInput(layer_, x, in);
    steps.AttentionOutput(layer_, in, hidden_.length, attention);
    steps.AddO(layer_, attention, x);
    steps.MlpInput(layer_, x, in);
    steps.Gated(layer_, in, Gated(first, rows));
    steps.AddDown(layer_, Gated(first, rows), x);
  });
}

void LayerQuantizer::QuantizeUnit(Unit unit, std::span<const Grid, kSites> grids,
                                  View<const double, 2> gram, QuantizedLayer& result) {
  context_.ThrowIfStopped();
  const Grid& grid = grids[static_cast<std::size_t>(SitesOf(unit).front())];
  InputStatistics statistics;
  if (quantizer_.needs_calibration) {
    RequireFiniteGram(gram, next_, unit);
    statistics = {.gram = gram, .factor = FactorGram(gram, grid, options_)};
  }
  for (const Site site : SitesOf(unit)) {
    const auto index = static_cast<std::size_t>(site);
    LIEQ_ASSERT(grids[index] == grid);
    const Matrix<float> w = WidenedWeights(layer_.At(site).weight, next_, site, context_);
    LinearReport& report = result.reports[index];
    result.matrices[index] = std::make_shared<const QMatrix>(
        quantizer_.quantize(w.view(), quantizer_.needs_calibration ? &statistics : nullptr, grid,
                            options_, context_, report));
    layer_.At(site).weight = result.matrices[index];
    if (report.fell_back) {
      context_.log.Warning(LinearPlace(next_, Name(site)) +
                           ": the Gram matrix could not be factorised with any damping up to 1; "
                           "rounded to nearest instead");
    } else if (report.retries > 0) {
      context_.log.Warning(LinearPlace(next_, Name(site)) + ": damping was raised to " +
                           std::to_string(report.damping) + " to factorise the Gram matrix");
    }
  }
}

}  // namespace lieq
