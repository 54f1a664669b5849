// The optimal plan: measures, or reads measurements, solves the knapsack, and checks itself.
#pragma once

#include <filesystem>

#include "lieq/container/container_sizes.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/pipeline/source.h"
#include "lieq/plan/optimal.h"
#include "lieq/plan/plan.h"

namespace lieq {

/// What each candidate of each unit and end costs in the files, and how much there is to spend on
/// them.
struct CostBudget {
  CostTable costs;
  std::int64_t budget = 0;
};

/// Bytes of the weight files, by --size or --bpw, less everything that no candidate changes. sizes:
/// of the container of --for. Throws Error where even the cheapest candidates exceed the budget,
/// saying the least.
[[nodiscard]] CostBudget MakeCostBudget(const QuantizeRequest& request, const ModelConfig& config,
                                        const ContainerSizes& sizes, const Candidates& candidates);

/// What an optimal plan is known to be before anything is measured.
struct OptimalForecast {
  Candidates candidates;
  Plan plan;               // a stand-in: what the budget buys where bits alone decide
  std::int64_t bytes = 0;  // of the weight files, in the container of --for, at most
};

/// Writes and measures nothing. Throws Error where the budget cannot be met.
[[nodiscard]] OptimalForecast ForecastOptimal(const QuantizeRequest& request,
                                              const ModelFolder& model);

/// Measures the damage of the candidates on `codes` (or reads --sensitivities), allocates, runs
/// --check mixes to compare the additive prediction with the truth, and improves the choice by
/// --refine runs of a local search on the true divergence.
[[nodiscard]] Plan MakeOptimalPlan(const QuantizeRequest& request, Source& source,
                                   const std::filesystem::path& codes, Session& session);

}  // namespace lieq
