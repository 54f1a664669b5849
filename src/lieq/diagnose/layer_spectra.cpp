#include "lieq/diagnose/layer_spectra.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/diagnose/settings.h"
#include "lieq/diagnose/spectrum.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {
namespace {

constexpr int kMaxTwins = 1024;

/// One head of a linear, or the whole of it.
struct Head {
  Site site = Site::kQ;
  Index head = 0;
  Index heads = 1;  // of the site
  Index rows = 0;   // of the head
  Index in = 0;
};

/// One spectrum to be measured. The trained projection is counted as twin -1.
struct Task : Head {
  int twin = -1;
};

std::string Where(Index layer, std::string_view part) {
  return "layer " + std::to_string(layer) + ", " + std::string(part);
}

/// A stream for each (twin, layer, site, head): the ranges that CheckConfig and kMaxTwins allow do
/// not overlap in these bits.
std::uint64_t Stream(const Task& task, Index layer) {
  return static_cast<std::uint64_t>(task.head) | static_cast<std::uint64_t>(task.site) << 25 |
         static_cast<std::uint64_t>(layer) << 28 | static_cast<std::uint64_t>(task.twin) << 44;
}

Matrix<double> WidenHead(const AnyMatrix& weight, Index begin, Index rows) {
  Matrix<double> w(rows, Cols(weight));
  Matrix<float> row(1, w.cols());
  for (Index r = 0; r < rows; ++r) {
    WidenRows(weight, begin + r, row.view());
    std::copy_n(row.data(), w.cols(), w.view().Row(r).data());
  }
  return w;
}

/// Energies that are not finite are NaN in one of the two.
SpectrumMeasures MeasuresOf(std::vector<double> energies, const DiagnoseOptions& options) {
  if (options.settings.energies == Energies::kPlain) {
    for (double& energy : energies) energy = std::sqrt(energy);
  }
  // 1e-9: a tenth of 30 is three, however the product rounds.
  const double share = options.top_fraction * static_cast<double>(energies.size()) + 1e-9;
  const Index k = std::max<Index>(1, static_cast<Index>(std::floor(share)));
  return {EffectiveRank(energies), TopEnergy(energies, k)};
}

void RequireFinite(const SpectrumMeasures& measures, Site site, Index layer) {
  if (std::isfinite(measures.effective_rank) && std::isfinite(measures.top_energy)) return;
  throw Error(
      {.what = "outputs of a projection are not finite",
       .where = Where(layer, Name(site)),
       .expected = "finite weights and inputs",
       .hint = "the checkpoint holds NaN or infinite weights, or values too large to square"});
}

Matrix<double> TrainedHead(const Head& head, const LayerWeights& weights) {
  return WidenHead(weights.At(head.site).weight, head.head * head.rows, head.rows);
}

SpectrumMeasures Measure(const Task& task, const LayerWeights& weights, const InputFactor& inputs,
                         Index layer, const DiagnoseOptions& options) {
  Rng rng(options.seed, Stream(task, layer));
  Matrix<double> w =
      task.twin < 0 ? TrainedHead(task, weights) : RandomProjection(task.rows, task.in, rng);
  const SpectrumMeasures measures = MeasuresOf(Spectrum(w.view(), inputs), options);
  RequireFinite(measures, task.site, layer);
  return measures;
}

/// Site by site, head by head.
std::vector<Head> AllHeads(const ModelConfig& config, Index layer,
                           const SpectrumSettings& settings) {
  std::vector<Head> all;
  const bool attends = config.Shape(layer).mixer == Mixer::kAttention;
  for (const Site site : SitesOf(settings.projections)) {
    if (!config.Has(layer, site)) continue;
    const bool by_head = attends && UnitOf(site) == Unit::kQkv && settings.heads == Heads::kPerHead;
    // Experts are to an MLP what heads are to attention.
    const Index rows =
        by_head ? config.head_dim : config.Out(layer, site) / config.Parts(layer, site);
    const Index heads = config.Out(layer, site) / rows;
    for (Index head = 0; head < heads; ++head) {
      all.push_back({site, head, heads, rows, config.In(layer, site)});
    }
  }
  return all;
}

/// The trained projections first, then the same for each twin.
std::vector<Task> AllTasks(const std::vector<Head>& heads, int twins) {
  std::vector<Task> tasks;
  for (int twin = -1; twin < twins; ++twin) {
    for (const Head& head : heads) tasks.push_back({head, twin});
  }
  return tasks;
}

/// Long tasks first, so that no thread is left with one at the end.
template <class T>
std::vector<std::size_t> LongestFirst(const std::vector<T>& tasks) {
  std::vector<std::size_t> order(tasks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto cost = [&](std::size_t i) {  // arithmetic of W L; eigenvalues go the same way
    return static_cast<double>(tasks[i].rows) * static_cast<double>(tasks[i].in * tasks[i].in);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return cost(a) > cost(b); });
  return order;
}

/// The factors of the units that are measured, which come first in order.
std::vector<InputFactor> FactorAll(std::array<Matrix<double>, kUnits> grams, Index tokens,
                                   Projections projections, Index layer, Context& context) {
  const Index units = projections == Projections::kAll ? kUnits : 1;
  std::vector<InputFactor> factors(Size(units));
  context.pool.ParallelFor(units, [&](Index task, int) {
    const auto unit = Size(units - 1 - task);  // down, the widest, first
    std::optional<InputFactor> factor = FactorInputs(std::move(grams[unit]), tokens);
    if (!factor) {
      throw Error({.what = "inputs of a projection have no usable second moments",
                   .where = Where(layer, Name(kAllUnits[unit])),
                   .expected = "finite activations that can be squared and added up",
                   .hint = "the checkpoint is damaged, or a layer before this one overflows"});
    }
    factors[unit] = std::move(*factor);
  });
  for (std::size_t unit = 0; unit < factors.size(); ++unit) {
    if (factors[unit].ridge == 0) continue;
    context.log.Debug(fmt::format(
        "{}: inputs depend on one another; each diagonal entry raised by {:g} of itself",
        Where(layer, Name(kAllUnits[unit])), factors[unit].ridge));
  }
  return factors;
}

/// The mean over the twins of one head, whose measures stand `step` apart.
SpectrumMeasures MeanOfTwins(std::span<const SpectrumMeasures> measured, std::size_t step,
                             int twins) {
  SpectrumMeasures mean;
  for (std::size_t twin = 0; twin < Size(twins); ++twin) {
    mean.effective_rank += measured[twin * step].effective_rank / twins;
    mean.top_energy += measured[twin * step].top_energy / twins;
  }
  return mean;
}

/// Adds one head to the mean of its site. The sites measured are the first of all.
void AddHead(const Head& head, const SpectrumMeasures& trained, const SpectrumMeasures& random,
             LayerSpectra& spectra) {
  const auto site = static_cast<std::size_t>(head.site);
  const auto share = static_cast<double>(head.heads);
  const double rank = random.effective_rank;
  const double drop = rank == 0 ? 0 : (rank - trained.effective_rank) / rank;
  spectra.compactness[site] += drop / share;
  spectra.top_k_energy[site] += (trained.top_energy - random.top_energy) / share;
  const Unit unit = UnitOf(head.site);
  if (spectra.expert_compactness.empty() || (unit != Unit::kGateUp && unit != Unit::kDown)) return;
  constexpr double kLinears = 3;  // gate, up, down
  spectra.expert_compactness[Size(head.head)] += drop / kLinears;
  spectra.expert_top_k_energy[Size(head.head)] +=
      (trained.top_energy - random.top_energy) / kLinears;
}

/// NaN of linears that the layer has not.
LayerSpectra EmptySpectra(const ModelConfig& config, Index layer, Projections projections) {
  std::vector<double> sites;
  for (const Site site : SitesOf(projections)) {
    sites.push_back(config.Has(layer, site) ? 0.0 : std::nan(""));
  }
  std::vector<double> experts;
  if (config.Shape(layer).experts && projections == Projections::kAll) {
    experts.resize(Size(config.experts.count));
  }
  return {sites, sites, experts, experts};
}

double Mean(std::span<const double> values) {
  double sum = 0, count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return sum / count;
}

}  // namespace

void CheckOptions(const DiagnoseOptions& options) {
  if (options.twins < 1 || options.twins > kMaxTwins) {
    throw Error({.what = "number of random projections out of range",
                 .where = "diagnose options: twins",
                 .expected = "1 to " + std::to_string(kMaxTwins),
                 .found = std::to_string(options.twins)});
  }
  if (!(options.top_fraction > 0 && options.top_fraction <= 1)) {
    throw Error({.what = "share of the spectrum out of range",
                 .where = "diagnose options: top_fraction",
                 .expected = "above 0, at most 1",
                 .found = std::to_string(options.top_fraction)});
  }
}

double LayerSpectra::MeanCompactness() const noexcept {
  return Mean(compactness);
}
double LayerSpectra::MeanTopKEnergy() const noexcept {
  return Mean(top_k_energy);
}

LayerSpectra MeasureLayer(const LayerWeights& weights, const ModelConfig& config,
                          std::array<Matrix<double>, kUnits> grams, Index tokens, Index layer,
                          const DiagnoseOptions& options, Context& context) {
  CheckOptions(options);
  LIEQ_ASSERT(options.settings.inputs == SpectrumInputs::kActivations);
  const Projections projections = options.settings.projections;
  const std::vector<InputFactor> factors =
      FactorAll(std::move(grams), tokens, projections, layer, context);
  const std::vector<Head> heads = AllHeads(config, layer, options.settings);
  const std::vector<Task> tasks = AllTasks(heads, options.twins);
  const std::vector<std::size_t> order = LongestFirst(tasks);
  std::vector<SpectrumMeasures> measured(tasks.size());
  context.pool.ParallelFor(static_cast<Index>(tasks.size()), [&](Index i, int) {
    context.ThrowIfStopped();
    const std::size_t index = order[Size(i)];
    const Task& task = tasks[index];
    const InputFactor& inputs = factors[static_cast<std::size_t>(UnitOf(task.site))];
    measured[index] = Measure(task, weights, inputs, layer, options);
  });

  LayerSpectra result = EmptySpectra(config, layer, projections);
  for (std::size_t head = 0; head < heads.size(); ++head) {
    const auto twins = std::span(measured).subspan(heads.size() + head);
    AddHead(heads[head], measured[head], MeanOfTwins(twins, heads.size(), options.twins), result);
  }
  return result;
}

TwinTable MeasureTwins(const ModelConfig& config, const DiagnoseOptions& options,
                       Context& context) {
  CheckOptions(options);
  std::vector<Head> shapes;  // the first head of each
  TwinTable table;
  for (Index layer = 0; layer < config.layers; ++layer) {
    if (layer > 0 && config.Shape(layer).mixer == config.Shape(layer - 1).mixer &&
        config.Shape(layer).experts == config.Shape(layer - 1).experts) {
      continue;
    }
    for (const Head& head : AllHeads(config, layer, options.settings)) {
      if (table.try_emplace({head.rows, head.in}).second) shapes.push_back(head);
    }
  }
  std::vector<Task> tasks = AllTasks(shapes, options.twins);
  tasks.erase(tasks.begin(), tasks.begin() + static_cast<std::ptrdiff_t>(shapes.size()));
  const std::vector<std::size_t> order = LongestFirst(tasks);
  std::vector<SpectrumMeasures> measured(tasks.size());
  context.pool.ParallelFor(static_cast<Index>(tasks.size()), [&](Index i, int) {
    context.ThrowIfStopped();
    const Task& task = tasks[order[Size(i)]];
    Rng rng(options.seed, Stream(task, 0));
    // Without inputs W~ and its transpose have the same singular values: the smaller factor.
    const Index longer = std::max(task.rows, task.in), shorter = std::min(task.rows, task.in);
    const Matrix<double> r = RandomProjection(longer, shorter, rng);
    measured[order[Size(i)]] = MeasuresOf(WeightSpectrum(r.view()), options);
  });
  for (std::size_t shape = 0; shape < shapes.size(); ++shape) {
    table[{shapes[shape].rows, shapes[shape].in}] =
        MeanOfTwins(std::span(measured).subspan(shape), shapes.size(), options.twins);
  }
  return table;
}

LayerSpectra MeasureLayerWeights(const LayerWeights& weights, const ModelConfig& config,
                                 const TwinTable& twins, Index layer,
                                 const DiagnoseOptions& options, Context& context) {
  LIEQ_ASSERT(options.settings.inputs == SpectrumInputs::kWeights);
  const std::vector<Head> heads = AllHeads(config, layer, options.settings);
  const std::vector<std::size_t> order = LongestFirst(heads);
  std::vector<SpectrumMeasures> measured(heads.size());
  context.pool.ParallelFor(static_cast<Index>(heads.size()), [&](Index i, int) {
    context.ThrowIfStopped();
    const std::size_t index = order[Size(i)];
    const Matrix<double> w = TrainedHead(heads[index], weights);
    measured[index] = MeasuresOf(WeightSpectrum(w.view()), options);
    RequireFinite(measured[index], heads[index].site, layer);
  });

  LayerSpectra result = EmptySpectra(config, layer, options.settings.projections);
  for (std::size_t head = 0; head < heads.size(); ++head) {
    AddHead(heads[head], measured[head], twins.at({heads[head].rows, heads[head].in}), result);
  }
  return result;
}

}  // namespace lieq
