// What was measured about each layer of a model: the input of every ranking.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// What the paper leaves open about its spectra; the first of each is the default
/// (docs/diagnostics.md).
enum class Projections : std::uint8_t { kAll, kQkv };     // the linears that are averaged
enum class Heads : std::uint8_t { kPerHead, kWhole };     // how the outputs of q, k and v are taken
enum class Energies : std::uint8_t { kSquared, kPlain };  // sigma² or sigma in p_k
enum class SpectrumInputs : std::uint8_t { kActivations, kWeights };  // C = hᵀh, or the identity

struct SpectrumSettings {
  Projections projections = Projections::kAll;
  Heads heads = Heads::kPerHead;
  Energies energies = Energies::kSquared;
  SpectrumInputs inputs = SpectrumInputs::kActivations;

  friend bool operator==(const SpectrumSettings&, const SpectrumSettings&) = default;
};

/// One decoder layer. A measurement that was not made is absent, never 0.
struct LayerDiagnosis {
  std::optional<double> perplexity_drop;     // PPL(layer removed) - PPL(model), eq. 3
  std::optional<double> nll_drop;            // mean NLL(layer removed) - mean NLL(model), nats
  std::optional<double> compactness;         // mean relative drop of the effective rank, eq. 4-6
  std::optional<double> top_k_energy;        // rise of the energy in the top of the spectrum
  std::optional<double> block_influence;     // 1 - mean cosine of the layer's input and output
  std::optional<double> largest_activation;  // largest |x| of the residual stream after the layer
  std::optional<double> activation_ratio;    // that over the median |x|
  std::optional<double> solo_damage;         // KL with this layer alone quantized, nats
  std::optional<double> context_damage;      // the same counted inside a quantized mix
  std::vector<double> window_nll_drop;       // nll_drop of each window of the text, or empty
  /// In the order of Site: all seven, or q, k and v where no others were measured; or empty.
  std::vector<double> site_compactness;
  std::vector<double> site_top_k_energy;  // likewise
  /// [experts] as of LayerSpectra; of what was measured now, in no file.
  std::vector<double> expert_compactness, expert_top_k_energy;
};

/// How far rankings agree between two texts.
struct Stability {
  std::string text_hash;                  // of the second text
  std::vector<std::string> text_files;    // its names, without folders
  std::vector<std::string> text_notes;    // what was changed in it or left aside on reading
  std::map<std::string, double> kendall;  // tau-b by name of ranking; a ranking without order: none
};

/// Invariants: one row per layer; every value finite. `provenance` fields say what it was made
/// from.
struct Diagnosis {
  std::vector<LayerDiagnosis> layers;
  std::string model_hash;                      // of config.json and the weight files
  std::string calibration_hash;                // of the tokens the spectra were measured on
  std::vector<std::string> calibration_files;  // their names, without folders
  std::vector<std::string> calibration_notes;  // what was changed in them or left aside on reading
  Index context = 0;                           // tokens in a window; 0: no text was needed
  Index spectrum_windows = 0;  // windows behind spectra and block influence; 0: none
  int twins = 0;               // random projections behind each value; 0: no spectra
  double top_fraction = 0;     // of the spectrum that top-k energy counts; 0: none
  SpectrumSettings settings;
  std::optional<double> base_perplexity;  // of the unchanged model on the text of the drop
  std::optional<Index> drop_windows;
  std::string text_hash;
  std::vector<std::string> text_files, text_notes;
  std::uint64_t seed = 0;
  std::optional<Stability> stability;
};

}  // namespace lieq
