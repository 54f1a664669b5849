// Measuring what candidates cost a model: the work behind `sensitivity` and the optimal plans.
#pragma once

#include <optional>

#include "lieq/cli/arguments.h"
#include "lieq/cli/code_store.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/session.h"
#include "lieq/diagnose/damage.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/sensitivities.h"

namespace lieq {

/// What the codes of a store depend on, grids left out.
[[nodiscard]] Record CodeSettings(const Arguments& arguments, const std::string& model_hash,
                                  const EncodedText* calibration, const Windows& windows);

/// Candidates that are used where none are named: 2 bits at groups of 128, 64 and 32, and 3 and 4
/// bits at 128, where 128 divides every row of the model; else 2 bits at 64 and 32, 3 and 4 at 64.
/// Their offset is --offset; where --for names a container and no offset is named, what it holds:
/// one that costs nothing, and up to 3 bits one that is stored.
[[nodiscard]] std::vector<Grid> DefaultCandidates(const Arguments& arguments,
                                                  const ModelConfig& config);
/// --candidates or the default. Throws Error for one that fits no unit.
[[nodiscard]] std::vector<Grid> CandidatesOf(const Arguments& arguments, const ModelConfig& config);

/// Everything that measuring works with: the model, its texts, its codes.
struct Laboratory {
  ModelFolder model;
  std::string model_hash;
  std::optional<EncodedText> calibration;
  Windows windows;  // of the calibration text
  EncodedText text;
  Windows damage_windows;
  std::optional<CodeStore> store;
};

/// Reads model and texts and opens the store `codes`. The damage is measured on --text or, without
/// one, on the last windows of the calibration text. A dry run opens no store.
void OpenLaboratory(const Arguments& arguments, const std::filesystem::path& codes,
                    Session& session, Laboratory& laboratory);

/// Makes the codes that are missing, then measures each unit at some of the candidates (`every`:
/// at all; else at the one that costs least, which the others are predicted from).
/// base: the mix for damage in context; empty for solo. Says the cost in forward passes before it
/// starts.
[[nodiscard]] Sensitivities MeasureSensitivities(const Arguments& arguments,
                                                 const Laboratory& laboratory,
                                                 const std::vector<Grid>& candidates, bool every,
                                                 const std::vector<std::size_t>& base,
                                                 DamageMeter& meter, Session& session);

/// The grids of a choice of candidates, by [layers * kUnits].
[[nodiscard]] ModelGrids GridsOfChoice(const std::vector<Grid>& candidates,
                                       const std::vector<std::size_t>& choice);

}  // namespace lieq
