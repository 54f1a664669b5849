// Dense linear algebra: BLAS and LAPACK behind a few functions on row-major views.
//
// Every call that is not given a pool runs on the calling thread alone and gives the same bits
// wherever it runs; parallel work is split by shape (see docs/numerics.md).
#pragma once

#include <string>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/base/types.h"
#include "lieq/tensor/view.h"

namespace lieq {

enum class Transpose : bool { kNo, kYes };

/// c = alpha * op(a) op(b) + beta * c, op as told. c must not overlap a or b.
/// a [m, k] or [k, m] transposed; b [k, n] or [n, k] transposed; c [m, n].
void Gemm(float alpha, View<const float, 2> a, Transpose ta, View<const float, 2> b, Transpose tb,
          float beta, View<float, 2> c);
void Gemm(double alpha, View<const double, 2> a, Transpose ta, View<const double, 2> b,
          Transpose tb, double beta, View<double, 2> c);

/// b = b L in place: half the arithmetic of Gemm. b [m, n]; l [n, n], its lower triangle is read
/// and the upper one ignored. b must not overlap l.
void MultiplyByLower(View<double, 2> b, View<const double, 2> l);

/// b = b L⁻¹, or b L⁻ᵀ where transposed, in place, L unit lower triangular: the diagonal of l and
/// what lies above are not read. b [m, n]; l [n, n]. b must not overlap l.
void DivideByUnitLower(View<float, 2> b, View<const float, 2> l, Transpose transposed);

/// The lower triangle of c = a aᵀ, or of c = aᵀ a where `transposed`: half the arithmetic of Gemm;
/// the upper triangle is neither read nor written. a [m, n]; c [m, m], or [n, n] where transposed.
void Gram(View<const double, 2> a, Transpose transposed, View<double, 2> c);

/// Replaces the lower triangle of a symmetric positive definite matrix [n, n] by its Cholesky
/// factor L, a = L Lᵀ; the upper triangle is neither read nor written.
/// False where the matrix is not positive definite or not finite: `a` is spoiled then.
[[nodiscard]] bool Cholesky(View<double, 2> a);
/// The same by blocks, spread over the pool's threads: other bits than above, the same for any
/// number of threads. Not to be called from inside a task.
[[nodiscard]] bool Cholesky(View<double, 2> a, ThreadPool& pool);

/// Eigenvalues of a symmetric matrix [n, n] in rising order; the lower triangle is read, the matrix
/// is spoiled. Throws Error where the iteration does not converge (only for non-finite input).
[[nodiscard]] std::vector<double> SymmetricEigenvalues(View<double, 2> a);

/// "OpenBLAS 0.3.21 SkylakeX"
[[nodiscard]] std::string BlasDescription();

/// Makes BLAS single-threaded, and where its own detection fell back to kernels for very old
/// processors although this one has AVX2 or AVX-512 (Debian 12's OpenBLAS 0.3.21 takes Intel's
/// Sapphire Rapids and later for a Prescott: a fifth of the speed), picks the right ones. A value
/// the user set in OPENBLAS_CORETYPE stands. Called by every function above on first use;
/// idempotent.
void PrepareBlas();

}  // namespace lieq
