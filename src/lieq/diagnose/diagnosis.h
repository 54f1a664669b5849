// What was measured about each layer of a model: the input of every ranking.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// One decoder layer. A measurement that was not made is absent, never 0.
struct LayerDiagnosis {
  std::optional<double> perplexity_drop;  // PPL(layer removed) - PPL(model), eq. 3
  std::optional<double> nll_drop;         // mean NLL(layer removed) - mean NLL(model), nats
  std::optional<double> compactness;      // mean relative drop of the effective rank, eq. 4-6
  std::optional<double> top_k_energy;     // rise of the energy in the top tenth of the spectrum
  std::vector<double> site_compactness;   // [7] in the order of Site, or empty
  std::vector<double> site_top_k_energy;  // likewise
};

/// Invariants: one row per layer; every value finite. `provenance` fields say what it was made
/// from.
struct Diagnosis {
  std::vector<LayerDiagnosis> layers;
  std::string model_hash;                 // of config.json and the weight files
  std::string calibration_hash;           // of the tokens the spectra were measured on
  Index context = 0;                      // tokens in a window
  Index spectrum_windows = 0;             // windows behind compactness and top-k energy; 0: none
  int twins = 0;                          // random projections behind each value; 0: none
  double top_fraction = 0;                // of the spectrum that top-k energy counts; 0: none
  std::optional<double> base_perplexity;  // of the unchanged model on the text of the drop
  std::optional<Index> drop_windows;
  std::string text_hash;
  std::uint64_t seed = 0;
};

}  // namespace lieq
