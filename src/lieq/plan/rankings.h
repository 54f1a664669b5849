// Rankings: which layers are worth more bits, as a table of plain rows.
//
// A ranking is a function from a Diagnosis to one score per layer; larger means protect first. To
// add one, write the function and its row in rankings.cpp; --help, docs and property tests follow.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/diagnose/diagnosis.h"
#include "lieq/io/json.h"

namespace lieq {

/// The measurements a ranking reads; only those have to be made.
struct Needs {
  bool compactness = false;
  bool top_k_energy = false;
  bool perplexity_drop = false;  // nll_drop, which is always made with it
  bool block_influence = false;
  bool solo_damage = false;
  bool context_damage = false;
  bool file_scores = false;  // RankingOptions::file_scores

  [[nodiscard]] constexpr bool spectra() const noexcept { return compactness || top_k_energy; }
  /// Whether something is measured on a calibration text.
  [[nodiscard]] constexpr bool calibration() const noexcept { return spectra() || block_influence; }
  [[nodiscard]] constexpr bool measurements() const noexcept {
    return calibration() || perplexity_drop || solo_damage || context_damage;
  }
};

/// What some rankings are told besides the measurements.
struct RankingOptions {
  /// Of perplexity drop, compactness and top-k energy in `combined`: finite, >= 0, not all 0.
  std::array<double, 3> weights{1.0 / 3, 1.0 / 3, 1.0 / 3};
  std::vector<double> file_scores;  // [layers], of `file`
};

struct Ranking {
  std::string_view name;
  std::string_view description;  // one line
  Needs needs;
  /// Reads what `needs` promises, the number of layers, the seed, and the options.
  std::vector<double> (*score)(const Diagnosis& diagnosis, const RankingOptions& options);
};

/// The paper's first, which is the default.
[[nodiscard]] std::span<const Ranking> Rankings() noexcept;

/// Throws Error listing the names where there is none of that name.
[[nodiscard]] const Ranking& FindRanking(std::string_view name);

/// The names of all rows: "compactness, energy, ...".
[[nodiscard]] std::string_view RankingNames();

/// One score per layer, larger: protect first. Throws Error naming layer and measurement where one
/// that the ranking needs was not made or is not finite, and for options that do not fit.
[[nodiscard]] std::vector<double> Score(const Ranking& ranking, const Diagnosis& diagnosis,
                                        const RankingOptions& options = {});

/// RankingOptions::file_scores from a document: an array of numbers, one a layer, or an object with
/// such an array in "scores". `where` names it in errors. Throws Error with the JSON path.
[[nodiscard]] std::vector<double> ScoresFromJson(const Json& json, const std::string& where);

}  // namespace lieq
