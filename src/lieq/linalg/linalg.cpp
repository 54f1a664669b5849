#include "lieq/linalg/linalg.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/linalg/blas.h"

namespace lieq {
namespace {

/// The best OpenBLAS kernel family this processor can run, or null where its own choice is fine.
const char* BetterCore(std::string_view chosen) {
  // The names OpenBLAS falls back to for a processor it does not know.
  if (chosen != "Prescott" && chosen != "Nehalem" && chosen != "Core2" && chosen != "Barcelona") {
    return nullptr;
  }
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return "SkylakeX";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return nullptr;
}

int Int(Index value) {
  return static_cast<int>(value);
}

/// Row-major c = op(a) op(b) is column-major cᵀ = op(b)ᵀ op(a)ᵀ.
template <class T, class Function>
void GemmAny(Function gemm, T alpha, View<const T, 2> a, Transpose ta, View<const T, 2> b,
             Transpose tb, T beta, View<T, 2> c) {
  PrepareBlas();
  const Index m = c.rows(), n = c.cols();
  const Index k = ta == Transpose::kYes ? a.rows() : a.cols();
  LIEQ_ASSERT((ta == Transpose::kYes ? a.cols() : a.rows()) == m);
  LIEQ_ASSERT((tb == Transpose::kYes ? b.rows() : b.cols()) == n);
  LIEQ_ASSERT((tb == Transpose::kYes ? b.cols() : b.rows()) == k);
  if (m == 0 || n == 0) return;
  const int m_ = Int(m), n_ = Int(n), k_ = Int(k);
  const int lda = Int(std::max<Index>(1, a.stride())), ldb = Int(std::max<Index>(1, b.stride()));
  const int ldc = Int(c.stride());
  gemm(tb == Transpose::kYes ? "T" : "N", ta == Transpose::kYes ? "T" : "N", &n_, &m_, &k_, &alpha,
       b.data(), &ldb, a.data(), &lda, &beta, c.data(), &ldc);
}

}  // namespace

void PrepareBlas() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    if (openblas_get_corename == nullptr || gotoblas_dynamic_init == nullptr ||
        gotoblas_dynamic_quit == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr) {
      return;
    }
    const char* core = BetterCore(openblas_get_corename());
    if (core == nullptr) return;
    // OpenBLAS reads its choice from the environment alone.
    ::setenv("OPENBLAS_CORETYPE", core, 1);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    ::unsetenv("OPENBLAS_CORETYPE");
  });
}

std::string BlasDescription() {
  PrepareBlas();
  if (openblas_get_config == nullptr || openblas_get_corename == nullptr) return "BLAS";
  const std::string config = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE ..."
  const auto version_end = config.find(' ', config.find(' ') + 1);
  return config.substr(0, version_end) + " " + openblas_get_corename();
}

void Gemm(float alpha, View<const float, 2> a, Transpose ta, View<const float, 2> b, Transpose tb,
          float beta, View<float, 2> c) {
  GemmAny<float>(sgemm_, alpha, a, ta, b, tb, beta, c);
}

void Gemm(double alpha, View<const double, 2> a, Transpose ta, View<const double, 2> b,
          Transpose tb, double beta, View<double, 2> c) {
  GemmAny<double>(dgemm_, alpha, a, ta, b, tb, beta, c);
}

void MultiplyByLower(View<double, 2> b, View<const double, 2> l) {
  PrepareBlas();
  LIEQ_ASSERT(l.rows() == l.cols() && b.cols() == l.rows());
  if (b.rows() == 0 || b.cols() == 0) return;
  // Column-major sees bᵀ [n, m] and lᵀ, an upper triangle: (b l)ᵀ = lᵀ bᵀ.
  const int n = Int(b.cols()), m = Int(b.rows()), ldl = Int(l.stride()), ldb = Int(b.stride());
  const double one = 1;
  dtrmm_("L", "U", "N", "N", &n, &m, &one, l.data(), &ldl, b.data(), &ldb);
}

void DivideByUnitLower(View<float, 2> b, View<const float, 2> l, Transpose transposed) {
  PrepareBlas();
  LIEQ_ASSERT(l.rows() == l.cols() && b.cols() == l.rows());
  if (b.rows() == 0 || b.cols() == 0) return;
  // Column-major sees bᵀ [n, m] and lᵀ, an upper triangle: (b l⁻¹)ᵀ = (lᵀ)⁻¹ bᵀ.
  const int n = Int(b.cols()), m = Int(b.rows()), ldl = Int(l.stride()), ldb = Int(b.stride());
  const float one = 1;
  strsm_("L", "U", transposed == Transpose::kYes ? "T" : "N", "U", &n, &m, &one, l.data(), &ldl,
         b.data(), &ldb);
}

void Gram(View<const double, 2> a, Transpose transposed, View<double, 2> c) {
  PrepareBlas();
  const bool columns = transposed == Transpose::kYes;
  const int n = Int(columns ? a.cols() : a.rows()), k = Int(columns ? a.rows() : a.cols());
  LIEQ_ASSERT(c.rows() == n && c.cols() == n);
  if (n == 0) return;
  // Column-major sees aᵀ, and the lower triangle of c as the upper one.
  const int lda = Int(std::max<Index>(1, a.stride())), ldc = Int(c.stride());
  const double one = 1, zero = 0;
  dsyrk_("U", columns ? "N" : "T", &n, &k, &one, a.data(), &lda, &zero, c.data(), &ldc);
}

bool Cholesky(View<double, 2> a) {
  PrepareBlas();
  LIEQ_ASSERT(a.rows() == a.cols());
  const int n = Int(a.rows()), lda = Int(a.stride());
  int info = 0;
  dpotrf_("U", &n, a.data(), &lda, &info);  // the lower triangle of a row-major matrix
  if (info != 0) return false;
  // OpenBLAS 0.3.21 stops at pivots <= 0, and NaN is not; it reaches the diagonal of its row.
  for (Index i = 0; i < a.rows(); ++i) {
    if (!std::isfinite(a(i, i))) return false;
  }
  return true;
}

bool Cholesky(View<double, 2> a, ThreadPool& pool) {
  PrepareBlas();
  LIEQ_ASSERT(a.rows() == a.cols());
  constexpr Index kTile = 256;
  const Index n = a.rows(), tiles = CeilDiv(n, kTile);
  const auto size = [&](Index tile) { return std::min(kTile, n - tile * kTile); };
  const auto at = [&](Index i, Index j) {
    return a.Rows(i * kTile, size(i)).Cols(j * kTile, size(j));
  };
  for (Index k = 0; k < tiles; ++k) {
    if (!Cholesky(at(k, k))) return false;
    const Index below = tiles - k - 1;
    pool.ParallelFor(below, [&](Index task, int) {
      // a_ik = a_ik L_kk⁻ᵀ. Column-major sees a_ikᵀ and L_kkᵀ, an upper triangle.
      const View<double, 2> b = at(k + 1 + task, k), l = at(k, k);
      const int rows = Int(b.cols()), cols = Int(b.rows()), lda = Int(a.stride());
      const double one = 1;
      dtrsm_("L", "U", "T", "N", &rows, &cols, &one, l.data(), &lda, b.data(), &lda);
    });
    // Tiles of the triangle below, the long rows first.
    pool.ParallelFor(below * (below + 1) / 2, [&](Index task, int) {
      Index row = 0;
      while ((row + 1) * (row + 2) / 2 <= task) ++row;
      const Index i = k + 1 + row, j = k + 1 + task - row * (row + 1) / 2;
      if (i != j) {
        Gemm(-1.0, at(i, k), Transpose::kNo, at(j, k), Transpose::kYes, 1.0, at(i, j));
        return;
      }
      const int rows = Int(size(i)), depth = kTile, lda = Int(a.stride());
      const double minus = -1, one = 1;
      dsyrk_("U", "T", &rows, &depth, &minus, at(i, k).data(), &lda, &one, at(i, i).data(), &lda);
    });
  }
  return true;
}

std::vector<double> SymmetricEigenvalues(View<double, 2> a) {
  PrepareBlas();
  LIEQ_ASSERT(a.rows() == a.cols());
  const int n = Int(a.rows()), lda = Int(std::max<Index>(1, a.stride()));
  std::vector<double> values(Size(a.rows()));
  double work_size = 0;
  int iwork_size = 0, info = 0;
  const int query = -1;
  dsyevd_("N", "U", &n, a.data(), &lda, values.data(), &work_size, &query, &iwork_size, &query,
          &info);
  const int lwork = static_cast<int>(work_size), liwork = iwork_size;
  std::vector<double> work(static_cast<std::size_t>(lwork));
  std::vector<int> iwork(static_cast<std::size_t>(liwork));
  dsyevd_("N", "U", &n, a.data(), &lda, values.data(), work.data(), &lwork, iwork.data(), &liwork,
          &info);
  if (info != 0) {
    throw Error({.what = "eigenvalues of a symmetric matrix did not converge",
                 .found = "LAPACK dsyevd info " + std::to_string(info)});
  }
  return values;
}

}  // namespace lieq
