// From a command line to a plan: the one path that `plan` and `quantize` share.
#pragma once

#include "lieq/diagnose/diagnosis.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/output_sizes.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/pipeline/source.h"
#include "lieq/plan/allocate.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/rankings.h"

namespace lieq {

inline constexpr double kDefaultBits = 2.25;  // of a ranking's plan
inline constexpr double kDefaultBpw = 4;      // of everything else: a quarter of 16-bit weights

/// Whether the plan asked for needs a calibration text.
[[nodiscard]] bool NeedsSpectra(const QuantizeRequest& request);

/// Says what is meant where the request leaves it open. Bytes are spent by measured damage, unless
/// a ranking is named. Where no budget is named either: kDefaultBpw; kDefaultBits, the paper's
/// plan, where a ranking, its widths or the ends are, or where a transform parts the head from the
/// embedding, which byte budgets do not count.
void TakeDefaultBudget(QuantizeRequest& request);

/// Throws UsageError where the options that say what to spend contradict one another.
void CheckBudgetOptions(const QuantizeRequest& request);

/// The average of code bits that --bits, --widths and --rounding ask for.
[[nodiscard]] Budget AverageOf(const QuantizeRequest& request);

/// The plan that the request ask for: --plan, --uniform, a ranking's layers under --bits, --bpw,
/// --size or --high-layers, measured on the calibration text or read
/// from --diagnostics, or the optimal one. codes: where an optimal plan keeps its codes.
[[nodiscard]] Plan MakePlan(const QuantizeRequest& request, Source& source,
                            const std::filesystem::path& codes, Session& session);

/// What a ranking's plan is before anything is measured, but for which layers are raised: as if
/// these were the scores. Its widths, and how many layers have each, are those of the plan to come,
/// since all layers have one shape. Throws Error for a budget that cannot be met.
[[nodiscard]] Plan StandInPlan(const QuantizeRequest& request, Source& source,
                               std::vector<double> scores);

/// ToJson of a plan, and what only the containers know: true bits, bytes and
/// compression. config: of the model as it is written; bytes: of its weight files and the source's;
/// elsewhere: BytesFor of the container of --for.
[[nodiscard]] Record PlanRecord(const Plan& plan, const ModelConfig& config, std::uint64_t bytes,
                                std::uint64_t source,
                                const std::optional<BytesElsewhere>& elsewhere = std::nullopt);

/// " (asked for at most 2.25)" where --bits was told and the plan has other code bits.
[[nodiscard]] std::string AskedText(const Plan& plan, const ModelConfig& config);

/// A ranking's measurements for the model, on the spectrum windows of the text; without `spectra`
/// what a forward pass alone gives. layers: rising, those that are measured; none: all.
[[nodiscard]] Diagnosis MeasureForRanking(const ModelFolder& model, const std::string& model_hash,
                                          const EncodedText& text, std::uint64_t seed,
                                          Session& session, bool spectra = true,
                                          std::optional<std::vector<Index>> layers = {});

/// Fills the layers' solo or context damage from --sensitivities, as --ranking says. Throws Error
/// where the file is of another model or mode, UsageError where none is given.
void AddDamage(const QuantizeRequest& request, const std::string& model_hash, Diagnosis& diagnosis,
               Session& session);

/// What the ranking of the request is told: its weights, and the scores of --scores, read.
[[nodiscard]] RankingOptions ReadRankingOptions(const QuantizeRequest& request);

/// "0, 3-5, 23": the layers whose widest unit has `bits`.
[[nodiscard]] std::string LayersAt(const Plan& plan, int bits);

/// A run of layers whose units have equal grids.
struct GridRun {
  std::string layers;                     // "3", "5-7"
  std::array<std::string, kUnits> grids;  // Label of each, by Unit
};
/// The layers of a plan, in order.
[[nodiscard]] std::vector<GridRun> GridRuns(const Plan& plan);

}  // namespace lieq
