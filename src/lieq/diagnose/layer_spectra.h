// Compactness and top-k energy of one decoder layer, from its weights and the Gram matrices of its
// inputs. The forward pass that gathers those is in diagnose.h.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/diagnose/diagnosis.h"
#include "lieq/model/config.h"
#include "lieq/model/weights.h"
#include "lieq/tensor/view.h"

namespace lieq {

struct DiagnoseOptions {
  int twins = 4;              // random projections the trained one is compared with, >= 1
  std::uint64_t seed = 0;     // of the twins
  double top_fraction = 0.1;  // of the spectrum: the k of top-k energy, in (0, 1]
  SpectrumSettings settings;
  bool spectra =
      true;  // false: block influence and activations alone, at the cost of a forward pass
  /// Which are measured, rising, by MeasureSpectra alone: others are passed. None: all.
  std::optional<std::vector<Index>> layers{};
};

/// Throws Error naming the option that is out of range.
void CheckOptions(const DiagnoseOptions& options);

/// By the sites of settings.projections, each the mean over its heads.
struct LayerSpectra {
  std::vector<double> compactness;   // (Compact(Z~) - Compact(Z)) / Compact(Z~)
  std::vector<double> top_k_energy;  // E_k(Z) - E_k(Z~)
  /// [experts], each the mean over its linears; empty where a layer has none, or where the MLP is
  /// not measured.
  std::vector<double> expert_compactness, expert_top_k_energy;

  /// The value of the layer: the mean over its sites.
  [[nodiscard]] double MeanCompactness() const noexcept;
  [[nodiscard]] double MeanTopKEnergy() const noexcept;
};

/// Compares each projection of a layer with random ones on the same inputs (Xiao et al., LieQ,
/// arXiv:2508.03332, eq. 4-6; what the paper leaves open is fixed as in docs/diagnostics.md).
///
/// q, k and v are taken head by head (rows h * head_dim ..) or whole, the other four whole.
/// Compact(Z~) and E_k(Z~) are means over options.twins random projections, each drawn from a
/// stream of its own keyed by (seed, twin, layer, site, head). k = max(1, floor(top_fraction *
/// spectrum length)). With Energies::kPlain singular values stand where their squares do.
///
/// options.settings.inputs is kActivations.
/// grams   by Unit: C = hᵀh [in, in], lower triangle, of the unit's input; consumed. Those of units
///         that settings.projections leaves out are not read
/// tokens  rows of h, >= 1
///
/// A projection without any energy (its weights or its inputs are 0) has effective rank 0 and top-k
/// energy 0; where the random one has none either, both differences are 0.
/// One task for each (site, head, twin): the same bits for any number of threads. Throws Error
/// naming layer and site where something is not finite.
[[nodiscard]] LayerSpectra MeasureLayer(const LayerWeights& weights, const ModelConfig& config,
                                        std::array<Matrix<double>, kUnits> grams, Index tokens,
                                        Index layer, const DiagnoseOptions& options,
                                        Context& context);

/// What is measured of one spectrum.
struct SpectrumMeasures {
  double effective_rank = 0;
  double top_energy = 0;
};
/// By the shape {out, in} of a head: means over the random matrices of that shape.
using TwinTable = std::map<std::array<Index, 2>, SpectrumMeasures>;

/// The random twins of all heads of a model where C is the identity: they depend on the shape
/// alone, so they are made once for all layers, from streams keyed by (seed, twin, first site of
/// the shape). One task for each (shape, twin).
[[nodiscard]] TwinTable MeasureTwins(const ModelConfig& config, const DiagnoseOptions& options,
                                     Context& context);

/// MeasureLayer with C = identity (settings.inputs is kWeights): no inputs, and `twins` of
/// MeasureTwins with the same options. One task for each (site, head): memory for one linear in
/// double and the Gram matrix of its shorter side, by thread.
[[nodiscard]] LayerSpectra MeasureLayerWeights(const LayerWeights& weights,
                                               const ModelConfig& config, const TwinTable& twins,
                                               Index layer, const DiagnoseOptions& options,
                                               Context& context);

}  // namespace lieq
