#include "lieq/quantize/layer_quantizer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/quantize/bias.h"
#include "lieq/quantize/layer_inputs.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {
LayerQuantizer::LayerQuantizer(const Weights& weights, Device& device, const QuantOptions& options,
                               View<const TokenId, 2> calibration, Context& context,
                               DType bias_type)
    : weights_(weights),
      device_(device),
      options_(WithDefaults(options)),
      quantizer_(FindQuantizer(options.method)),
      context_(context),
      forward_(weights, device, std::max<Index>(1, calibration.cols())),
      bias_type_(bias_type) {
  if (!quantizer_.needs_calibration) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  sums_ = &RequireCalibration(device);
  const ModelConfig& config = weights.config;
  quantized_.emplace(config, device, forward_, forward_.Embed(calibration));
  const Index batch = std::min(quantized_->rows(),
                               forward_.BatchWindows(quantized_->length()) * quantized_->length());
  const Index widest = std::max({config.hidden, config.In(Site::kO), config.In(Site::kDown)});
  if (options_.loss_weights > 0) {
    sensitivity_ = MeasureOutputSensitivity(weights, device, calibration, context);
  }
  if (options_.loss_weights > 0 || options_.sink_cap > 0) weighted_ = device.Alloc(batch, widest);
  if (std::ranges::any_of(kAllUnits, [&](Unit unit) { return CorrectsBias(unit); })) {
    factors_ = device.Alloc(batch, 1);
  }
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

bool LayerQuantizer::CorrectsBias(Unit unit) const {
  return quantizer_.needs_calibration && options_.bias &&
         std::ranges::any_of(SitesOf(unit),
                             [&](Site site) { return weights_.config.HasBias(site); });
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

std::vector<float> LayerQuantizer::RowFactors(Unit unit, Index first, DeviceView<const float> u,
                                              double& median) {
  if (options_.loss_weights == 0 && options_.sink_cap == 0) return {};
  std::vector<float> factors(Size(u.rows()), 1.0f);
  if (options_.loss_weights > 0) {
    const std::vector<float>& weights =
        sensitivity_.weights[Size(next_)][static_cast<std::size_t>(unit)];
    for (Index r = 0; r < u.rows(); ++r) {
      factors[Size(r)] = static_cast<float>(
          std::pow(static_cast<double>(weights[Size(first + r)]), options_.loss_weights));
    }
  }
  if (options_.sink_cap > 0) {
    std::vector<double> squares(Size(u.rows()));
    sums_->RowSquares(u, squares);
    device_.Sync();
    if (first == 0) {
      std::vector<double> sorted = squares;
      const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
      std::nth_element(sorted.begin(), middle, sorted.end());
      median = *middle;
    }
    for (std::size_t r = 0; r < squares.size(); ++r) {
      const double most = options_.sink_cap * median;
      if (squares[r] > most) factors[r] *= static_cast<float>(most / squares[r]);
    }
  }
  for (float& factor : factors) factor = std::sqrt(factor);
  return factors;
}

CalibrationStatistics LayerQuantizer::Measure(Unit unit) {
  const ModelConfig& config = weights_.config;
  const Index in = config.In(SitesOf(unit).front());
  const bool adds = unit == Unit::kO || unit == Unit::kDown;
  const Index fitted = quantized_->rows() - HeldOutRows();
  CalibrationStatistics measured;
  double median = 0;
  const bool sums = CorrectsBias(unit);
  const auto allocate = [&](UnitStatistics& share) {
    share.gram = Matrix<double>(in, in);
    if (sums) share.sums.input = Matrix<double>(1, in);
    if (!reference_) return;
    share.drift = Matrix<double>(in, in);
    if (sums) share.sums.drift = Matrix<double>(1, in);
    if (!adds) return;
    share.residual = Matrix<double>(config.hidden, in);
    if (sums) share.sums.residual = Matrix<double>(1, config.hidden);
  };
  allocate(measured.fit);
  if (HeldOutRows() > 0) allocate(measured.held_out);
  ForBatches([&](Index first, Index rows) {
    UnitStatistics& share = first < fitted ? measured.fit : measured.held_out;
    share.tokens += rows;
    DeviceView<const float> u = quantized_->Input(unit, first, rows);
    const std::vector<float> factors = RowFactors(unit, first, u, median);
    const auto weigh = [&](DeviceView<float> difference) {
      if (!factors.empty()) sums_->ScaleRows(difference, factors, difference);
    };
    DeviceView<float> counts;  // with what is weighted by the factors: once more, for the sums
    if (sums) {
      Matrix<float> column(rows, 1);
      for (Index r = 0; r < rows; ++r) {
        column(r, 0) = factors.empty() ? 1.0f : factors[Size(r)];
        share.sums.weight += static_cast<double>(column(r, 0)) * static_cast<double>(column(r, 0));
      }
      counts = factors_.Shaped(rows, 1);
      device_.Upload(column.view(), counts);
    }
    DeviceView<float> drift;
    if (reference_) {
      drift = difference_.Shaped(rows, in);
      sums_->Subtract(reference_->Input(unit, first, rows), u, drift);
      weigh(drift);
    }
    if (!factors.empty()) {  // a copy: the stream goes on from its own
      const DeviceView<float> weighted = weighted_.Shaped(rows, in);
      sums_->ScaleRows(u, factors, weighted);
      u = weighted;
    }
    sums_->GramUpdate(u, share.gram.view());
    if (sums) sums_->CrossGramUpdate(counts, u, share.sums.input.view());
    if (!reference_) return;
    sums_->CrossGramUpdate(drift, u, share.drift.view());
    if (sums) sums_->CrossGramUpdate(counts, drift, share.sums.drift.view());
    if (!adds) return;
    const DeviceView<float> residual = difference_.Shaped(rows, config.hidden);
    sums_->Subtract(reference_->residual(first, rows), quantized_->residual(first, rows), residual);
    weigh(residual);
    sums_->CrossGramUpdate(residual, u, share.residual.view());
    if (sums) sums_->CrossGramUpdate(counts, residual, share.sums.residual.view());
  });
  device_.Sync();
  return measured;
}

void LayerQuantizer::BeginLayer() {
  layer_ = weights_.layers[Size(next_)];
  if (!quantized_) return;
  const PlacedLayer placed = Place(layer_, device_);
  quantized_->SetLayer(placed);
  if (reference_) reference_->SetLayer(placed);
}

void LayerQuantizer::Replace(Site site, Linear linear) {
  layer_.At(site) = std::move(linear);
  if (quantized_) quantized_->Replace(site, layer_.At(site));
}

QuantizedLayer LayerQuantizer::Quantize(std::span<const Grid, kSites> grids) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  QuantizedLayer result;
  BeginLayer();
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
  if (!quantized_) {
    ++next_;
    return;
  }
  BeginLayer();
  ++next_;
  for (const Site site : kAllSites) {
    const auto at = static_cast<std::size_t>(site);
    const std::vector<float>& bias =
        done.biases[at].empty() ? layer_.At(site).bias : done.biases[at];
    Replace(site, {done.matrices[at], bias});
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
    const Matrix<float> w = WidenedWeights(layer_.At(site).weight, next_, site, context_);
    LinearReport& report = result.reports[index];
    result.matrices[index] = std::make_shared<const QMatrix>(QuantizeInRange(
        w.view(), grid, HasWideScales(weights_, options_), report,
        [&](View<const float, 2> multiple, double by) {
          statistics.residual_scale = by;
          return quantizer_.quantize(multiple, quantizer_.needs_calibration ? &statistics : nullptr,
                                     grid, options_, context_, report);
        }));
    Linear linear{result.matrices[index], layer_.At(site).bias};
    if (CorrectsBias(unit) && !linear.bias.empty()) {
      linear.bias = CorrectedBias(
          {.w = w.view(), .q = *result.matrices[index], .bias = linear.bias, .type = bias_type_},
          measured, options_, context_, report);
      result.biases[index] = linear.bias;
    }
    Replace(site, std::move(linear));
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
