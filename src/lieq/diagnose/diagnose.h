// Measures a model layer by layer: the spectra of its projections and what it does to the residual
// stream on calibration windows, and what removing each layer does to the perplexity of a text.
//
// Memory: four copies of the hidden states of all calibration windows (of some windows, two, for
// the drop) and the Gram matrices of one layer; mapped weights of a layer are given back when it is
// done.
#pragma once

#include "lieq/base/context.h"
#include "lieq/device/device.h"
#include "lieq/diagnose/diagnosis.h"
#include "lieq/diagnose/layer_spectra.h"
#include "lieq/model/weights.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Runs the model over `calibration` and measures compactness and top-k energy of every layer
/// (MeasureLayer), block influence and largest activations (MeasureActivations), filling those
/// fields of `out` and the provenance that it knows: context, spectrum_windows, seed, twins,
/// top_fraction, settings. `out.layers` is made as long as the model. Where options.spectra is
/// false, compactness and top-k energy stay absent; of layers that options.layers leaves out, all.
///
/// options.settings.inputs is kActivations.
/// calibration  [windows, length] token ids below the vocabulary
///
/// C = hᵀh is summed over all positions of all windows. Throws Error naming layer and site where a
/// value is not finite; Stopped.
void MeasureSpectra(const Weights& weights, Device& device, View<const TokenId, 2> calibration,
                    const DiagnoseOptions& options, Context& context, Diagnosis& out);

/// Compactness and top-k energy from the weights alone (MeasureLayerWeights;
/// options.settings.inputs is kWeights): no text, no forward pass. Fills the same fields but
/// context and spectrum_windows. Memory: for each thread one linear in double and the Gram matrix
/// of its shorter side.
void MeasureWeightSpectra(const Weights& weights, const DiagnoseOptions& options, Context& context,
                          Diagnosis& out);

/// Replaces each layer by the identity in turn and measures the perplexity of `text` (Xiao et al.,
/// LieQ, arXiv:2508.03332, eq. 3), filling perplexity_drop, nll_drop, window_nll_drop,
/// base_perplexity and drop_windows; base and drop both over all positions but the first of each
/// window.
///
/// text           [windows, length], length >= 2
/// chunk_windows  how many are held at once; 0: as many as need 128 MiB for each of two copies
///
/// The run without layer l starts from the hidden state before it, which the unchanged run has just
/// reached: L (L + 1) / 2 layer passes, (L + 1) / 2 forward passes, in all. perplexity_drop stays
/// absent where removal makes the perplexity too large for a double (a mean NLL above 709);
/// nll_drop has the same order and stays finite. Throws Error where an NLL is not finite; Stopped.
void MeasurePerplexityDrop(const Weights& weights, Device& device, View<const TokenId, 2> text,
                           Context& context, Diagnosis& out, Index chunk_windows = 0);

}  // namespace lieq
