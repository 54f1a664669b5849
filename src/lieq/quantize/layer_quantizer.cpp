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
  sums_ = &RequireCalibration(device);
  const ModelConfig& config = weights.config;
  quantized_.emplace(config, device, forward_, forward_.Embed(calibration), /*at_once=*/false);
  const Index batch = std::min(quantized_->rows(),
                               forward_.BatchWindows(quantized_->length()) * quantized_->length());
  const Index widest = std::max({config.hidden, config.In(Site::kO), config.In(Site::kDown)});
  if (options_.corrects()) {
    reference_.emplace(config, device, forward_, forward_.Embed(calibration), /*at_once=*/true);
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

CalibrationStatistics LayerQuantizer::Measure(const LayerStep& unit) {
  const ModelConfig& config = weights_.config;
  const Index in = Width(config, unit.from);
  const bool adds = AddsToStream(unit), last = unit.unit == units_.back().unit;
  const Index fitted = quantized_->rows() - HeldOutRows();
  CalibrationStatistics measured;
  measured.fit.gram = Matrix<double>(in, in);
  if (HeldOutRows() > 0) measured.held_out.emplace().gram = Matrix<float>(in, in);
  const auto follow = [&](auto& share) {
    share.drift = Matrix<float>(in, in);
    if (adds) share.residual = Matrix<float>(config.hidden, in);
  };
  if (reference_) follow(measured.fit);
  if (reference_ && measured.held_out) follow(*measured.held_out);
  ForBatches([&](Index first, Index rows) {
    const bool fits = first < fitted;
    const DeviceView<const float> u = quantized_->Input(unit.unit, first, rows);
    if (fits) {
      sums_->GramUpdate(u, measured.fit.gram.view());
    } else {
      sums_->CrossGramUpdate(u, u, measured.held_out->gram.view());
    }
    if (!reference_) return;
    const DeviceView<float> drift = difference_.Shaped(rows, in);
    sums_->Subtract(reference_->Input(unit.unit, first, rows), u, drift);
    sums_->CrossGramUpdate(drift, u, (fits ? measured.fit.drift : measured.held_out->drift).view());
    if (!adds) return;
    const DeviceView<float> residual = difference_.Shaped(rows, config.hidden);
    sums_->Subtract(reference_->residual(first, rows), quantized_->residual(first, rows), residual);
    sums_->CrossGramUpdate(residual, u,
                           (fits ? measured.fit.residual : measured.held_out->residual).view());
    if (last) reference_->Finish(first, rows);
  });
  device_.Sync();
  return measured;
}

void LayerQuantizer::BeginLayer() {
  layer_ = weights_.layers[Size(next_)];
  units_ = UnitsOf(weights_.config, next_);
  if (!quantized_) return;
  const PlacedLayer placed = Place(layer_, device_);
  quantized_->SetLayer(next_, placed);
  if (reference_) reference_->SetLayer(next_, placed);
}

void LayerQuantizer::Replace(Site site, Linear linear) {
  layer_.At(site) = std::move(linear);
  if (quantized_) quantized_->Replace(site, layer_.At(site));
}

QuantizedLayer LayerQuantizer::Quantize(std::span<const Grid, kSites> grids) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  QuantizedLayer result;
  BeginLayer();
  for (const LayerStep& unit : units_) {
    QuantizeUnit(unit, grids, quantized_ ? Measure(unit) : CalibrationStatistics{}, result);
  }
  if (quantized_) {
    ForBatches([&](Index first, Index rows) { quantized_->Finish(first, rows); });
  }
  weights_.ReleaseLayer(next_++);
  return result;
}

void LayerQuantizer::Skip(const QuantizedLayer& done) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  if (!quantized_) {
    ++next_;
    return;
  }
  BeginLayer();
  ++next_;
  for (const LayerStep& unit : units_) {
    for (const auto& [site, to] : unit.linears) {
      Replace(site, {done.matrices[static_cast<std::size_t>(site)], layer_.At(site).bias});
    }
  }
  ForBatches([&](Index first, Index rows) {
    quantized_->Pass(first, rows);
    if (reference_) reference_->Pass(first, rows);
  });
}

void LayerQuantizer::QuantizeUnit(const LayerStep& unit, std::span<const Grid, kSites> grids,
                                  CalibrationStatistics measured, QuantizedLayer& result) {
  context_.ThrowIfStopped();
  const Grid& grid = grids[static_cast<std::size_t>(unit.linears.front().site)];
  if (quantizer_.needs_calibration) RequireFiniteGram(measured.fit.gram.view(), next_, unit.unit);
  const std::unique_ptr<UnitSolver> solver =
      quantizer_.begin(std::move(measured), options_, context_);
  for (const auto& [site, to] : unit.linears) {
    const auto index = static_cast<std::size_t>(site);
    LIEQ_ASSERT(grids[index] == grid);
    const Matrix<float> w = WidenedWeights(layer_.At(site).weight, next_, site, context_);
    LinearReport& report = result.reports[index];
    result.matrices[index] = std::make_shared<const QMatrix>(
        QuantizeInRange(w.view(), grid, HasWideScales(weights_, options_), report,
                        [&](View<const float, 2> some, double multiple) {
                          return solver->Quantize(some, grid, multiple, report);
                        }));
    Replace(site, {result.matrices[index], layer_.At(site).bias});
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
