#include "lieq/quantize/layer_quantizer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/quantize/expert_units.h"
#include "lieq/quantize/layer_inputs.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {
namespace {

/// What of a calibration is shared: experts' tokens go where they go, and are one device's.
DeviceTeam Sharing(const DeviceTeam& team, const Weights& weights, const Quantizer& quantizer) {
  return weights.config.HasExperts() || !quantizer.needs_calibration ? team.Alone() : team;
}

}  // namespace

LayerQuantizer::LayerQuantizer(const Weights& weights, const DeviceTeam& team,
                               const QuantOptions& options, View<const TokenId, 2> calibration,
                               Context& context, std::shared_ptr<const QMatrix> embedding)
    : weights_(weights),
      options_(WithDefaults(options)),
      quantizer_(FindQuantizer(options.method)),
      team_(Sharing(team, weights, quantizer_)),
      context_(context),
      windows_(calibration.rows()),
      length_(calibration.cols()) {
  if (!quantizer_.needs_calibration) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  lanes_.resize(Size(team_.size()));
  team_.Run(context_, [&](Index member, Context& its) {
    lanes_[Size(member)] =
        WindowLane::Make(weights, team_, member, options_, calibration, its, embedding);
  });
  weights_.Release(weights_.embedding);
}

Index LayerQuantizer::HeldOutRows() const noexcept {
  return options_.judges() ? HeldOutWindows(windows_) * length_ : 0;
}

void LayerQuantizer::ForLanes(const std::function<void(WindowLane& lane, Context& its)>& work) {
  team_.Run(context_, [&](Index member, Context& its) {
    if (lanes_[Size(member)]) work(*lanes_[Size(member)], its);
  });
}

std::optional<OutputStatistics> LayerQuantizer::Tokens(const LayerStep& unit) const {
  const ModelConfig& config = weights_.config;
  const Index held_out = HeldOutRows(), in = config.In(next_, unit.linears.front().site);
  // A device that rounds judges by sums alone: it makes them where they are wanted.
  if (held_out == 0 || team_.first().rounding() != nullptr ||
      !JudgedByTokens(held_out, in, AddsToStream(unit), options_.corrects())) {
    return std::nullopt;
  }
  OutputStatistics tokens;
  tokens.inputs = Matrix<float>(held_out, in);
  if (options_.corrects()) tokens.missed = Matrix<float>(held_out, config.hidden);
  return tokens;
}

CalibrationStatistics LayerQuantizer::Measure(const LayerStep& unit, const Grid& grid) {
  const StageTimes::Timer timer = times_.Time("running windows");
  std::optional<OutputStatistics> tokens = Tokens(unit);
  std::vector<LaneSums> found(lanes_.size());
  team_.Run(context_, [&](Index member, Context& its) {
    WindowLane* lane = lanes_[Size(member)].get();
    found[Size(member)] = lane == nullptr
                              ? WindowLane::None(team_, member)
                              : lane->Measure(unit, grid, tokens ? &*tokens : nullptr, its);
  });
  LaneSums all;
  for (LaneSums& lane : found) {
    all.fit.Add(std::move(lane.fit));
    all.held_out.Add(std::move(lane.held_out));
  }
  CalibrationStatistics measured{.fit = std::move(all.fit).Take().value(), .held_out = {}};
  measured.held_out = tokens ? std::move(tokens) : std::move(all.held_out).Take();
  RequireFiniteGram(measured.fit.gram, next_, unit.unit);  // which waits for the sums
  return measured;
}

void LayerQuantizer::BeginLayer() {
  const StageTimes::Timer timer = times_.Time("reading weights");
  layer_ = weights_.layers[Size(next_)];
  units_ = UnitsOf(weights_.config, next_);
  if (!follows()) return;
  ForLanes([&](WindowLane& lane, Context&) { lane.BeginLayer(next_, layer_, units_); });
}

void LayerQuantizer::Replace(const LayerStep& unit, const QuantizedLayer& with) {
  for (const auto& [site, to] : unit.linears) {
    layer_.At(site).weight = with.matrices[static_cast<std::size_t>(site)];
    if (unit.experts) layer_.At(site).bias = {};
  }
  if (!follows()) return;
  ForLanes([&](WindowLane& lane, Context&) {
    for (const auto& [site, to] : unit.linears) lane.Replace(site, layer_.At(site));
  });
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
    QuantizeUnit(unit, grids, follows() ? Measure(unit, grid) : CalibrationStatistics{}, result);
  }
  if (follows()) {
    const StageTimes::Timer timer = times_.Time("running windows");
    ForLanes([](WindowLane& lane, Context& its) { lane.Finish(its); });
  }
  weights_.ReleaseLayer(next_++);
  return result;
}

void LayerQuantizer::Skip(const QuantizedLayer& done) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  if (!follows()) {
    ++next_;
    return;
  }
  BeginLayer();
  ++next_;
  for (const LayerStep& unit : units_) Replace(unit, done);
  ForLanes([](WindowLane& lane, Context& its) { lane.Pass(its); });
}

void LayerQuantizer::QuantizeExperts(const LayerStep& unit, const Grid& grid,
                                     QuantizedLayer& result) {
  std::vector<Index> thin;
  std::vector<CalibrationStatistics> measured;
  if (follows()) {
    const StageTimes::Timer timer = times_.Time("running windows");
    measured = lanes_.front()->MeasureExperts(unit, thin, context_);
  }
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
  Replace(unit, result);
}

std::vector<Index> LayerQuantizer::Rounders(const LayerStep& unit) const {
  std::vector<Index> rounders(unit.linears.size(), 0);
  if (team_.first().rounding() == nullptr) return rounders;  // the processor rounds
  std::vector<Index> members;
  for (Index member = 0; member < team_.size(); ++member) {
    if (member == 0 || (follows() && lanes_[Size(member)])) members.push_back(member);
  }
  // The largest linear first, to whoever has fewest rows so far.
  std::vector<std::size_t> order(unit.linears.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto rows = [&](std::size_t i) { return Rows(layer_.At(unit.linears[i].site).weight); };
  std::ranges::stable_sort(order, std::ranges::greater(), rows);
  std::vector<Index> load(members.size(), 0);
  for (const std::size_t i : order) {
    const auto least = std::ranges::min_element(load);
    *least += rows(i);
    rounders[i] = members[Size(least - load.begin())];
  }
  return rounders;
}

void LayerQuantizer::QuantizeUnit(const LayerStep& unit, std::span<const Grid, kSites> grids,
                                  CalibrationStatistics measured, QuantizedLayer& result) {
  context_.ThrowIfStopped();
  const Grid& grid = grids[static_cast<std::size_t>(unit.linears.front().site)];
  const StageTimes::Timer timer = times_.Time("rounding");
  const std::vector<Index> rounders = Rounders(unit);
  std::vector<CalibrationStatistics> copies(Size(team_.size()));
  for (const Index member : rounders) {
    CalibrationStatistics& copy = copies[Size(member)];
    if (member > 0 && copy.fit.gram.size() == 0) {
      copy = measured.On(RequireCalibration(team_[member]));
    }
  }
  copies.front() = std::move(measured);
  const auto round = [&](Index member, Context& its) {
    if (std::ranges::find(rounders, member) == rounders.end()) return;
    Round(member, unit, rounders, grid, std::move(copies[Size(member)]), its, result);
  };
  if (std::ranges::all_of(rounders, [](Index member) { return member == 0; })) {
    round(0, context_);  // with all threads
  } else {
    team_.Run(context_, round);
  }
  Replace(unit, result);
  for (const auto& [site, to] : unit.linears) {
    LIEQ_ASSERT(grids[static_cast<std::size_t>(site)] == grid);
    const LinearReport& report = result.reports[static_cast<std::size_t>(site)];
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

void LayerQuantizer::Round(Index member, const LayerStep& unit, const std::vector<Index>& rounders,
                           const Grid& grid, CalibrationStatistics measured, Context& its,
                           QuantizedLayer& result) {
  Device& device = team_[member];
  const std::unique_ptr<UnitSolver> solver = quantizer_.begin(std::move(measured), options_, its);
  solver->RoundOn(device);
  for (std::size_t i = 0; i < rounders.size(); ++i) {
    if (rounders[i] != member) continue;
    const Site site = unit.linears[i].site;
    const auto index = static_cast<std::size_t>(site);
    const PreparedMatrix* placed =
        follows() ? lanes_[Size(member)]->linear(site).weight.get() : nullptr;
    Matrix<float> widened;
    const LinearFloats w =
        FloatsOf(layer_.At(site).weight, placed, device, next_, site, widened, its);
    LinearReport& report = result.reports[index];
    result.matrices[index] = std::make_shared<const QMatrix>(
        QuantizeInRange(w, grid, HasWideScales(weights_, options_), report,
                        [&](const LinearFloats& some, double multiple) {
                          return solver->Quantize(some, grid, multiple, report);
                        }));
  }
}

}  // namespace lieq
