// Singular spectra of projected activations, without the activations.
//
// Z = h Wᵀ is never formed: its squared singular values are the eigenvalues of a small Gram matrix
// made of W and C = hᵀh. Pure functions of their arguments on the calling thread, all in double.
//
// Source: Xiao et al., "LieQ", arXiv:2508.03332, eq. 4-6; effective rank: Roy and Vetterli,
// "The effective rank", EUSIPCO 2007.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/base/types.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// exp(-sum p_k ln p_k), p_k = energies[k] / sum: how many directions share the energy, from 1 to
/// the number of positive energies. Compact(Z) of eq. 4 where the energies are squared singular
/// values. energies: >= 0, any scale. 0 where all are 0; NaN where they or their sum are not
/// finite.
[[nodiscard]] double EffectiveRank(std::span<const double> energies);

/// Share of the k largest energies in their sum, 0..1; 0 and NaN as above. k >= 0.
/// energies: >= 0, in rising order, as Spectrum gives them.
[[nodiscard]] double TopEnergy(std::span<const double> energies, Index k);

/// L with L Lᵀ = C for the inputs h [tokens, in] of a linear.
struct InputFactor {
  Matrix<double> lower;  // [in, in]; what stands above the diagonal is not part of it
  Index tokens = 0;      // rows of h; Z has no more than that many singular values
  double ridge = 0;      // what was added to each diagonal entry of C, relative to that entry
};

/// Factors C = hᵀh. gram [in, in], lower triangle, finite; tokens >= 1.
///
/// With fewer tokens than inputs, or inputs that depend on one another, C is only semidefinite and
/// rounding may carry a pivot below 0; where products were summed in float, by some 1e-5 of the
/// diagonal (a head of SmolLM2-135M whose output hardly changes). Then each diagonal entry grows by
/// a share of itself, 1e-12 at first and ten times more until the factorization goes through.
/// Relative to the entry itself, not to the mean: one massive channel would otherwise lend its size
/// to all others. The energy so added is e = ridge * tr(W diag(C) Wᵀ) / tr(W C Wᵀ) of the whole,
/// and ln of the effective rank of K directions moves by at most e (ln K + 1 - ln e) (Fannes'
/// inequality): 2e-4 at e = 1e-5. A channel that was always 0 has a zero column in L and no part in
/// Z.
///
/// None where C is not a Gram matrix (an entry is not finite, or the ridge would exceed 1e-3).
[[nodiscard]] std::optional<InputFactor> FactorInputs(Matrix<double> gram, Index tokens);

/// Squared singular values of Z = h Wᵀ in rising order, min(tokens, out, in) of them, none
/// negative: the largest eigenvalues of (W L)(W L)ᵀ = W C Wᵀ, or of (W L)ᵀ(W L) = Lᵀ WᵀW L where in
/// < out.
///
/// w [out, in], in double; overwritten by W L. Values may be non-finite where W or C are: the
/// caller names the site.
[[nodiscard]] std::vector<double> Spectrum(View<double, 2> w, const InputFactor& inputs);

/// Squared singular values of W itself, [out, in] in double: the inputs white, C = identity, and as
/// many tokens as it takes. Order, length and non-finite values as above. w is left alone.
[[nodiscard]] std::vector<double> WeightSpectrum(View<const double, 2> w);

/// A stand-in R [min(out, in), in] for a random projection W~ [out, in] of independent standard
/// normal entries: W~ = Q R with orthonormal columns in Q, so h W~ᵀ and h Rᵀ have the same singular
/// values whatever h is. R is upper trapezoidal; by Bartlett's decomposition of the Wishart matrix
/// W~ᵀW~ = RᵀR its entries are independent, R_ii distributed as chi with out - i degrees of freedom
/// (i from 0) and those above the diagonal as standard normal. The distribution is that of the
/// plain twin, exactly, at in/out of its cost where out > in (Muirhead, "Aspects of Multivariate
/// Statistical Theory", theorem 3.2.14). The scale of W~ cancels in everything we measure.
[[nodiscard]] Matrix<double> RandomProjection(Index out, Index in, Rng& rng);

/// A draw from the chi distribution, degrees >= 1: the norm of as many standard normals.
[[nodiscard]] double Chi(Index degrees, Rng& rng);

}  // namespace lieq
