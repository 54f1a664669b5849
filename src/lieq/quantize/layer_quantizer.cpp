#include "lieq/quantize/layer_quantizer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/model/passes.h"
#include "lieq/quantize/expert_units.h"
#include "lieq/quantize/layer_inputs.h"
#include "lieq/quantize/scale_range.h"
#include "lieq/quantize/stream_plan.h"

namespace lieq {
namespace {

/// What layers begin with, in the memory of the device or outside. The embedding leaves that when
/// this returns. embedding: in place of the model's; null: that.
Hidden Embed(const Weights& weights, std::shared_ptr<const QMatrix> embedding, Device& device,
             View<const TokenId, 2> tokens, bool outside) {
  Weights with = weights;
  if (embedding) with.embedding = std::move(embedding);
  Forward forward(with, device, tokens.cols());
  if (!outside) return EmbedPadded(forward, device, tokens);
  const Index length = tokens.cols();
  Hidden all{device.AllocOutside(tokens.size(), weights.config.hidden), tokens.rows(), length};
  const Index step = forward.BatchWindows(length);
  for (Index first = 0; first < tokens.rows(); first += step) {
    const Index count = std::min(step, tokens.rows() - first);
    const Hidden some = EmbedPadded(forward, device, tokens.Rows(first, count));
    device.Copy(some.x.view(), all.x.view().Rows(first * length, count * length));
  }
  return all;
}

}  // namespace

LayerQuantizer::LayerQuantizer(const Weights& weights, Device& device, const QuantOptions& options,
                               View<const TokenId, 2> calibration, Context& context,
                               std::shared_ptr<const QMatrix> embedding)
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
  const Index batch =
      std::min(calibration.size(), forward_.BatchWindows(calibration.cols()) * calibration.cols());
  const StreamPlan plan =
      PlanStreams(weights, options_, calibration.size(), batch, device.memory_bound());
  if (plan.bytes > 0) context.log.Info(plan.Text());
  quantized_.emplace(
      config, device, forward_,
      Embed(weights, std::move(embedding), device, calibration, plan.quantized_outside),
      /*at_once=*/false, plan.most_kept, plan.keeps_mixed, Padding(calibration));
  const Index widest = std::max({config.hidden, config.In(Site::kO), config.In(Site::kDown)});
  if (options_.corrects()) {
    reference_.emplace(config, device, forward_,
                       Embed(weights, nullptr, device, calibration, plan.reference_outside),
                       /*at_once=*/true, plan.most_kept, plan.keeps_mixed, Padding(calibration));
    difference_ = device.Alloc(batch, widest);
    missing_ = device.Alloc(batch, config.hidden);
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

CalibrationStatistics LayerQuantizer::NoStatistics(const LayerStep& unit) const {
  const ModelConfig& config = weights_.config;
  const Index in = config.In(next_, unit.linears.front().site), hidden = config.hidden;
  const Index held_out = HeldOutRows();
  const bool adds = AddsToStream(unit);
  CalibrationStatistics statistics;
  statistics.fit.gram = sums_->MakeGram(in);
  const auto follow = [&](auto& share) {
    if (!reference_) return;
    (adds ? share.missing : share.drift) = sums_->MakeCross(adds ? hidden : in, in);
  };
  follow(statistics.fit);
  if (held_out == 0) return statistics;
  OutputStatistics& judged = statistics.held_out.emplace();
  // A device that rounds judges by sums alone: it makes them where they are wanted.
  if (device_.rounding() == nullptr && JudgedByTokens(held_out, in, adds, reference_.has_value())) {
    judged.inputs = Matrix<float>(held_out, in);
    if (reference_) judged.missed = Matrix<float>(held_out, hidden);
  } else {
    judged.gram = sums_->MakeCross(in, in);
    follow(judged);
  }
  return statistics;
}

CalibrationStatistics LayerQuantizer::Measure(const LayerStep& unit, const Grid& grid) {
  const StageTimes::Timer timer = times_.Time("running windows");
  CalibrationStatistics measured = NoStatistics(unit);
  const bool last = unit.unit == units_.back().unit;
  const Index fitted = quantized_->rows() - HeldOutRows();
  ForBatches([&](Index first, Index rows) {
    const bool fits = first < fitted;
    OutputStatistics* const judged = fits ? nullptr : &*measured.held_out;
    const bool tokens = !fits && judged->inputs.size() > 0;
    const DeviceView<const float> u = quantized_->Input(unit.unit, first, rows);
    if (fits) {
      sums_->GramUpdate(u, measured.fit.gram.placed());
    } else if (tokens) {
      device_.Download(u, judged->inputs.view().Rows(first - fitted, rows));
    } else {
      sums_->CrossGramUpdate(u, u, judged->gram.placed());
    }
    if (!reference_) return;
    const DeviceView<const float> x = reference_->Input(unit.unit, first, rows);
    if (!AddsToStream(unit)) {
      const DeviceView<float> drift = difference_.Shaped(rows, u.cols());
      sums_->Subtract(x, u, 1, drift);
      sums_->CrossGramUpdate(drift, u, (fits ? measured.fit.drift : judged->drift).placed());
      return;
    }
    const DeviceView<const float> missing = Missing(unit, x, u, first, fits ? &grid : nullptr);
    if (tokens) {
      device_.Download(missing, judged->missed.view().Rows(first - fitted, rows));
    } else {
      sums_->CrossGramUpdate(missing, u, (fits ? measured.fit.missing : judged->missing).placed());
    }
    if (last) reference_->Finish(first, rows);
  });
  RequireFiniteGram(measured.fit.gram, next_, unit.unit);  // which waits for the sums
  return measured;
}

DeviceView<const float> LayerQuantizer::Missing(const LayerStep& unit, DeviceView<const float> x,
                                                DeviceView<const float> u, Index first,
                                                const Grid* grid) {
  const auto strength = [&](const std::optional<Strength>& of) {
    return grid == nullptr ? 1.0f : static_cast<float>(of->At(grid->bits));
  };
  LIEQ_ASSERT(unit.linears.size() == 1);
  const DeviceView<float> drift = difference_.Shaped(u.rows(), u.cols());
  const DeviceView<float> missing = missing_.view().Rows(0, u.rows());
  sums_->Subtract(x, u, strength(options_.drift), drift);
  sums_->Subtract(reference_->residual(first, u.rows()), quantized_->residual(first, u.rows()),
                  strength(options_.residual), missing);
  const PlacedLinear& linear = reference_->linear(unit.linears.front().site);
  const std::array product{Product{.w = *linear.weight, .bias = {}, .y = missing}};
  device_.Products(drift, product, /*add=*/true);
  return missing;
}

void LayerQuantizer::BeginLayer() {
  const StageTimes::Timer timer = times_.Time("reading weights");
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
    const Grid& grid = grids[static_cast<std::size_t>(unit.linears.front().site)];
    if (unit.experts) {
      QuantizeExperts(unit, grid, result);
      continue;
    }
    QuantizeUnit(unit, grids, quantized_ ? Measure(unit, grid) : CalibrationStatistics{}, result);
  }
  if (quantized_) {
    const StageTimes::Timer timer = times_.Time("running windows");
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

std::vector<CalibrationStatistics> LayerQuantizer::MeasureExperts(const LayerStep& unit,
                                                                  std::vector<Index>& thin) {
  if (!quantized_) return {};
  const StageTimes::Timer timer = times_.Time("running windows");
  const Index fitted = quantized_->rows() - HeldOutRows();
  const bool last = unit.unit == units_.back().unit;
  ExpertSums sums(weights_.config, unit, device_, HeldOutRows() > 0);
  ForBatches([&](Index first, Index rows) {
    const DeviceView<const float> input = quantized_->Input(unit.unit, first, rows);
    sums.Add(input, quantized_->routes(first, rows), first < fitted);
    if (first == 0 && unit.unit == Unit::kGateUp) {
      sample_.rows = rows;
      device_.Copy(input, Sized(device_, sample_.normed, rows, input.cols()));
    }
    if (!reference_) return;
    (void)reference_->Input(unit.unit, first, rows);
    if (last) reference_->Finish(first, rows);
  });
  thin = sums.Thin();
  if (!thin.empty()) sums.MakeUp(sample_, quantized_->layer());
  return std::move(sums).Take();
}

void LayerQuantizer::QuantizeExperts(const LayerStep& unit, const Grid& grid,
                                     QuantizedLayer& result) {
  std::vector<Index> thin;
  std::vector<CalibrationStatistics> measured = MeasureExperts(unit, thin);
  const StageTimes::Timer timer = times_.Time("rounding");
  if (!thin.empty()) {
    context_.log.Info(fmt::format(
        "layer {}, {}: fewer tokens than inputs went to {} of {} experts ({}); average rows of the "
        "layer stand in for those that are missing",
        next_, Name(unit.unit), thin.size(), weights_.config.experts.count, fmt::join(thin, ", ")));
  }
  const QuantOptions options = ForExperts(options_);
  QuantizedLayer* const to = &result;
  RoundExperts({.config = weights_.config,
                .weights = layer_,
                .layer = next_,
                .unit = unit,
                .quantizer = quantizer_,
                .options = options,
                .wide = HasWideScales(weights_, options_),
                .thin = std::move(thin)},
               std::move(measured), {&grid, 1}, {&to, 1}, context_);
  for (const auto& [site, where] : unit.linears) {
    Replace(site, {result.matrices[static_cast<std::size_t>(site)], {}});
  }
}

void LayerQuantizer::QuantizeUnit(const LayerStep& unit, std::span<const Grid, kSites> grids,
                                  CalibrationStatistics measured, QuantizedLayer& result) {
  context_.ThrowIfStopped();
  const Grid& grid = grids[static_cast<std::size_t>(unit.linears.front().site)];
  const StageTimes::Timer timer = times_.Time("rounding");
  const std::unique_ptr<UnitSolver> solver =
      quantizer_.begin(std::move(measured), options_, context_);
  solver->RoundOn(device_);
  for (const auto& [site, to] : unit.linears) {
    const auto index = static_cast<std::size_t>(site);
    LIEQ_ASSERT(grids[index] == grid);
    const PreparedMatrix* placed = quantized_ ? quantized_->linear(site).weight.get() : nullptr;
    Matrix<float> widened;
    const LinearFloats w =
        FloatsOf(layer_.At(site).weight, placed, device_, next_, site, widened, context_);
    LinearReport& report = result.reports[index];
    result.matrices[index] = std::make_shared<const QMatrix>(
        QuantizeInRange(w, grid, HasWideScales(weights_, options_), report,
                        [&](const LinearFloats& some, double multiple) {
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
