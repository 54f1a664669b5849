#include "lieq/quantize/layer_quantizer.h"

#include <algorithm>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/quantize/layer_inputs.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {
LayerQuantizer::LayerQuantizer(const Weights& weights, Device& device, const QuantOptions& options,
                               View<const TokenId, 2> calibration, Context& context)
    : weights_(weights),
      device_(device),
      options_(WithDefaults(options)),
      quantizer_(FindQuantizer(options.method)),
      context_(context),
      forward_(weights, device, std::max<Index>(1, calibration.cols())) {
  if (!quantizer_.needs_calibration) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  const ModelConfig& config = weights.config;
  quantized_.emplace(config, device, forward_, forward_.Embed(calibration));
  const Index batch = std::min(quantized_->rows(),
                               forward_.BatchWindows(quantized_->length()) * quantized_->length());
  const Index widest = std::max({config.hidden, config.In(Site::kO), config.In(Site::kDown)});
  if (options_.corrects()) {
    reference_.emplace(config, device, forward_, forward_.Embed(calibration));
    difference_ = device.Alloc(batch, widest);
  }
  weights_.Release(weights_.embedding);
}

Index LayerQuantizer::HeldOutRows() const noexcept {
  if (!options_.judges()) return 0;
  return HeldOutWindows(quantized_->rows() / quantized_->length()) * quantized_->length();
}

/// batch(first row, rows): whole windows, none of them on both sides of the held-out ones' begin.
template <class Function>
void LayerQuantizer::ForBatches(const Function& batch) {
  const Index length = quantized_->length(), rows = quantized_->rows();
  const Index step = forward_.BatchWindows(length) * length, fitted = rows - HeldOutRows();
  for (Index first = 0; first < rows;) {
    context_.ThrowIfStopped();
    const Index count = std::min(step, (first < fitted ? fitted : rows) - first);
    batch(first, count);
    first += count;
  }
}

CalibrationStatistics LayerQuantizer::Measure(Unit unit) {
  const ModelConfig& config = weights_.config;
  const Index in = config.In(SitesOf(unit).front());
  const bool adds = unit == Unit::kO || unit == Unit::kDown;
  const Index fitted = quantized_->rows() - HeldOutRows();
  CalibrationStatistics measured;
  const auto allocate = [&](UnitStatistics& share) {
    share.gram = Matrix<double>(in, in);
    if (!reference_) return;
    share.drift = Matrix<double>(in, in);
    if (!adds) return;
    share.residual = Matrix<double>(config.hidden, in);
  };
  allocate(measured.fit);
  if (HeldOutRows() > 0) allocate(measured.held_out);
  ForBatches([&](Index first, Index rows) {
    UnitStatistics& share = first < fitted ? measured.fit : measured.held_out;
    share.tokens += rows;
    const DeviceView<const float> u = quantized_->Input(unit, first, rows);
    DeviceView<float> drift;
    if (reference_) {
      drift = difference_.Shaped(rows, in);
      device_.Subtract(reference_->Input(unit, first, rows), u, drift);
    }
    device_.GramUpdate(u, share.gram.view());
    if (!reference_) return;
    device_.CrossGramUpdate(drift, u, share.drift.view());
    if (!adds) return;
    const DeviceView<float> residual = difference_.Shaped(rows, config.hidden);
    device_.Subtract(reference_->residual(first, rows), quantized_->residual(first, rows),
                     residual);
    device_.CrossGramUpdate(residual, u, share.residual.view());
  });
  return measured;
}

QuantizedLayer LayerQuantizer::Quantize(std::span<const Grid, kSites> grids) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  QuantizedLayer result;
  layer() = weights_.layers[Size(next_)];
  if (reference_) reference_->layer = layer();
  for (const Unit unit : kAllUnits) {
    QuantizeUnit(unit, grids, quantized_ ? Measure(unit) : CalibrationStatistics{}, result);
  }
  if (quantized_) {
    ForBatches([&](Index first, Index rows) {
      quantized_->Finish(first, rows);
      if (reference_) reference_->Finish(first, rows);
    });
  }
  weights_.ReleaseLayer(next_++);
  return result;
}

void LayerQuantizer::Skip(const QuantizedLayer& done) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  const Index index = next_++;
  if (!quantized_) return;
  layer() = weights_.layers[Size(index)];
  if (reference_) reference_->layer = layer();
  for (const Site site : kAllSites) {
    layer().At(site).weight = done.matrices[static_cast<std::size_t>(site)];
  }
  ForBatches([&](Index first, Index rows) {
    for (const Unit unit : {Unit::kO, Unit::kGateUp, Unit::kDown}) {
      (void)quantized_->Input(unit, first, rows);
      if (reference_) (void)reference_->Input(unit, first, rows);
    }
    quantized_->Finish(first, rows);
    if (reference_) reference_->Finish(first, rows);
  });
}

void LayerQuantizer::QuantizeUnit(Unit unit, std::span<const Grid, kSites> grids,
                                  const CalibrationStatistics& measured, QuantizedLayer& result) {
  context_.ThrowIfStopped();
  const Grid& grid = grids[static_cast<std::size_t>(SitesOf(unit).front())];
  InputStatistics statistics;
  if (quantizer_.needs_calibration) {
    RequireFiniteGram(measured.fit.gram.view(), next_, unit);
    statistics = Prepare(measured.fit, measured.held_out.tokens > 0 ? &measured.held_out : nullptr,
                         grid, options_);
  }
  for (const Site site : SitesOf(unit)) {
    const auto index = static_cast<std::size_t>(site);
    LIEQ_ASSERT(grids[index] == grid);
    const Matrix<float> w = WidenedWeights(layer().At(site).weight, next_, site, context_);
    LinearReport& report = result.reports[index];
    result.matrices[index] = std::make_shared<const QMatrix>(QuantizeInRange(
        w.view(), grid, HasWideScales(weights_, options_), report,
        [&](View<const float, 2> multiple, double by) {
          statistics.residual_scale = by;
          return quantizer_.quantize(multiple, quantizer_.needs_calibration ? &statistics : nullptr,
                                     grid, options_, context_, report);
        }));
    layer().At(site).weight = result.matrices[index];
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
