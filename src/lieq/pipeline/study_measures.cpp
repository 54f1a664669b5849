#include "lieq/pipeline/study_measures.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "lieq/base/statistics.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/evaluate/piece_numbers.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/plan/rankings.h"

namespace lieq {
namespace {

/// Mean over the drawn windows of each layer's value.
std::vector<double> Resampled(const LayerWindows& layers, std::span<const Index> windows) {
  std::vector<double> means;
  for (const std::vector<double>& values : layers) {
    double sum = 0;
    for (const Index window : windows) sum += values[Size(window)];
    means.push_back(sum / static_cast<double>(windows.size()));
  }
  return means;
}

std::vector<Index> Count(Index count) {
  std::vector<Index> indices;
  for (Index i = 0; i < count; ++i) indices.push_back(i);
  return indices;
}

/// The experts of a layer in floats, one of which at a time is what its codes stand for.
class OneExpert {
 public:
  OneExpert(const LayerWeights& layer, Index experts) : layer_(&layer), experts_(experts) {}

  /// The layer with this expert on the grid: it holds until the next call. The layer of the codes
  /// is `coded`.
  [[nodiscard]] LayerWeights With(Index expert, const LayerWeights& coded) {
    LayerWeights weights = *layer_;
    for (std::size_t i = 0; i < kSitesOfMlp.size(); ++i) {
      const AnyMatrix& whole = layer_->At(kSitesOfMlp[i]).weight;
      Matrix<float>& floats = floats_[i];
      const Index rows = Rows(whole) / experts_;
      if (floats.size() == 0) {
        floats = Matrix<float>(Rows(whole), Cols(whole));
        WidenRows(whole, 0, floats.view());
      } else {
        WidenRows(whole, changed_ * rows, floats.view().Rows(changed_ * rows, rows));
      }
      WidenRows(coded.At(kSitesOfMlp[i]).weight, expert * rows,
                floats.view().Rows(expert * rows, rows));
      weights.At(kSitesOfMlp[i]).weight = View<const float, 2>(std::as_const(floats).view());
    }
    changed_ = expert;
    return weights;
  }

 private:
  static constexpr std::array kSitesOfMlp{Site::kGate, Site::kUp, Site::kDown};

  const LayerWeights* layer_;
  Index experts_;
  Index changed_ = 0;
  std::array<Matrix<float>, kSitesOfMlp.size()> floats_;
};

/// What MeasureForRanking says of a layer.
std::string PieceOf(const LayerDiagnosis& row) {
  const std::vector<std::vector<double>> numbers{
      {row.compactness.value(), row.top_k_energy.value(), row.block_influence.value(),
       row.largest_activation.value(), row.activation_ratio.value()},
      row.site_compactness,
      row.site_top_k_energy,
      row.expert_compactness,
      row.expert_top_k_energy};
  return PieceOfNumbers(numbers);
}

/// Throws Error naming the piece where it has another form.
void TakeSpectra(const std::string& piece, const std::string& key, const ModelConfig& config,
                 LayerDiagnosis& row) {
  // Sites and experts are there or not, as the layer has them.
  const Json json = ParseJson(piece, key);
  const auto length = [&](std::size_t i, std::size_t most) -> std::size_t {
    const bool none = json.is_array() && i < json.size() && json[i].is_array() && json[i].empty();
    return none ? 0 : most;
  };
  const std::size_t sites = length(1, kSites), experts = length(3, Size(config.experts.count));
  const std::vector<std::size_t> lengths{5, sites, sites, experts, experts};
  std::vector<std::vector<double>> numbers = NumbersOfPiece(piece, lengths, key);
  row.compactness = numbers[0][0];
  row.top_k_energy = numbers[0][1];
  row.block_influence = numbers[0][2];
  row.largest_activation = numbers[0][3];
  row.activation_ratio = numbers[0][4];
  row.site_compactness = std::move(numbers[1]);
  row.site_top_k_energy = std::move(numbers[2]);
  row.expert_compactness = std::move(numbers[3]);
  row.expert_top_k_energy = std::move(numbers[4]);
}

/// What MeasurePerplexityDrop says: of the model, then of each layer.
std::string PieceOfDrop(const Diagnosis& diagnosis) {
  std::vector<std::vector<double>> numbers{{*diagnosis.base_perplexity}};
  for (const LayerDiagnosis& row : diagnosis.layers) {
    std::vector<double>& its = numbers.emplace_back(row.window_nll_drop);
    its.push_back(*row.nll_drop);
    its.push_back(row.perplexity_drop.value_or(std::nan("")));
  }
  return PieceOfNumbers(numbers);
}

/// Throws Error naming the piece where it has another form.
void TakeDrop(const std::string& piece, const std::string& key, Index windows,
              Diagnosis& diagnosis) {
  std::vector<std::size_t> lengths(1 + diagnosis.layers.size(), Size(windows) + 2);
  lengths.front() = 1;
  std::vector<std::vector<double>> numbers = NumbersOfPiece(piece, lengths, key);
  diagnosis.base_perplexity = numbers[0][0];
  diagnosis.drop_windows = windows;
  for (std::size_t layer = 0; layer < diagnosis.layers.size(); ++layer) {
    std::vector<double>& its = numbers[1 + layer];
    LayerDiagnosis& row = diagnosis.layers[layer];
    row.perplexity_drop = std::isnan(its.back()) ? std::nullopt : std::optional(its.back());
    its.pop_back();
    row.nll_drop = its.back();
    its.pop_back();
    row.window_nll_drop = std::move(its);
  }
}

}  // namespace

Diagnosis Diagnose(StudyBench& bench, const EncodedText& calibration) {
  const auto measured = [&](std::optional<std::vector<Index>> layers) {
    return MeasureForRanking(bench.model, bench.model_hash, calibration, bench.request.run.seed,
                             bench.session, /*spectra=*/true, std::move(layers));
  };
  if (bench.pieces() == nullptr) return measured(std::nullopt);
  Diagnosis diagnosis = measured(std::vector<Index>());
  std::vector<std::string> keys;
  for (std::size_t layer = 0; layer < diagnosis.layers.size(); ++layer) {
    keys.push_back(fmt::format("spectra of layer {} on {}", layer, calibration.hash));
  }
  const std::vector<std::string> pieces = bench.ForAll(keys, [&](const std::vector<Index>& layers) {
    const Diagnosis own = measured(layers);
    std::vector<std::string> made;
    for (const Index layer : layers) made.push_back(PieceOf(own.layers[Size(layer)]));
    return made;
  });
  for (std::size_t layer = 0; layer < pieces.size(); ++layer) {
    TakeSpectra(pieces[layer], keys[layer], bench.model.weights.config, diagnosis.layers[layer]);
  }
  return diagnosis;
}

void AddPerplexityDrop(StudyBench& bench, const EncodedText& calibration, Diagnosis& diagnosis) {
  const Windows windows = SpectrumWindows(calibration);
  const auto measure = [&](Diagnosis& into) {
    MeasurePerplexityDrop(bench.model.weights, bench.session.device(), windows.view(),
                          bench.session.context(), into);
  };
  if (bench.pieces() == nullptr) return measure(diagnosis);
  const std::string key = "perplexity drop on " + calibration.hash;
  const std::vector<std::string> pieces = bench.ForAll({key}, [&](const std::vector<Index>&) {
    Diagnosis made;
    measure(made);
    return std::vector{PieceOfDrop(made)};
  });
  TakeDrop(pieces.front(), key, windows.count, diagnosis);
}

std::vector<double> ScoreBy(StudyBench& bench, std::string_view ranking,
                            const Diagnosis& diagnosis) {
  return Score(FindRanking(ranking), diagnosis, ReadRankingOptions(bench.request.run));
}

Record Correlation(const LayerWindows& x, const LayerWindows& y, Index windows,
                   std::uint64_t seed) {
  const bool fixed = x.front().size() == 1;
  const Statistic rho = [&](std::span<const Index> drawn) {
    const std::vector<Index> first{0};
    return SpearmanRho(fixed ? Resampled(x, first) : Resampled(x, drawn), Resampled(y, drawn));
  };
  Record row;
  const auto value = rho(Count(windows));
  if (!value) return row;
  row["rho"] = *value;
  const auto interval = Bootstrap(windows, rho, {.seed = seed});
  if (interval && windows > 1) {
    row["low"] = interval->low;
    row["high"] = interval->high;
  }
  return row;
}

LayerWindows Columns(const std::vector<double>& values) {
  LayerWindows columns;
  for (const double value : values) columns.push_back({value});
  return columns;
}

std::vector<LayerVariant> LayersOnGrid(Index layers, const CodeStore& store, const Grid& grid) {
  std::vector<LayerVariant> variants;
  for (Index layer = 0; layer < layers; ++layer) {
    variants.push_back({.layer = layer, .weights = [&, layer] {
                          std::array<const Grid*, kUnits> all;
                          all.fill(&grid);
                          return store.Layer(layer, all);
                        }});
  }
  return variants;
}

std::vector<LayerVariant> ExpertsOnGrid(const Weights& weights, const CodeStore& store,
                                        const Grid& grid) {
  std::vector<LayerVariant> variants;
  auto held = std::make_shared<std::optional<OneExpert>>();  // of the layer that is measured
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    if (!weights.config.Shape(layer).experts) continue;
    const Index experts = weights.config.experts.count;
    auto coded = std::make_shared<std::optional<LayerWeights>>();
    for (Index expert = 0; expert < experts; ++expert) {
      variants.push_back(
          {.layer = layer,
           .weights = [&weights, &store, &grid, held, coded, layer, expert, experts] {
             if (expert == 0) {
               std::array<const Grid*, kUnits> grids{};
               grids[static_cast<std::size_t>(Unit::kGateUp)] = &grid;
               grids[static_cast<std::size_t>(Unit::kDown)] = &grid;
               *coded = store.Layer(layer, grids);
               held->emplace(weights.layers[Size(layer)], experts);
             }
             LayerWeights changed = (*held)->With(expert, **coded);
             if (expert + 1 == experts) coded->reset();
             return changed;
           }});
    }
  }
  return variants;
}

}  // namespace lieq
