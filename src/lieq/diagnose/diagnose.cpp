#include "lieq/diagnose/diagnose.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/model/forward.h"

namespace lieq {
namespace {

/// Ends the stage however it is left.
class Stage {
 public:
  Stage(Progress& progress, std::string_view name, std::string_view unit, Index total)
      : progress_(progress) {
    progress_.Begin(name, unit, total);
  }
  ~Stage() { progress_.End(); }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  void Done(std::string_view note = {}) { progress_.Update(++done_, note); }

 private:
  Progress& progress_;
  Index done_ = 0;
};

/// Both measurements of one diagnosis are made on windows of one length, which it records once.
void SetContext(Diagnosis& out, Index length, bool measured_before, std::string_view option) {
  if (measured_before && out.context != length) {
    throw Error({.what = "windows of two lengths in one diagnosis",
                 .where = std::string(option),
                 .expected = std::to_string(out.context) + " tokens in a window",
                 .found = std::to_string(length)});
  }
  out.context = length;
}

void RequireWindows(View<const TokenId, 2> tokens, Index shortest, std::string_view option) {
  if (tokens.rows() >= 1 && tokens.cols() >= shortest) return;
  throw Error(
      {.what = "too few tokens to measure on",
       .where = std::string(option),
       .expected = "at least one window of " + std::to_string(shortest) + " tokens",
       .found = std::to_string(tokens.rows()) + " windows of " + std::to_string(tokens.cols())});
}

std::array<Matrix<double>, kUnits> EmptyGrams(const ModelConfig& config) {
  std::array<Matrix<double>, kUnits> grams;
  for (const Unit unit : kAllUnits) {
    const Index in = config.In(SitesOf(unit).front());
    grams[static_cast<std::size_t>(unit)] = Matrix<double>(in, in);
  }
  return grams;
}

/// Windows whose hidden states are held at once by the perplexity drop: two copies of 128 MiB. The
/// split depends on shapes alone.
Index ChunkWindows(Index length, Index hidden) {
  constexpr Index kFloats = Index{1} << 25;
  return std::max<Index>(1, kFloats / (length * hidden));
}

/// Sum over all positions, window by window. `run` names the model that was run.
double SumNll(Forward& forward, const Hidden& hidden, View<const TokenId, 2> tokens,
              View<double, 2> nll, const std::string& run) {
  try {
    forward.Nll(hidden, tokens, nll);
  } catch (const Error& error) {  // which of the L + 1 runs it was is known here alone
    Problem problem = error.problem();
    problem.where = run + ": " + problem.where;
    throw Error(std::move(problem));
  }
  double sum = 0;
  for (Index window = 0; window < nll.rows(); ++window) {
    double of_window = 0;
    for (const double value : nll.Row(window)) of_window += value;
    sum += of_window;
  }
  return sum;
}

}  // namespace

void MeasureSpectra(const Weights& weights, Device& device, View<const TokenId, 2> calibration,
                    const DiagnoseOptions& options, Context& context, Diagnosis& out) {
  CheckOptions(options);
  RequireWindows(calibration, 1, "calibration");
  SetContext(out, calibration.cols(), out.drop_windows.has_value(), "calibration");
  const ModelConfig& config = weights.config;
  out.layers.resize(Size(config.layers));
  Forward forward(weights, device, calibration.cols());
  Hidden hidden = forward.Embed(calibration);
  Stage stage(context.progress, "compactness", "layer", config.layers);
  for (Index layer = 0; layer < config.layers; ++layer) {
    context.ThrowIfStopped();
    std::array<Matrix<double>, kUnits> grams = EmptyGrams(config);
    forward.Layer(layer, hidden, [&](Unit unit, DeviceView<const float> input) {
      device.GramUpdate(input, grams[static_cast<std::size_t>(unit)].view());
    });
    device.Sync();
    const LayerSpectra spectra = MeasureLayer(weights.layers[Size(layer)], config, std::move(grams),
                                              calibration.size(), layer, options, context);
    weights.ReleaseLayer(layer);
    LayerDiagnosis& row = out.layers[Size(layer)];
    row.compactness = spectra.MeanCompactness();
    row.top_k_energy = spectra.MeanTopKEnergy();
    row.site_compactness.assign(spectra.compactness.begin(), spectra.compactness.end());
    row.site_top_k_energy.assign(spectra.top_k_energy.begin(), spectra.top_k_energy.end());
    stage.Done();
  }
  out.spectrum_windows = calibration.rows();
  out.seed = options.seed;
  out.twins = options.twins;
  out.top_fraction = options.top_fraction;
}

void MeasurePerplexityDrop(const Weights& weights, Device& device, View<const TokenId, 2> text,
                           Context& context, Diagnosis& out, Index chunk_windows) {
  LIEQ_ASSERT(chunk_windows >= 0);
  RequireWindows(text, 2, "text");
  SetContext(out, text.cols(), out.spectrum_windows > 0, "text");
  const Index layers = weights.config.layers, length = text.cols();
  const Index chunk = std::min(
      text.rows(), chunk_windows > 0 ? chunk_windows : ChunkWindows(length, weights.config.hidden));
  out.layers.resize(Size(layers));

  Forward forward(weights, device, length);
  const auto run_layer = [&](Index layer, Hidden& hidden) {
    forward.Layer(layer, hidden);
    weights.ReleaseLayer(layer);
  };
  std::vector<double> removed(Size(layers));  // sums of NLL
  double base = 0;
  Stage stage(context.progress, "perplexity drop", "layer", CeilDiv(text.rows(), chunk) * layers);
  for (Index begin = 0; begin < text.rows(); begin += chunk) {
    const View<const TokenId, 2> tokens = text.Rows(begin, std::min(chunk, text.rows() - begin));
    Matrix<double> nll(tokens.rows(), length - 1);
    Hidden whole = forward.Embed(tokens);
    Hidden without{device.Alloc(whole.x.rows(), whole.x.cols()), whole.windows, whole.length};
    for (Index layer = 0; layer < layers; ++layer) {
      device.Copy(whole.x.view(), without.x.view());
      for (Index later = layer + 1; later < layers; ++later) {
        context.ThrowIfStopped();
        run_layer(later, without);
      }
      removed[Size(layer)] += SumNll(forward, without, tokens, nll.view(),
                                     "with layer " + std::to_string(layer) + " left out");
      run_layer(layer, whole);
      stage.Done();
    }
    base += SumNll(forward, whole, tokens, nll.view(), "with all layers");
  }

  const auto scored = static_cast<double>(text.rows() * (length - 1));
  out.base_perplexity = std::exp(base / scored);
  out.drop_windows = text.rows();
  for (Index layer = 0; layer < layers; ++layer) {
    LayerDiagnosis& row = out.layers[Size(layer)];
    row.nll_drop = (removed[Size(layer)] - base) / scored;
    const double drop = std::exp(removed[Size(layer)] / scored) - *out.base_perplexity;
    row.perplexity_drop = std::isfinite(drop) ? std::optional(drop) : std::nullopt;
  }
}

}  // namespace lieq
