#include "lieq/device/cuda/cuda_refine.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/cuda_sums.h"

namespace lieq::cuda {
namespace {

constexpr Index kBlock = 128;  // columns of a block, where groups are not wider

/// Factors of the groups as the kernel reads them.
class PlacedGroups {
 public:
  PlacedGroups(const RefineWork& work, Queue& queue) : queue_(queue) {
    const Index n = work.feedback.rows(), columns = work.feedback.cols();
    std::vector<float> transposed(Size(n * columns)), of_one(Size(n));
    std::vector<std::int32_t> columns_of(Size(n));
    for (Index begin = 0; begin < n; begin += columns) {
      for (Index p = 0; p < columns; ++p) {
        const auto at = Size(begin + p);
        double one = 1;
        for (Index j = p + 1; j < columns; ++j) {
          const float factor = work.feedback(begin + j, p);
          transposed[at * Size(columns) + Size(j)] = factor;
          one += static_cast<double>(factor);
        }
        of_one[at] = static_cast<float>(one * static_cast<double>(work.pivots[at]));
        columns_of[at] = static_cast<std::int32_t>(work.order[at]);
      }
    }
    factors = Placed(transposed.data(), n * columns, factors_);
    ones = Placed(of_one.data(), n, ones_);
    pivots = Placed(work.pivots.data(), n, pivots_);
    order = Placed(columns_of.data(), n, order_);
    stretches = Placed(work.stretches.data(), std::ssize(work.stretches), stretches_);
  }

  const float *factors, *ones, *pivots;
  const std::int32_t* order;
  const double* stretches;

 private:
  template <class T>
  const T* Placed(const T* values, Index count, Scratch& room) {
    T* to = room.Get<T>(std::max<Index>(count, 1));
    const std::size_t bytes = Size(count) * sizeof(T);
    queue_.Upload(values, bytes, to, bytes, bytes, 1);
    return to;
  }

  Queue& queue_;
  Scratch factors_{queue_}, ones_{queue_}, pivots_{queue_}, order_{queue_}, stretches_{queue_};
};

class Refinement {
 public:
  Refinement(const MatrixToRefine& matrix, CudaProducts& products, Queue& queue)
      : m_(matrix), products_(products), queue_(queue), rows_(matrix.q.rows), n_(matrix.n) {}

  void Run(const RoundingResult& result) {
    const bool judges = m_.work.gram != nullptr;
    if (judges) {
      KeepStart();
      Judge(Sums(2), result.judged_before);
    }
    Descend(result);
    if (!judges) return;
    Judge(Sums(3), result.judged_after);
    TakeBack(m_.q, start_, n_, Sums(2), Sums(3), queue_.stream());
  }

 private:
  /// [rows]: 0 the sums of a round, 1 moves, 2 and 3 errors that rows are judged by.
  double* Sums(Index which) { return sums_.Get<double>(4 * rows_) + which * rows_; }
  void Download(const double* from, std::span<double> to) {
    queue_.Download(from, to.size_bytes(), to.data(), to.size_bytes(), to.size_bytes(), 1);
  }
  void Clear(double* sums) {
    Check(cudaMemsetAsync(sums, 0, Size(rows_) * sizeof(double), queue_.stream()), "refining");
  }
  [[nodiscard]] Block<const float> ByColumn(const float* data, Index count) const {
    return {data, count, rows_, rows_};
  }
  /// to [n, rows] = of times values, `of` [n, n] being symmetric.
  void Times(const float* of, const float* values, float* to) {
    products_.MultiplyTransposed({of, n_, n_, n_}, ByColumn(values, n_), {to, n_, rows_, rows_},
                                 false);
  }

  /// The loss of each row, by the gradient there is.
  void Loss(const float* gradient, std::span<double> losses) {
    Residual(m_.target, m_.q, n_, m_.residual, queue_.stream());
    ProductsOfRows(m_.residual, gradient, nullptr, n_, rows_, Sums(0), queue_.stream());
    Download(Sums(0), losses);
  }

  void Descend(const RoundingResult& result) {
    const PlacedGroups groups(m_.work, queue_);
    auto* gradient = gradient_.Get<float>(n_ * rows_);
    auto* change = m_.room;
    Residual(m_.target, m_.q, n_, m_.residual, queue_.stream());
    Times(m_.h, m_.residual, gradient);
    Loss(gradient, result.refined);
    double loss = std::accumulate(result.refined.begin(), result.refined.end(), 0.0);
    Clear(Sums(1));
    const Index columns = m_.grid.group_columns;
    const Index step = std::max<Index>(1, kBlock / columns) * columns, blocks = CeilDiv(n_, step);
    std::vector<double> gains(Size(rows_));
    for (int round = 0; round < m_.work.rounds; ++round) {
      Clear(Sums(0));
      const bool forward = round % 2 == 0;
      for (Index i = 0; i < blocks; ++i) {
        const Index begin = (forward ? i : blocks - 1 - i) * step;
        const Index width = std::min(step, n_ - begin);
        Refine({.begin = begin,
                .width = width,
                .n = n_,
                .h = m_.h,
                .factors = groups.factors,
                .pivots = groups.pivots,
                .ones = groups.ones,
                .order = groups.order,
                .gradient = gradient,
                .change = change,
                .q = m_.q,
                .gains = Sums(0),
                .moves = Sums(1),
                .stretches = groups.stretches,
                .stretch_count = static_cast<int>(m_.work.stretches.size()),
                .least_share = m_.work.least_share,
                .forward = forward},
               m_.grid, queue_.stream());
        products_.MultiplyTransposed({m_.h + begin * n_, width, n_, n_}, ByColumn(change, width),
                                     {gradient, n_, rows_, rows_}, true);
      }
      Download(Sums(0), gains);
      const double gain = std::accumulate(gains.begin(), gains.end(), 0.0);
      loss -= gain;
      if (gain <= m_.work.least_gain * loss) break;
    }
    Loss(gradient, result.refined);
    Download(Sums(1), result.moves);
  }

  void KeepStart() {
    start_ = m_.q;
    const auto kept = [&](const auto* from, Index count, Scratch& room) {
      using T = std::remove_cvref_t<decltype(*from)>;
      T* to = room.Get<T>(count);
      Check(cudaMemcpyAsync(to, from, Size(count) * sizeof(T), cudaMemcpyDeviceToDevice,
                            queue_.stream()),
            "refining");
      return to;
    };
    start_.codes = kept(m_.q.codes, n_ * rows_, start_codes_);
    start_.scale = kept(m_.q.scale, Index{m_.grid.groups} * rows_, start_scale_);
    start_.minimum = kept(m_.q.minimum, Index{m_.grid.groups} * rows_, start_minimum_);
  }

  /// Output errors on what was held out (RowJudge of quantize/calibrated.h).
  void Judge(double* sums, std::span<double> errors) {
    const RefineWork& work = m_.work;
    float* linear = nullptr;
    auto* product = gradient_.Get<float>(n_ * rows_);  // which is made later, or done with
    if (work.drift != nullptr || work.missing != nullptr) {
      linear = m_.room;
      MissingByColumn({work.drift, work.missing, 2, 2 * m_.multiple}, m_.weights, rows_, product,
                      linear, products_, queue_);
    }
    Residual(m_.weights, m_.q, n_, m_.residual, queue_.stream());
    Times(DataOf(*work.gram), m_.residual, product);
    ProductsOfRows(m_.residual, product, linear, n_, rows_, sums, queue_.stream());
    Download(sums, errors);
  }

  const MatrixToRefine& m_;
  CudaProducts& products_;
  Queue& queue_;
  const Index rows_, n_;
  CodesOnDevice start_{};
  Scratch gradient_{queue_}, sums_{queue_};
  Scratch start_codes_{queue_}, start_scale_{queue_}, start_minimum_{queue_};
};

}  // namespace

void MissingByColumn(const MissingSums& sums, const float* weights, Index rows, float* room,
                     float* to, CudaProducts& products, Queue& queue) {
  const Index n = sums.drift != nullptr ? sums.drift->rows() : sums.missing->cols();
  const cudaStream_t stream = queue.stream();
  const bool drifts = sums.drift != nullptr;
  if (drifts) {
    products.MultiplyTransposed({DataOf(*sums.drift), n, n, n}, {weights, n, rows, rows},
                                {to, n, rows, rows}, false);
    Scale({to, n, rows, rows}, static_cast<float>(sums.drift_strength), stream);
  }
  if (sums.missing == nullptr) return;
  LIEQ_ASSERT(sums.missing->rows() == rows && sums.missing->cols() == n);
  Transpose(DataOf(*sums.missing), rows, n, nullptr, room, stream);
  if (!drifts) Check(cudaMemsetAsync(to, 0, Size(n * rows) * sizeof(float), stream), "refining");
  AddMultiple(room, static_cast<float>(sums.multiple), n * rows, to, stream);
}

void RefineMatrix(const MatrixToRefine& matrix, const RoundingResult& result,
                  CudaProducts& products, Queue& queue) {
  Refinement(matrix, products, queue).Run(result);
}

}  // namespace lieq::cuda
