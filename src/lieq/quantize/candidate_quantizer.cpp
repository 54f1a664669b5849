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

namespace {

DeviceTeam Sharing(const DeviceTeam& team, const Weights& weights) {
  return weights.config.HasExperts() ? team.Alone() : team;
}

}  // namespace

CandidateQuantizer::CandidateQuantizer(const Weights& weights, const DeviceTeam& team,
                                       const QuantOptions& options,
                                       View<const TokenId, 2> calibration, Context& context)
    : weights_(weights),
      options_(FloatInputs(options)),
      quantizer_(FindQuantizer(options.method)),
      team_(Sharing(team, weights)),
      context_(context) {
  if (!quantizer_.needs_calibration) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  lanes_.resize(Size(team_.size()));
  team_.Run(context_, [&](Index member, Context&) {
    auto lane = std::make_unique<Lane>(weights, team_[member], calibration.cols());
    for (const WindowPiece& piece :
         PiecesOf(calibration.rows(), team_.pieces(), member, team_.size())) {
      Lane::Part part{.piece = piece, .hidden = {}, .padding = {}};
      if (piece.windows() > 0) {
        const auto windows = calibration.Rows(piece.begin, piece.windows());
        part.hidden = EmbedPadded(lane->forward, team_[member], windows);
        part.padding = Padding(windows);
        LIEQ_ASSERT(part.padding.empty() || !weights.config.HasExperts());
      }
      lane->pieces.push_back(std::move(part));
    }
    lanes_[Size(member)] = std::move(lane);
  });
  weights_.Release(weights_.embedding);
}

void CandidateQuantizer::Skip() {
  const std::vector<Grid> none;
  Quantize({&none, 1}, [](Index, const std::vector<QuantizedLayer>&) {});
}

std::vector<QuantizedLayer> CandidateQuantizer::Quantize(std::span<const Grid> candidates) {
  std::vector<QuantizedLayer> result;
  const std::vector<Grid> all(candidates.begin(), candidates.end());
  Quantize({&all, 1}, [&](Index, std::vector<QuantizedLayer> layer) { result = std::move(layer); });
  return result;
}

CandidateQuantizer::UnitSums CandidateQuantizer::Measure(Index member, Index layer, Context& its) {
  UnitSums found;
  Lane& lane = *lanes_[Size(member)];
  CalibrationOps& ops = RequireCalibration(team_[member]);
  for (auto& [piece, hidden, padding] : lane.pieces) {
    std::array<std::optional<UnitStatistics>, kUnits> sums;
    if (piece.windows() > 0) {
      its.ThrowIfStopped();
      for (const LayerStep& unit : UnitsOf(weights_.config, layer)) {
        sums[static_cast<std::size_t>(unit.unit)].emplace().gram =
            ops.MakeGram(weights_.config.In(layer, unit.linears.front().site));
      }
      std::array<Index, kUnits> seen{};  // rows
      lane.forward.Layer(layer, hidden, [&](Unit unit, DeviceView<float> input) {
        const auto index = static_cast<std::size_t>(unit);
        padding.Clear(team_[member], input, seen[index]);
        seen[index] += input.rows();
        ops.GramUpdate(input, sums[index]->gram.placed());
      });
    }
    for (std::size_t u = 0; u < kUnits; ++u) found[u].Add(piece.number, std::move(sums[u]));
  }
  return found;
}

void CandidateQuantizer::Quantize(
    std::span<const std::vector<Grid>> candidates,
    const std::function<void(Index layer, std::vector<QuantizedLayer>)>& done) {
  const auto layers = static_cast<Index>(candidates.size());
  LIEQ_ASSERT(layers <= together() && next_ + layers <= weights_.config.layers);
  context_.ThrowIfStopped();
  if (weights_.config.HasExperts() && layers > 0 && !candidates.front().empty()) {
    const Index layer = next_;
    return done(layer, QuantizeExperts(candidates.front()));
  }
  std::vector<UnitTotals> totals(candidates.size());
  if (quantizer_.needs_calibration) {
    std::vector<std::vector<UnitSums>> found(lanes_.size());  // [members][layers]
    team_.Run(context_, [&](Index member, Context& its) {
      for (Index i = 0; i < layers; ++i) {
        if (!candidates[Size(i)].empty()) {
          found[Size(member)].push_back(Measure(member, next_ + i, its));
          continue;
        }
        found[Size(member)].emplace_back();
        for (auto& [piece, hidden, padding] : lanes_[Size(member)]->pieces) {
          if (piece.windows() > 0) lanes_[Size(member)]->forward.Layer(next_ + i, hidden);
        }
      }
      team_[member].Sync();  // before another adds these sums to its own
    });
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (candidates[i].empty()) continue;
      Device& owner = team_[static_cast<Index>(i)];
      for (std::size_t u = 0; u < kUnits; ++u) {
        PieceSums<UnitStatistics> all;
        for (std::vector<UnitSums>& of_member : found) all.Add(std::move(of_member[i][u]));
        std::optional<UnitStatistics> total = std::move(all).Take();
        if (!total) continue;  // the layer has no such unit
        if (i > 0) total->gram = total->gram.On(RequireCalibration(owner));
        totals[i][u] = std::move(*total);
      }
    }
  }
  const auto round = [&](Index i, Context& its) {
    if (i >= layers || candidates[Size(i)].empty()) return;
    done(next_ + i, Round(i, next_ + i, std::move(totals[Size(i)]), candidates[Size(i)], its));
  };
  if (team_.first().rounding() != nullptr) {
    team_.Run(context_, round);
  } else {  // the processor rounds, with all threads
    for (Index i = 0; i < layers; ++i) round(i, context_);
  }
  for (Index i = 0; i < layers; ++i) weights_.ReleaseLayer(next_++);
}

std::vector<QuantizedLayer> CandidateQuantizer::Round(Index member, Index layer,
                                                      UnitTotals measured,
                                                      std::span<const Grid> candidates,
                                                      Context& its) {
  std::vector<QuantizedLayer> result(candidates.size());
  for (const LayerStep& unit : UnitsOf(weights_.config, layer)) {
    RoundUnit(team_[member], layer, unit, std::move(measured[static_cast<std::size_t>(unit.unit)]),
              candidates, its, result);
  }
  return result;
}

void CandidateQuantizer::RoundUnit(Device& device, Index layer, const LayerStep& unit,
                                   UnitStatistics measured, std::span<const Grid> candidates,
                                   Context& its, std::vector<QuantizedLayer>& result) {
  if (quantizer_.needs_calibration) RequireFiniteGram(measured.gram, layer, unit.unit);
  std::vector<Prepared> placed(unit.linears.size());
  std::vector<Matrix<float>> widened(unit.linears.size());
  std::vector<LinearFloats> floats;
  for (std::size_t i = 0; i < placed.size(); ++i) {
    const Site site = unit.linears[i].site;
    const AnyMatrix& weight = weights_.layers[Size(layer)].At(site).weight;
    if (device.rounding() != nullptr) placed[i] = device.Prepare(weight);
    floats.push_back(FloatsOf(weight, placed[i].get(), device, layer, site, widened[i], its));
  }
  const std::unique_ptr<UnitSolver> solver =
      quantizer_.begin({.fit = std::move(measured), .held_out = std::nullopt}, options_, its);
  solver->RoundOn(device);
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    const Grid& grid = candidates[c];
    if (!Fits(grid, weights_.config, unit.unit)) continue;
    its.ThrowIfStopped();
    for (std::size_t i = 0; i < floats.size(); ++i) {
      const auto site = static_cast<std::size_t>(unit.linears[i].site);
      LinearReport& report = result[c].reports[site];
      result[c].matrices[site] = std::make_shared<const QMatrix>(
          QuantizeInRange(floats[i], grid, HasWideScales(weights_, options_), report,
                          [&](const LinearFloats& w, double multiple) {
                            return solver->Quantize(w, grid, multiple, report);
                          }));
    }
  }
}

std::vector<QuantizedLayer> CandidateQuantizer::QuantizeExperts(std::span<const Grid> candidates) {
  const ModelConfig& config = weights_.config;
  Device& device = team_.first();
  const std::vector<LayerStep> units = UnitsOf(config, next_);
  UnitTotals measured;
  std::array<std::optional<ExpertSums>, kUnits> experts;
  std::array<std::vector<Index>, kUnits> thin;
  if (quantizer_.needs_calibration) {
    CalibrationOps& sums = RequireCalibration(device);
    for (const LayerStep& unit : units) {
      const auto index = static_cast<std::size_t>(unit.unit);
      if (unit.experts) {
        experts[index].emplace(config, unit, device, /*judges=*/false);
      } else {
        measured[index].gram = sums.MakeGram(config.In(next_, unit.linears.front().site));
      }
    }
    LayerSample sample;
    context_.ThrowIfStopped();
    Forward& forward = lanes_.front()->forward;
    forward.Layer(next_, lanes_.front()->pieces.front().hidden,
                  [&](Unit unit, DeviceView<const float> input) {
                    const auto index = static_cast<std::size_t>(unit);
                    if (!experts[index])
                      return sums.GramUpdate(input, measured[index].gram.placed());
                    const Index tokens =
                        unit == Unit::kDown ? input.rows() / config.experts.used : input.rows();
                    experts[index]->Add(input, forward.Routes(next_, tokens), /*fits=*/true);
                    if (unit != Unit::kGateUp || sample.rows > 0) return;
                    sample.rows = input.rows();
                    device.Copy(input, Sized(device, sample.normed, input.rows(), input.cols()));
                  });
    for (const LayerStep& unit : units) {
      const auto index = static_cast<std::size_t>(unit.unit);
      if (!experts[index]) continue;
      thin[index] = experts[index]->Thin();
      if (!thin[index].empty()) {
        experts[index]->MakeUp(sample, Place(weights_.layers[Size(next_)], device));
      }
    }
  }

  std::vector<QuantizedLayer> layer(candidates.size());
  for (const LayerStep& unit : units) {
    const auto index = static_cast<std::size_t>(unit.unit);
    if (!unit.experts) {
      RoundUnit(device, next_, unit, std::move(measured[index]), candidates, context_, layer);
      continue;
    }
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
  }
  weights_.ReleaseLayer(next_++);
  return layer;
}

}  // namespace lieq
