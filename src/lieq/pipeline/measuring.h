// Measuring what candidates cost a model: the work behind `sensitivity` and the optimal plans.
#pragma once

#include <functional>
#include <optional>

#include "lieq/diagnose/damage.h"
#include "lieq/pipeline/code_store.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/pipeline/source.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/sensitivities.h"

namespace lieq {

/// How candidates are rounded where damage is measured: by --damage-method, or else as --method
/// says, but by gptq for best, which takes longer. Codes that a result is put
/// together from (--assemble) are those of the method.
[[nodiscard]] QuantOptions CandidateOptions(const QuantizeRequest& request);

/// What the codes of a store depend on, grids left out.
[[nodiscard]] Record CodeSettings(const QuantizeRequest& request, const std::string& model_hash,
                                  const EncodedText* calibration, const Windows& windows);

/// Candidates that are used where none are named: 2 bits at groups of 128, 64 and 32, and 3 and 4
/// bits at 128; where the budget leaves the layers more than 3.6 bits a weight, 2 bits at 64, 3 at
/// 128, and 4 at 128 and 32; more than 5, also 8 at 128. Where 128 does not divide every row of the
/// model, 64 takes its place. Their offset is --offset; where --for names a container and no offset
/// is named, what it holds: one that costs nothing, and up to 3 bits one that is stored.
[[nodiscard]] std::vector<Grid> DefaultCandidates(const QuantizeRequest& request,
                                                  const ModelConfig& config);
/// --candidates or the default. Throws Error for one that fits no unit.
[[nodiscard]] std::vector<Grid> CandidatesOf(const QuantizeRequest& request,
                                             const ModelConfig& config);

/// What an optimal plan chooses from: one list for all units, and one for each end that is chosen
/// too. Rows of tables and of a choice are units, then ends.
struct Candidates {
  std::vector<Grid> units;
  std::vector<EndCandidates> ends;
  // Of units: how many of the first ones any may have, others being rules' alone; and which one a
  // rule gives a unit, [layers * kUnits]. Where there are no rules: empty, all.
  std::vector<std::optional<std::size_t>> bound;
  std::size_t free = 0;

  /// Whether a unit may have a candidate, so far as rules go.
  [[nodiscard]] bool Allows(std::size_t unit, std::size_t candidate) const {
    if (bound.empty()) return true;
    return bound[unit] ? candidate == *bound[unit] : candidate < free;
  }
};

/// Whether the plan to come chooses the grids of embedding and head, as an optimal one does where
/// no option says them.
[[nodiscard]] bool ChoosesEnds(const QuantizeRequest& request, const ModelConfig& config);

/// Floats, 8 bits, and 4 and 2 bits in several groups: those that divide a row and that --for
/// holds.
[[nodiscard]] std::vector<EndCandidates> EndCandidatesOf(const QuantizeRequest& request,
                                                         const ModelConfig& config);

/// Everything that measuring works with: the model, its texts, its codes.
struct Bench {
  Source& source;
  Windows windows;  // of the calibration text; none where the quantizer needs none
  EncodedText text;
  Windows damage_windows;
  std::optional<CodeStore> store;  // none in a dry run
};

/// Reads the texts and opens the store `codes`. The damage is measured on the request's text or,
/// without one, on the last windows of the calibration text.
[[nodiscard]] Bench OpenBench(const QuantizeRequest& request, Source& source,
                              const std::filesystem::path& codes, Session& session);

/// Makes the codes that are missing, then measures each unit at some of the candidates (`every`:
/// at all; else at the one that costs least, which the others are predicted from), and each end at
/// all of its own, where nothing else is quantized.
/// base: the mix for damage in context; empty for solo. Says the cost in forward passes before it
/// starts. meter: called where something is to be measured. Pieces are layers and candidates of
/// ends; of a result that is not whole nothing may be used.
[[nodiscard]] Sensitivities MeasureSensitivities(const QuantizeRequest& request, const Bench& bench,
                                                 const Candidates& candidates, bool every,
                                                 const std::vector<std::size_t>& base,
                                                 const std::function<DamageMeter&()>& meter,
                                                 Session& session);

/// The grids of a choice of candidates, by [layers * kUnits], then ends where they are chosen.
[[nodiscard]] ModelGrids GridsOfChoice(const Candidates& candidates,
                                       const std::vector<std::size_t>& choice);

}  // namespace lieq
