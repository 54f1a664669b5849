// The optimal plan: measures, or reads measurements, solves the knapsack, and checks itself.
#pragma once

#include <filesystem>

#include "lieq/cli/arguments.h"
#include "lieq/cli/measuring.h"
#include "lieq/cli/session.h"
#include "lieq/plan/optimal.h"
#include "lieq/plan/plan.h"

namespace lieq {

/// What each candidate of each unit costs, and how much there is to spend on them.
struct Purse {
  CostTable costs;
  std::int64_t budget = 0;
};

/// By --bpw, in bits; or by --size, in bytes of the weight files less everything that no candidate
/// changes. Throws Error where even the cheapest candidates exceed the budget, saying the least.
[[nodiscard]] Purse MakePurse(const Arguments& arguments, const ModelFolder& model,
                              const std::vector<Grid>& candidates);

/// Measures the damage of the candidates on `codes` (or reads --sensitivities), allocates, runs
/// --check mixes to compare the additive prediction with the truth, and improves the choice by
/// --refine runs of a local search on the true divergence.
[[nodiscard]] Plan MakeOptimalPlan(const Arguments& arguments, const std::filesystem::path& codes,
                                   Session& session);

}  // namespace lieq
