// Processor time of `lieq diagnose --inputs weights` over that of the same eigenproblems in LAPACK.
//
//   diagnose_bench MODEL [LAYERS=2] [THREADS=all] [ROUNDS=3]
//
// Both run in this process on the first LAYERS layers, one after the other, ROUNDS times; medians
// are printed. Processor time, not the clock: a run takes minutes, and other work on the machine
// would fall on one of the two. The eigenproblems are symmetric matrices of random numbers, as many
// and as large as the spectra need (a head of q, k or v each, the other linears whole, and the
// random twins), dsyevd without vectors, spread over the same threads. What the program adds:
// reading and widening weights, the Gram matrices of linears, and the random twins themselves.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/rng.h"
#include "lieq/base/statistics.h"
#include "lieq/container/model_folder.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

/// Processor time of all threads of this process so far.
double ProcessorSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// The sides of all eigenproblems, the largest first.
std::vector<Index> Sides(const ModelConfig& config, int twins) {
  std::vector<Index> sides;
  std::set<std::pair<Index, Index>> shapes;
  for (const Site site : kAllSites) {
    const Index rows = UnitOf(site) == Unit::kQkv ? config.head_dim : config.Out(site);
    const Index side = std::min(rows, config.In(site));
    const Index heads = config.Out(site) / rows * config.layers;
    sides.insert(sides.end(), Size(heads), side);
    if (!shapes.emplace(rows, config.In(site)).second) continue;
    sides.insert(sides.end(), Size(Index{twins}), side);
  }
  std::ranges::sort(sides, std::greater<>());
  return sides;
}

class Eigenproblems {
 public:
  explicit Eigenproblems(std::vector<Index> sides) : sides_(std::move(sides)) {
    Rng rng(1);
    for (const Index side : sides_) {
      Matrix<double>& matrix = matrices_[side];
      if (matrix.rows() > 0) continue;
      matrix = Matrix<double>(side, side);
      for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = rng.Normal();
    }
  }
  double Run(ThreadPool& pool) {
    const double begin = ProcessorSeconds();
    pool.ParallelFor(static_cast<Index>(sides_.size()), [&](Index i, int) {
      Matrix<double> copy = matrices_.at(sides_[Size(i)]).Clone();
      (void)SymmetricEigenvalues(copy.view());
    });
    return ProcessorSeconds() - begin;
  }
  [[nodiscard]] std::size_t count() const noexcept { return sides_.size(); }

 private:
  std::vector<Index> sides_;
  std::map<Index, Matrix<double>> matrices_;
};

int Run(int count, char** words) {
  if (count < 2) {
    std::fprintf(stderr, "diagnose_bench MODEL [LAYERS=2] [THREADS=all] [ROUNDS=3]\n");
    return 2;
  }
  const int threads =
      count > 3 ? std::atoi(words[3]) : static_cast<int>(std::thread::hardware_concurrency());
  const int rounds = count > 4 ? std::max(1, std::atoi(words[4])) : 3;
  const ModelFolder model = OpenModel(words[1]);
  Weights weights = model.weights;
  weights.config.layers =
      std::min<Index>(weights.config.layers, count > 2 ? std::atoi(words[2]) : 2);
  weights.layers.resize(Size(weights.config.layers));
  ThreadPool pool(threads);
  const Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  const DiagnoseOptions options{.settings = {.inputs = SpectrumInputs::kWeights}};
  Eigenproblems problems(Sides(weights.config, options.twins));
  std::vector<double> ours, lapack, ratios;
  for (int round = 0; round < rounds; ++round) {
    Diagnosis diagnosis;
    const double begin = ProcessorSeconds();
    MeasureWeightSpectra(weights, options, context, diagnosis);
    ours.push_back(ProcessorSeconds() - begin);
    lapack.push_back(problems.Run(pool));
    ratios.push_back(ours.back() / lapack.back());
  }
  std::printf("%s, %d threads, %s, %ld layers, %zu eigenproblems\n", words[1], threads,
              BlasDescription().c_str(), static_cast<long>(weights.config.layers),
              problems.count());
  std::printf(
      "diagnose %.2f s, LAPACK eigenvalues %.2f s, ratio %.2f (processor time, medians of %d)\n",
      *Median(ours), *Median(lapack), *Median(ratios), rounds);
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  return lieq::Run(count, words);
}
