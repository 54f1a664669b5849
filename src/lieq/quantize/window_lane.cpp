#include "lieq/quantize/window_lane.h"

#include <algorithm>
#include <array>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/model/padding.h"
#include "lieq/model/passes.h"
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

Index In(const ModelConfig& config, Index layer, const LayerStep& unit) {
  return config.In(layer, unit.linears.front().site);
}

}  // namespace

std::unique_ptr<WindowLane> WindowLane::Make(const Weights& weights, const DeviceTeam& team,
                                             Index member, const QuantOptions& options,
                                             View<const TokenId, 2> calibration, Context& context,
                                             const std::shared_ptr<const QMatrix>& embedding) {
  const Index length = calibration.cols();
  const Index held_out = options.judges() ? HeldOutWindows(calibration.rows()) : 0;
  const Index fitted = calibration.rows() - held_out;
  std::vector<Run> runs;
  std::vector<Index> windows;
  for (const bool fits : {true, false}) {
    const Index begin = fits ? 0 : fitted, count = fits ? fitted : held_out;
    for (const WindowPiece& piece : PiecesOf(count, team.pieces(), member, team.size())) {
      runs.push_back({.piece = piece.number,
                      .fits = fits,
                      .first = static_cast<Index>(windows.size()) * length,
                      .rows = piece.windows() * length,
                      .row_of_tokens = fits ? 0 : piece.begin * length});
      for (Index w = piece.begin; w < piece.end; ++w) windows.push_back(begin + w);
    }
  }
  if (windows.empty()) return nullptr;
  Matrix<TokenId> tokens(static_cast<Index>(windows.size()), length);
  for (std::size_t w = 0; w < windows.size(); ++w) {
    std::ranges::copy(calibration.Row(windows[w]),
                      tokens.view().Row(static_cast<Index>(w)).begin());
  }
  return std::unique_ptr<WindowLane>(new WindowLane(weights, team[member], options, std::move(runs),
                                                    SumsAtOnce(team.pieces(), team.size()),
                                                    tokens.view(), context, embedding));
}

LaneSums WindowLane::None(const DeviceTeam& team, Index member) {
  LaneSums none;
  for (const WindowPiece& piece : PiecesOf(0, team.pieces(), member, team.size())) {
    none.fit.Add(piece.number, std::nullopt);
    none.held_out.Add(piece.number, std::nullopt);
  }
  return none;
}

WindowLane::WindowLane(const Weights& weights, Device& device, const QuantOptions& options,
                       std::vector<Run> runs, Index sums_at_once, View<const TokenId, 2> tokens,
                       Context& context, const std::shared_ptr<const QMatrix>& embedding)
    : weights_(weights),
      device_(device),
      sums_(RequireCalibration(device)),
      options_(options),
      runs_(std::move(runs)),
      forward_(weights, device, tokens.cols()) {
  const ModelConfig& config = weights.config;
  const Index batch = std::min(tokens.size(), forward_.BatchWindows(tokens.cols()) * tokens.cols());
  const StreamPlan plan =
      PlanStreams(weights, options_, tokens.size(), batch, device.memory_bound(), sums_at_once);
  if (plan.bytes > 0) context.log.Info(plan.Text());
  quantized_.emplace(config, device, forward_,
                     Embed(weights, embedding, device, tokens, plan.quantized_outside),
                     /*at_once=*/false, plan.most_kept, plan.keeps_mixed, Padding(tokens));
  if (!options_.corrects()) return;
  const Index widest = std::max({config.hidden, config.In(Site::kO), config.In(Site::kDown)});
  reference_.emplace(config, device, forward_,
                     Embed(weights, nullptr, device, tokens, plan.reference_outside),
                     /*at_once=*/true, plan.most_kept, plan.keeps_mixed, Padding(tokens));
  difference_ = device.Alloc(batch, widest);
  missing_ = device.Alloc(batch, config.hidden);
}

template <class Function>
void WindowLane::ForBatches(const Run& run, Context& context, const Function& batch) {
  const Index length = quantized_->length(), end = run.first + run.rows;
  const Index step = forward_.BatchWindows(length) * length;
  for (Index first = run.first; first < end; first += step) {
    context.ThrowIfStopped();
    batch(first, std::min(step, end - first));
  }
}

UnitStatistics WindowLane::NoFit(const LayerStep& unit) const {
  const Index in = In(weights_.config, layer_, unit);
  UnitStatistics sums{.gram = sums_.MakeGram(in), .drift = {}, .missing = {}};
  if (!reference_) return sums;
  const bool adds = AddsToStream(unit);
  (adds ? sums.missing : sums.drift) = sums_.MakeCross(adds ? weights_.config.hidden : in, in);
  return sums;
}

OutputStatistics WindowLane::NoOutputs(const LayerStep& unit) const {
  const Index in = In(weights_.config, layer_, unit);
  OutputStatistics sums;
  sums.gram = sums_.MakeCross(in, in);
  if (!reference_) return sums;
  const bool adds = AddsToStream(unit);
  (adds ? sums.missing : sums.drift) = sums_.MakeCross(adds ? weights_.config.hidden : in, in);
  return sums;
}

LaneSums WindowLane::Measure(const LayerStep& unit, const Grid& grid, OutputStatistics* tokens,
                             Context& context) {
  LaneSums found;
  const bool last = IsLast(unit);
  for (const Run& run : runs_) {
    const bool keeps_tokens = !run.fits && tokens != nullptr;
    const bool sums_up = run.rows > 0 && !keeps_tokens;
    std::optional<UnitStatistics> fit;
    std::optional<OutputStatistics> judged;
    if (sums_up && run.fits) fit = NoFit(unit);
    if (sums_up && !run.fits) judged = NoOutputs(unit);
    ForBatches(run, context, [&](Index first, Index rows) {
      const auto row = [&] { return run.row_of_tokens + first - run.first; };
      const DeviceView<const float> u = quantized_->Input(unit.unit, first, rows);
      if (fit) {
        sums_.GramUpdate(u, fit->gram.placed());
      } else if (keeps_tokens) {
        device_.Download(u, tokens->inputs.view().Rows(row(), rows));
      } else {
        sums_.CrossGramUpdate(u, u, judged->gram.placed());
      }
      if (!reference_) return;
      const DeviceView<const float> x = reference_->Input(unit.unit, first, rows);
      if (!AddsToStream(unit)) {
        const DeviceView<float> drift = difference_.Shaped(rows, u.cols());
        sums_.Subtract(x, u, 1, drift);
        sums_.CrossGramUpdate(drift, u, (fit ? fit->drift : judged->drift).placed());
        return;
      }
      const DeviceView<const float> missing = Missing(unit, x, u, first, fit ? &grid : nullptr);
      if (keeps_tokens) {
        device_.Download(missing, tokens->missed.view().Rows(row(), rows));
      } else {
        sums_.CrossGramUpdate(missing, u, (fit ? fit->missing : judged->missing).placed());
      }
      if (last) reference_->Finish(first, rows);
    });
    if (run.fits) {
      found.fit.Add(run.piece, std::move(fit));
    } else {
      found.held_out.Add(run.piece, std::move(judged));
    }
  }
  device_.Sync();  // what is waited for here is this device's time
  return found;
}

DeviceView<const float> WindowLane::Missing(const LayerStep& unit, DeviceView<const float> x,
                                            DeviceView<const float> u, Index first,
                                            const Grid* grid) {
  const auto strength = [&](const std::optional<Strength>& of) {
    return grid == nullptr ? 1.0f : static_cast<float>(of->At(grid->bits));
  };
  LIEQ_ASSERT(unit.linears.size() == 1);
  const DeviceView<float> drift = difference_.Shaped(u.rows(), u.cols());
  const DeviceView<float> missing = missing_.view().Rows(0, u.rows());
  sums_.Subtract(x, u, strength(options_.drift), drift);
  sums_.Subtract(reference_->residual(first, u.rows()), quantized_->residual(first, u.rows()),
                 strength(options_.residual), missing);
  const PlacedLinear& linear = reference_->linear(unit.linears.front().site);
  const std::array product{Product{.w = *linear.weight, .bias = {}, .y = missing}};
  device_.Products(drift, product, /*add=*/true);
  return missing;
}

void WindowLane::BeginLayer(Index layer, const LayerWeights& weights,
                            const std::vector<LayerStep>& units) {
  layer_ = layer;
  units_ = &units;
  const PlacedLayer placed = Place(weights, device_);
  quantized_->SetLayer(layer, placed);
  if (reference_) reference_->SetLayer(layer, placed);
}

std::vector<CalibrationStatistics> WindowLane::MeasureExperts(const LayerStep& unit,
                                                              std::vector<Index>& thin,
                                                              Context& context) {
  const bool last = IsLast(unit), judges = std::ranges::any_of(runs_, [](const Run& run) {
                                    return !run.fits && run.rows > 0;
                                  });
  ExpertSums sums(weights_.config, unit, device_, judges);
  for (const Run& run : runs_) {
    ForBatches(run, context, [&](Index first, Index rows) {
      const DeviceView<const float> input = quantized_->Input(unit.unit, first, rows);
      sums.Add(input, quantized_->routes(first, rows), run.fits);
      if (first == 0 && unit.unit == Unit::kGateUp) {
        sample_.rows = rows;
        device_.Copy(input, Sized(device_, sample_.normed, rows, input.cols()));
      }
      if (!reference_) return;
      (void)reference_->Input(unit.unit, first, rows);
      if (last) reference_->Finish(first, rows);
    });
  }
  thin = sums.Thin();
  if (!thin.empty()) sums.MakeUp(sample_, quantized_->layer());
  return std::move(sums).Take();
}

void WindowLane::Finish(Context& context) {
  for (const Run& run : runs_) {
    ForBatches(run, context, [&](Index first, Index rows) { quantized_->Finish(first, rows); });
  }
}

void WindowLane::Pass(Context& context) {
  for (const Run& run : runs_) {
    ForBatches(run, context, [&](Index first, Index rows) {
      quantized_->Pass(first, rows);
      if (reference_) reference_->Pass(first, rows);
    });
  }
}

}  // namespace lieq
