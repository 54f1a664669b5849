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
#include "lieq/diagnose/spectrum.h"
#include "lieq/tensor/any_matrix.h"

namespace lieq {
namespace {

constexpr int kMaxTwins = 1024;

/// One spectrum to be measured. The trained projection is counted as twin -1.
struct Task {
  Site site = Site::kQ;
  Index head = 0;
  Index heads = 1;
  int twin = -1;
  Index rows = 0;  // of the head
  Index in = 0;
};

struct Measured {
  double effective_rank = 0;
  double top_energy = 0;
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

Measured Measure(const Task& task, const LayerWeights& weights, const InputFactor& inputs,
                 Index layer, const DiagnoseOptions& options) {
  Rng rng(options.seed, Stream(task, layer));
  Matrix<double> w = task.twin < 0
                         ? WidenHead(weights.At(task.site).weight, task.head * task.rows, task.rows)
                         : RandomProjection(task.rows, task.in, rng);
  const std::vector<double> energies = Spectrum(w.view(), inputs);
  // 1e-9: a tenth of 30 is three, however the product rounds.
  const double share = options.top_fraction * static_cast<double>(energies.size()) + 1e-9;
  const Index k = std::max<Index>(1, static_cast<Index>(std::floor(share)));
  const Measured measured{EffectiveRank(energies), TopEnergy(energies, k)};
  if (std::isfinite(measured.effective_rank) && std::isfinite(measured.top_energy)) return measured;
  throw Error(
      {.what = "outputs of a projection are not finite",
       .where = Where(layer, Name(task.site)),
       .expected = "finite weights and inputs",
       .hint = "the checkpoint holds NaN or infinite weights, or values too large to square"});
}

/// The trained projections first, site by site and head by head, then the same for each twin.
std::vector<Task> AllTasks(const ModelConfig& config, int twins) {
  std::vector<Task> tasks;
  for (int twin = -1; twin < twins; ++twin) {
    for (const Site site : kAllSites) {
      const bool by_head = UnitOf(site) == Unit::kQkv;
      const Index rows = by_head ? config.head_dim : config.Out(site);
      const Index heads = config.Out(site) / rows;
      for (Index head = 0; head < heads; ++head) {
        tasks.push_back({site, head, heads, twin, rows, config.In(site)});
      }
    }
  }
  return tasks;
}

/// Long tasks first, so that no thread is left with one at the end.
std::vector<std::size_t> LongestFirst(const std::vector<Task>& tasks) {
  std::vector<std::size_t> order(tasks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto cost = [&](std::size_t i) {  // arithmetic of W L; eigenvalues go the same way
    return static_cast<double>(tasks[i].rows) * static_cast<double>(tasks[i].in * tasks[i].in);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return cost(a) > cost(b); });
  return order;
}

std::array<InputFactor, kUnits> FactorAll(std::array<Matrix<double>, kUnits> grams, Index tokens,
                                          Index layer, Context& context) {
  std::array<InputFactor, kUnits> factors;
  context.pool.ParallelFor(kUnits, [&](Index task, int) {
    const auto unit = Size(kUnits - 1 - task);  // down, the widest, first
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

double Mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
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
  const std::array<InputFactor, kUnits> factors =
      FactorAll(std::move(grams), tokens, layer, context);
  const std::vector<Task> tasks = AllTasks(config, options.twins);
  const std::vector<std::size_t> order = LongestFirst(tasks);
  std::vector<Measured> measured(tasks.size());
  context.pool.ParallelFor(static_cast<Index>(tasks.size()), [&](Index i, int) {
    context.ThrowIfStopped();
    const std::size_t index = order[Size(i)];
    const Task& task = tasks[index];
    const InputFactor& inputs = factors[static_cast<std::size_t>(UnitOf(task.site))];
    measured[index] = Measure(task, weights, inputs, layer, options);
  });

  const std::size_t heads = tasks.size() / Size(options.twins + 1);  // of all sites together
  LayerSpectra result;
  for (std::size_t head = 0; head < heads; ++head) {
    double rank = 0, energy = 0;
    for (std::size_t twin = 1; twin <= Size(options.twins); ++twin) {
      rank += measured[twin * heads + head].effective_rank / options.twins;
      energy += measured[twin * heads + head].top_energy / options.twins;
    }
    const auto site = static_cast<std::size_t>(tasks[head].site);
    const auto share = static_cast<double>(tasks[head].heads);
    const double drop = rank == 0 ? 0 : (rank - measured[head].effective_rank) / rank;
    result.compactness[site] += drop / share;
    result.top_k_energy[site] += (measured[head].top_energy - energy) / share;
  }
  return result;
}

}  // namespace lieq
