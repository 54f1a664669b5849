// What each candidate grid of each unit costs the model: measured, or predicted from the loss of
// its linears. The input of the optimal allocation.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/model/config.h"
#include "lieq/model/grids.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// One replacement that was run: the unit at `candidate`, everything else as the mode says.
struct MeasuredDamage {
  std::size_t candidate = 0;
  double kl = 0;                        // mean KL(whole model || this one), nats
  double nll_rise = 0;                  // mean NLL less that of the whole model, nats
  std::vector<double> window_nll_rise;  // [windows]
};

struct UnitSensitivity {
  Index layer = 0;
  Unit unit = Unit::kQkv;
  /// [candidates]: sum over the unit's linears of trace(E (H + damping) Eᵀ) / trace(W (H + damping)
  /// Wᵀ), E = W - Q: the relative error of its outputs; absent where the candidate does not fit.
  std::vector<std::optional<double>> loss;
  std::vector<MeasuredDamage> measured;  // in rising order of candidate
};

/// What an end of the model is chosen from; without a grid: floats, as the model has it.
struct EndCandidates {
  End end{};
  std::vector<std::optional<Grid>> grids;
  friend bool operator==(const EndCandidates&, const EndCandidates&) = default;
};

/// What each of them costs the model, all else whole: measured, one by one.
struct EndSensitivity {
  EndCandidates candidates;
  std::vector<double> kl;        // [candidates]: mean KL(whole model || this one), nats
  std::vector<double> nll_rise;  // [candidates]
  friend bool operator==(const EndSensitivity&, const EndSensitivity&) = default;
};

enum class DamageMode : std::uint8_t {
  kSolo,     // one unit quantized, all others whole
  kContext,  // one unit changed inside a mix, `base`
};
[[nodiscard]] std::string_view Name(DamageMode mode) noexcept;  // "solo", "context"

/// Invariants: units in order of layer, then unit, each once; loss as long as candidates.
struct Sensitivities {
  DamageMode mode = DamageMode::kSolo;
  std::vector<Grid> candidates;
  std::vector<UnitSensitivity> units;  // [layers * kUnits]
  std::vector<EndSensitivity> ends;    // where they were measured
  std::vector<std::size_t> base;       // [layers * kUnits]: candidates of the base mix, or empty
  double base_kl = 0;                  // 0 for solo
  double base_nll_rise = 0;
  Index windows = 0, context = 0, stride = 1;  // of the text the damage was measured on
  Index layer_passes = 0;
  double seconds = 0;
  std::string method, model_hash, text_hash, calibration_hash;

  [[nodiscard]] Index layers() const noexcept { return static_cast<Index>(units.size()) / kUnits; }
};

/// [candidates]: the damage a unit adds to the model, in nats of KL: the measurement where there is
/// one, else that of the measured candidate next to it by the logarithm of the loss, times the
/// ratio of losses. The LDLQ loss is the squared error of the outputs, and KL is quadratic in a
/// small error of the logits, so the two go together (docs/sensitivities.md; `lieq plan --check`
/// runs mixes to see). In a context, differences to the base's candidate: 0 there, negative for a
/// better one, damage and loss both counted from the base; a slope of the wrong sign counts as 0.
/// Absent where the candidate does not fit. Throws Error where nothing was measured for a unit that
/// has a choice.
[[nodiscard]] std::vector<std::optional<double>> PredictDamage(const Sensitivities& sensitivities,
                                                               std::size_t unit);

/// [layers]: damage of a layer's units together at the candidate with the least bits and, among
/// those, the group size nearest to `group_size` (a row counts as the widest); what the rankings
/// `solo` and `context` protect by. In a context it counts from the layer's best candidate, so that
/// a layer of a wide base mix is not taken for a harmless one.
[[nodiscard]] std::vector<double> LayerDamage(const Sensitivities& sensitivities, Index group_size);

}  // namespace lieq
