#include "lieq/diagnose/diagnose.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/diagnose/activations.h"
#include "lieq/diagnose/settings.h"
#include "lieq/model/forward.h"

namespace lieq {
namespace {

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

/// Null for units that are not measured.
std::array<std::unique_ptr<PlacedSums<double>>, kUnits> EmptyGrams(const ModelConfig& config,
                                                                   Index layer,
                                                                   Projections projections,
                                                                   CalibrationOps& sums) {
  std::array<std::unique_ptr<PlacedSums<double>>, kUnits> grams;
  for (const Site site : SitesOf(projections)) {
    auto& gram = grams[static_cast<std::size_t>(UnitOf(site))];
    if (gram == nullptr) gram = sums.MakeGram(config.In(layer, site));
  }
  return grams;
}

/// Windows whose hidden states are held at once by the perplexity drop: two copies of 128 MiB. The
/// split depends on shapes alone.
Index ChunkWindows(Index length, Index hidden) {
  constexpr Index kFloats = Index{1} << 25;
  return std::max<Index>(1, kFloats / (length * hidden));
}

/// Sums over the positions of each window. `run` names the model that was run.
void SumNll(Forward& forward, const Hidden& hidden, View<const TokenId, 2> tokens,
            View<double, 2> nll, const std::string& run, std::span<double> sums) {
  try {
    forward.Nll(hidden, tokens, nll);
  } catch (const Error& error) {  // which of the L + 1 runs it was is known here alone
    Problem problem = error.problem();
    problem.where = run + ": " + problem.where;
    throw Error(std::move(problem));
  }
  for (Index window = 0; window < nll.rows(); ++window) {
    double sum = 0;
    for (const double value : nll.Row(window)) sum += value;
    sums[Size(window)] = sum;
  }
}

double Sum(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

void SetSpectra(const LayerSpectra& spectra, LayerDiagnosis& row) {
  row.compactness = spectra.MeanCompactness();
  row.top_k_energy = spectra.MeanTopKEnergy();
  row.expert_compactness = spectra.expert_compactness;
  row.expert_top_k_energy = spectra.expert_top_k_energy;
  // Layers without some of the linears have the means alone.
  if (std::ranges::any_of(spectra.compactness, [](double each) { return std::isnan(each); }))
    return;
  row.site_compactness = spectra.compactness;
  row.site_top_k_energy = spectra.top_k_energy;
}

void SetProvenance(const DiagnoseOptions& options, Diagnosis& out) {
  out.seed = options.seed;
  if (!options.spectra) return;
  out.twins = options.twins;
  out.top_fraction = options.top_fraction;
  out.settings = options.settings;
}

}  // namespace

void MeasureSpectra(const Weights& weights, Device& device, View<const TokenId, 2> calibration,
                    const DiagnoseOptions& options, Context& context, Diagnosis& out) {
  CheckOptions(options);
  LIEQ_ASSERT(options.settings.inputs == SpectrumInputs::kActivations);
  RequireWindows(calibration, 1, "calibration");
  SetContext(out, calibration.cols(), out.drop_windows.has_value(), "calibration");
  const ModelConfig& config = weights.config;
  out.layers.resize(Size(config.layers));
  out.spectrum_windows = calibration.rows();
  SetProvenance(options, out);
  const auto is_wanted = [&](Index layer) {
    return !options.layers || std::ranges::binary_search(*options.layers, layer);
  };
  if (options.layers && options.layers->empty()) return;
  const Index passed = options.layers ? options.layers->back() + 1 : config.layers;
  Forward forward(weights, device, calibration.cols());
  Hidden hidden = forward.Embed(calibration);
  Matrix<float> before(calibration.size(), config.hidden), after = before.Clone();
  device.Download(hidden.x.view(), before.view());
  Stage stage(context.progress, options.spectra ? "compactness" : "block influence", "layer",
              passed);
  for (Index layer = 0; layer < passed; ++layer) {
    context.ThrowIfStopped();
    if (!is_wanted(layer)) {
      forward.Layer(layer, hidden);
      device.Download(hidden.x.view(), before.view());
      weights.ReleaseLayer(layer);
      stage.Done();
      continue;
    }
    LayerDiagnosis& row = out.layers[Size(layer)];
    if (options.spectra) {
      CalibrationOps& sums = RequireCalibration(device);
      const auto placed = EmptyGrams(config, layer, options.settings.projections, sums);
      forward.Layer(layer, hidden, [&](Unit unit, DeviceView<const float> input) {
        const auto& gram = placed[static_cast<std::size_t>(unit)];
        if (gram != nullptr) sums.GramUpdate(input, *gram);
      });
      std::array<Matrix<double>, kUnits> grams;
      std::ranges::transform(placed, grams.begin(), [](const auto& gram) {
        return gram != nullptr ? gram->Take() : Matrix<double>();
      });
      SetSpectra(MeasureLayer(weights.layers[Size(layer)], config, std::move(grams),
                              calibration.size(), layer, options, context),
                 row);
    } else {
      forward.Layer(layer, hidden);
    }
    device.Download(hidden.x.view(), after.view());
    const ActivationMeasures activations =
        MeasureActivations(before.view(), after.view(), layer, context);
    row.block_influence = activations.block_influence;
    row.largest_activation = activations.largest;
    row.activation_ratio = activations.ratio;
    std::swap(before, after);
    weights.ReleaseLayer(layer);
    stage.Done();
  }
}

void MeasureWeightSpectra(const Weights& weights, const DiagnoseOptions& options, Context& context,
                          Diagnosis& out) {
  CheckOptions(options);
  LIEQ_ASSERT(options.spectra && options.settings.inputs == SpectrumInputs::kWeights);
  const ModelConfig& config = weights.config;
  out.layers.resize(Size(config.layers));
  Stage stage(context.progress, "compactness of weights", "layer", config.layers);
  const TwinTable twins = MeasureTwins(config, options, context);
  for (Index layer = 0; layer < config.layers; ++layer) {
    context.ThrowIfStopped();
    SetSpectra(
        MeasureLayerWeights(weights.layers[Size(layer)], config, twins, layer, options, context),
        out.layers[Size(layer)]);
    weights.ReleaseLayer(layer);
    stage.Done();
  }
  SetProvenance(options, out);
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
  Matrix<double> removed(layers, text.rows());  // sums of NLL
  std::vector<double> base(Size(text.rows()));
  Stage stage(context.progress, "perplexity drop", "layer", CeilDiv(text.rows(), chunk) * layers);
  for (Index begin = 0; begin < text.rows(); begin += chunk) {
    const View<const TokenId, 2> tokens = text.Rows(begin, std::min(chunk, text.rows() - begin));
    const auto part = [&](std::span<double> all) {
      return all.subspan(Size(begin), Size(tokens.rows()));
    };
    Matrix<double> nll(tokens.rows(), length - 1);
    Hidden whole = forward.Embed(tokens);
    Hidden without{device.Alloc(whole.x.rows(), whole.x.cols()), whole.windows, whole.length};
    for (Index layer = 0; layer < layers; ++layer) {
      device.Copy(whole.x.view(), without.x.view());
      for (Index later = layer + 1; later < layers; ++later) {
        context.ThrowIfStopped();
        run_layer(later, without);
      }
      SumNll(forward, without, tokens, nll.view(),
             "with layer " + std::to_string(layer) + " left out", part(removed.view().Row(layer)));
      run_layer(layer, whole);
      stage.Done();
    }
    SumNll(forward, whole, tokens, nll.view(), "with all layers", part(base));
  }

  const auto in_window = static_cast<double>(length - 1);
  const double scored = in_window * static_cast<double>(text.rows());
  out.base_perplexity = std::exp(Sum(base) / scored);
  out.drop_windows = text.rows();
  for (Index layer = 0; layer < layers; ++layer) {
    LayerDiagnosis& row = out.layers[Size(layer)];
    const std::span<const double> sums = removed.view().Row(layer);
    row.nll_drop = (Sum(sums) - Sum(base)) / scored;
    const double drop = std::exp(Sum(sums) / scored) - *out.base_perplexity;
    row.perplexity_drop = std::isfinite(drop) ? std::optional(drop) : std::nullopt;
    row.window_nll_drop.clear();
    for (std::size_t i = 0; i < base.size(); ++i) {
      row.window_nll_drop.push_back((sums[i] - base[i]) / in_window);
    }
  }
}

}  // namespace lieq
