// The row permute.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lieq/transform/channels.h"
#include "lieq/transform/transform_rows.h"

namespace lieq {
namespace {

using Order = std::vector<Index>;  // new position -> old

/// What channels are sorted by, largest first.
struct Key {
  std::string_view name;
  bool inputs, weights;  // the product of the channel's mean square and of its largest weight's
};
constexpr std::array kKeys{Key{"input size", true, false}, Key{"weight size", false, true},
                           Key{"output share", true, true}};

std::vector<double> Sizes(const Key& key, View<const float, 2> w, const UnitStatistics& input,
                          const InputChannels& channels) {
  std::vector<double> inputs(Size(channels.count)), weights(Size(channels.count));
  for (Index j = 0; j < w.cols(); ++j) {
    const auto c = Size(channels.channel[Size(j)]);
    inputs[c] += input.gram(j, j);
    for (Index r = 0; r < w.rows(); ++r) {
      weights[c] = std::max(weights[c], std::fabs(static_cast<double>(w(r, j))));
    }
  }
  std::vector<double> sizes(Size(channels.count), 1.0);
  for (std::size_t c = 0; c < sizes.size(); ++c) {
    if (key.inputs) sizes[c] *= inputs[c];
    if (key.weights) sizes[c] *= weights[c] * weights[c];
  }
  return sizes;
}

/// Channels by falling size inside each run of `run` channels; equal ones stay in order.
Order Sorted(const std::vector<double>& sizes, Index run) {
  Order order(sizes.size());
  std::iota(order.begin(), order.end(), Index{0});
  for (auto first = order.begin(); first != order.end(); first += run) {
    std::stable_sort(first, first + run,
                     [&](Index a, Index b) { return sizes[Size(a)] > sizes[Size(b)]; });
  }
  return order;
}

/// The same for the columns that read the channels: column j takes that of the same head.
Order ColumnOrder(const Order& order, const InputChannels& channels) {
  Order columns(channels.channel.size());
  for (std::size_t j = 0; j < columns.size(); ++j) {
    const Index c = channels.channel[j];
    columns[j] = static_cast<Index>(j) + order[Size(c)] - c;
  }
  return columns;
}

Matrix<float> PermutedColumns(View<const float, 2> w, const Order& order) {
  Matrix<float> result(w.rows(), w.cols());
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index c = 0; c < w.cols(); ++c) result(r, c) = w(r, order[Size(c)]);
  }
  return result;
}

Matrix<float> PermutedRows(View<const float, 2> w, const Order& order) {
  Matrix<float> result(w.rows(), w.cols());
  for (Index r = 0; r < w.rows(); ++r)
    std::ranges::copy(w.Row(order[Size(r)]), result.view().Row(r).begin());
  return result;
}

UnitStatistics Permuted(const UnitStatistics& input, const Order& order) {
  const Matrix<double>& gram = input.gram.host();
  const Index n = gram.rows();
  Matrix<double> permuted(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) permuted(i, j) = gram(order[Size(i)], order[Size(j)]);
  }
  return {.gram = std::move(permuted), .drift = {}, .missing = {}};
}

void PermuteUnit(Unit unit, std::span<const Site> writers, Index run, const LayerTask& task,
                 FloatLayer& layer, UnitChoice& choice) {
  const Site reader = SitesOf(unit).front();
  const Grid& grid = task.grids[static_cast<std::size_t>(reader)];
  UnitStatistics& input = task.inputs[static_cast<std::size_t>(unit)];
  Matrix<float>& w = layer.At(reader);
  const InputChannels channels = ChannelsOf(unit, task.config);
  const auto error = [&](const Matrix<float>& linear, const UnitStatistics& statistics) {
    const std::array one{linear.view()};
    return RoundingError({one.data(), 1}, grid, statistics, true, task);
  };
  const Matrix<float>& given = w;
  choice = {.choice = "none", .before = error(given, input), .after = 0};
  choice.after = choice.before;
  if (GroupColumns(grid, w.cols()) == w.cols()) return;  // one group: its order is nothing to it
  Order best;
  for (const Key& key : kKeys) {
    const Order order = Sorted(Sizes(key, given.view(), input, channels), run);
    const Order columns = ColumnOrder(order, channels);
    const double after = error(PermutedColumns(given.view(), columns), Permuted(input, columns));
    // Sums in another order differ by rounding: such a gain is none.
    if (!(after < choice.after * (1 - 1e-9))) continue;
    choice.after = after;
    choice.choice = key.name;
    best = order;
  }
  if (best.empty()) return;
  const Order columns = ColumnOrder(best, channels);
  w = PermutedColumns(given.view(), columns);
  input = Permuted(input, columns);
  for (const Site site : writers) {
    layer.At(site) = PermutedRows(std::as_const(layer.At(site)).view(), best);
    std::vector<float>& bias = layer.Bias(site);
    if (bias.empty()) continue;
    const std::vector<float> old = bias;
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = old[Size(best[i])];
  }
}

}  // namespace

void PermuteLayer(const LayerTask& task, FloatLayer& layer, LayerChoices& choices) {
  const auto choice = [&](Unit unit) -> UnitChoice& {
    return choices[static_cast<std::size_t>(unit)];
  };
  constexpr std::array kValues{Site::kV};
  constexpr std::array kGated{Site::kGate, Site::kUp};
  PermuteUnit(Unit::kO, kValues, task.config.head_dim, task, layer, choice(Unit::kO));
  PermuteUnit(Unit::kDown, kGated, task.config.intermediate, task, layer, choice(Unit::kDown));
}

}  // namespace lieq
