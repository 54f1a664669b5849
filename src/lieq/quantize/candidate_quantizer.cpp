#include "lieq/quantize/candidate_quantizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/model/layer_steps.h"
#include "lieq/model/passes.h"
#include "lieq/quantize/expert_sums.h"
#include "lieq/quantize/expert_units.h"
#include "lieq/quantize/layer_inputs.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {

bool Fits(const Grid& grid, const ModelConfig& config, Unit unit) noexcept {
  return std::ranges::all_of(config.Ins(SitesOf(unit).front()),
                             [&](Index in) { return in % RowStep(grid, in) == 0; });
}

QuantOptions FloatInputs(QuantOptions options) {
  options.drift = options.residual = Strength(0);
  return WithDefaults(options);
}

CandidateQuantizer::CandidateQuantizer(const Weights& weights, Device& device,
                                       const QuantOptions& options,
                                       View<const TokenId, 2> calibration, Context& context)
    : weights_(weights),
      device_(device),
      options_(FloatInputs(options)),
      quantizer_(FindQuantizer(options.method)),
      context_(context),
      forward_(weights, device, std::max<Index>(1, calibration.cols())) {
  if (!quantizer_.needs_calibration) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  padding_ = Padding(calibration);
  LIEQ_ASSERT(padding_.empty() || !weights.config.HasExperts());
  hidden_ = EmbedPadded(forward_, device_, calibration);
  weights_.Release(weights_.embedding);
}

void CandidateQuantizer::Skip() {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  context_.ThrowIfStopped();
  if (quantizer_.needs_calibration) forward_.Layer(next_, hidden_);
  weights_.ReleaseLayer(next_++);
}

std::vector<QuantizedLayer> CandidateQuantizer::Quantize(std::span<const Grid> candidates) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  const ModelConfig& config = weights_.config;
  const std::vector<LayerStep> units = UnitsOf(config, next_);
  std::array<UnitStatistics, kUnits> measured;
  std::array<std::optional<ExpertSums>, kUnits> experts;
  std::array<std::vector<Index>, kUnits> thin;
  if (quantizer_.needs_calibration) {
    CalibrationOps& sums = RequireCalibration(device_);
    for (const LayerStep& unit : units) {
      const auto index = static_cast<std::size_t>(unit.unit);
      if (unit.experts) {
        experts[index].emplace(config, unit, device_, /*judges=*/false);
      } else {
        measured[index].gram = sums.MakeGram(config.In(next_, unit.linears.front().site));
      }
    }
    LayerSample sample;
    context_.ThrowIfStopped();
    std::array<Index, kUnits> seen{};  // rows
    forward_.Layer(next_, hidden_, [&](Unit unit, DeviceView<float> input) {
      const auto index = static_cast<std::size_t>(unit);
      padding_.Clear(device_, input, seen[index]);
      seen[index] += input.rows();
      if (!experts[index]) return sums.GramUpdate(input, measured[index].gram.placed());
      const Index tokens = unit == Unit::kDown ? input.rows() / config.experts.used : input.rows();
      experts[index]->Add(input, forward_.Routes(next_, tokens), /*fits=*/true);
      if (unit != Unit::kGateUp || sample.rows > 0) return;
      sample.rows = input.rows();
      device_.Copy(input, Sized(device_, sample.normed, input.rows(), input.cols()));
    });
    for (const LayerStep& unit : units) {
      const auto index = static_cast<std::size_t>(unit.unit);
      if (!experts[index]) continue;
      thin[index] = experts[index]->Thin();
      if (!thin[index].empty()) {
        experts[index]->MakeUp(sample, Place(weights_.layers[Size(next_)], device_));
      }
    }
  }

  std::vector<QuantizedLayer> layer(candidates.size());
  for (const LayerStep& unit : units) {
    const auto index = static_cast<std::size_t>(unit.unit);
    if (unit.experts) {
      std::vector<Grid> fitting;
      std::vector<QuantizedLayer*> results;
      for (std::size_t c = 0; c < candidates.size(); ++c) {
        if (!Fits(candidates[c], config, unit.unit)) continue;
        fitting.push_back(candidates[c]);
        results.push_back(&layer[c]);
      }
      const QuantOptions options = ForExperts(options_);
      RoundExperts(
          {.config = config,
           .weights = weights_.layers[Size(next_)],
           .layer = next_,
           .unit = unit,
           .quantizer = quantizer_,
           .options = options,
           .wide = HasWideScales(weights_, options_),
           .thin = thin[index]},
          experts[index] ? std::move(*experts[index]).Take() : std::vector<CalibrationStatistics>{},
          fitting, results, context_);
      continue;
    }
    UnitStatistics& share = measured[index];
    if (quantizer_.needs_calibration) RequireFiniteGram(share.gram, next_, unit.unit);
    std::vector<Prepared> placed(unit.linears.size());
    std::vector<Matrix<float>> widened(unit.linears.size());
    std::vector<LinearFloats> floats;
    for (std::size_t i = 0; i < placed.size(); ++i) {
      const Site site = unit.linears[i].site;
      const AnyMatrix& weight = weights_.layers[Size(next_)].At(site).weight;
      if (device_.rounding() != nullptr) placed[i] = device_.Prepare(weight);
      floats.push_back(
          FloatsOf(weight, placed[i].get(), device_, next_, site, widened[i], context_));
    }
    const std::unique_ptr<UnitSolver> solver =
        quantizer_.begin({.fit = std::move(share), .held_out = std::nullopt}, options_, context_);
    solver->RoundOn(device_);
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      const Grid& grid = candidates[c];
      if (!Fits(grid, config, unit.unit)) continue;
      context_.ThrowIfStopped();
      for (std::size_t i = 0; i < floats.size(); ++i) {
        const auto site = static_cast<std::size_t>(unit.linears[i].site);
        LinearReport& report = layer[c].reports[site];
        layer[c].matrices[site] = std::make_shared<const QMatrix>(
            QuantizeInRange(floats[i], grid, HasWideScales(weights_, options_), report,
                            [&](const LinearFloats& w, double multiple) {
                              return solver->Quantize(w, grid, multiple, report);
                            }));
      }
    }
  }
  weights_.ReleaseLayer(next_++);
  return layer;
}

}  // namespace lieq
