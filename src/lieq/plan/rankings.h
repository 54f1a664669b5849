// Rankings: which layers are worth more bits, as a table of plain rows.
//
// A ranking is a function from a Diagnosis to one score per layer; larger means protect first. To
// add one, write the function and its row in rankings.cpp; --help, docs and property tests follow.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "lieq/diagnose/diagnosis.h"

namespace lieq {

/// The measurements a ranking reads; only those have to be made.
struct Needs {
  bool compactness = false;
  bool top_k_energy = false;
  bool perplexity_drop = false;  // nll_drop, which is always made with it

  [[nodiscard]] constexpr bool spectra() const noexcept { return compactness || top_k_energy; }
};

struct Ranking {
  std::string_view name;
  std::string_view description;  // one line
  Needs needs;
  /// Reads what `needs` promises, and the number of layers and the seed.
  std::vector<double> (*score)(const Diagnosis& diagnosis);
};

/// The paper's first, which is the default.
[[nodiscard]] std::span<const Ranking> Rankings() noexcept;

/// Throws Error listing the names where there is none of that name.
[[nodiscard]] const Ranking& FindRanking(std::string_view name);

/// One score per layer, larger: protect first. Throws Error naming layer and measurement where one
/// that the ranking needs was not made or is not finite.
[[nodiscard]] std::vector<double> Score(const Ranking& ranking, const Diagnosis& diagnosis);

}  // namespace lieq
