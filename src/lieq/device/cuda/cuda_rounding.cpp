#include "lieq/device/cuda/cuda_rounding.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

void PlaceValues(const void* values, std::size_t bytes, void* to, Queue& queue) {
  queue.Upload(values, bytes, to, bytes, bytes, 1);
}

/// A piece of work on one matrix; positions are those of the factor.
class Rounding {
 public:
  Rounding(const GptqWork& work, CudaProducts& products, Queue& queue)
      : work_(work),
        products_(products),
        queue_(queue),
        rows_(work.w.rows()),
        n_(work.w.cols()),
        factor_(static_cast<const CudaGptqFactor&>(work.factor)),
        grid_(GridOf(work)) {
    LIEQ_ASSERT(factor_.n() == n_);
    // Weights arrive row by row where the errors will be, which nothing holds yet.
    auto* by_row = errors_.Get<float>(n_ * rows_);
    queue.Upload(work.w.data(), Size(work.w.stride()) * sizeof(float), by_row,
                 Size(n_) * sizeof(float), Size(n_) * sizeof(float), rows_);
    cuda::Transpose(by_row, rows_, n_, factor_.order(), weights_.Get<float>(n_ * rows_),
                    queue.stream());
  }

  void Run(const GptqResult& result) {
    auto* weights = weights_.Get<float>(n_ * rows_);
    Fit(weights);
    // As RoundByGptq: scales fitted to the weights serve a first pass, those that count are fitted
    // to the targets that it met.
    if (work_.search) {
      auto* seen = seen_.Get<float>(n_ * rows_);
      Pass(seen);
      Fit(seen);
    }
    Pass(nullptr);
    MeasureSignal();
    Check(cudaGetLastError(), "GPTQ");
    Collect(result);
  }

 private:
  static GptqGrid GridOf(const GptqWork& work) {
    LIEQ_ASSERT(work.offset != Offset::kFloat);
    return {.levels = 1 << work.bits,
            .group_columns = static_cast<std::int32_t>(work.group_columns),
            .groups = static_cast<std::int32_t>(work.w.cols() / work.group_columns),
            .zeros = work.offset == Offset::kSymmetric ? Zeros::kSymmetric
                     : work.offset == Offset::kHalf    ? Zeros::kHalf
                                                       : Zeros::kInteger,
            .search = work.search};
  }

  float* Scale() { return scale_.Get<float>(Index{grid_.groups} * rows_); }
  float* Minimum() { return minimum_.Get<float>(Index{grid_.groups} * rows_); }

  void Fit(const float* values) {
    FitGroups(values, rows_, factor_.positions(), factor_.pivots(), grid_, Scale(), Minimum(),
              queue_.stream());
  }

  /// Positions first .. first + count - 1 of values, and what those from `from` on add to them.
  Block<float> WithFeedback(const float* values, const float* of, Index first, Index count,
                            Index from) {
    const Block<float> sum{block_.Get<float>(kGptqBlock * rows_), count, rows_, rows_};
    Check(cudaMemcpyAsync(sum.data, values + first * rows_, Size(count * rows_) * sizeof(float),
                          cudaMemcpyDeviceToDevice, queue_.stream()),
          "GPTQ");
    if (from < n_) {
      products_.MultiplyTransposed({factor_.feedback() + from * n_ + first, n_ - from, count, n_},
                                   {of + from * rows_, n_ - from, rows_, rows_}, sum, true);
    }
    return sum;
  }

  void Pass(float* seen) {
    const float* weights = weights_.Get<float>(n_ * rows_);
    auto* errors = errors_.Get<float>(n_ * rows_);
    auto* sums = sums_.Get<double>(3 * rows_);  // error, clamped, signal
    Check(cudaMemsetAsync(sums, 0, Size(3 * rows_) * sizeof(double), queue_.stream()), "GPTQ");
    for (Index end = n_; end > 0;) {
      const Index begin = std::max<Index>(0, end - kGptqBlock);
      const Block<float> targets = WithFeedback(weights, errors, begin, end - begin, end);
      RoundBlock({.begin = begin,
                  .end = end,
                  .rows = rows_,
                  .n = n_,
                  .weights = weights,
                  .targets = targets.data,
                  .feedback = factor_.feedback(),
                  .pivots = factor_.pivots(),
                  .order = factor_.order(),
                  .scale = Scale(),
                  .minimum = Minimum(),
                  .errors = errors,
                  .seen = seen,
                  .codes = codes_.Get<std::uint8_t>(n_ * rows_),
                  .error = sums,
                  .clamped = sums + rows_},
                 grid_, queue_.stream());
      end = begin;
    }
  }

  /// |w U|² by columns: U_kk (w_k + sum of w_j U_jk / U_kk); the feedback is 0 on and above the
  /// diagonal.
  void MeasureSignal() {
    const float* weights = weights_.Get<float>(n_ * rows_);
    double* signal = sums_.Get<double>(3 * rows_) + 2 * rows_;
    for (Index begin = 0; begin < n_; begin += kGptqBlock) {
      const Index count = std::min(kGptqBlock, n_ - begin);
      const Block<float> sums = WithFeedback(weights, weights, begin, count, begin);
      AddSignal(sums.data, count, rows_, factor_.pivots() + begin, signal, queue_.stream());
    }
  }

  void Collect(const GptqResult& result) {
    const auto take = [&](const auto* from, auto view) {
      using T = std::remove_pointer_t<decltype(view.data())>;
      const std::size_t row = Size(view.cols()) * sizeof(T);
      queue_.Download(from, row, view.data(), Size(view.stride()) * sizeof(T), row, view.rows());
    };
    const auto transposed = [&](const auto* from, Index cols, auto view, auto* room) {
      Transpose(from, cols, rows_, room);
      take(room, view);
    };
    // Into the room of the errors, which are of no use any more.
    transposed(codes_.Get<std::uint8_t>(n_ * rows_), n_, result.codes,
               errors_.Get<std::uint8_t>(n_ * rows_));
    transposed(Scale(), grid_.groups, result.scale, errors_.Get<float>(grid_.groups * rows_));
    transposed(Minimum(), grid_.groups, result.minimum, errors_.Get<float>(grid_.groups * rows_));
    const double* sums = sums_.Get<double>(3 * rows_);
    take(sums, View<double, 2>(result.error.data(), 1, rows_));
    take(sums + rows_, View<double, 2>(result.clamped.data(), 1, rows_));
    take(sums + 2 * rows_, View<double, 2>(result.signal.data(), 1, rows_));
  }
  void Transpose(const float* from, Index rows, Index cols, float* to) {
    cuda::Transpose(from, rows, cols, nullptr, to, queue_.stream());
  }
  void Transpose(const std::uint8_t* from, Index rows, Index cols, std::uint8_t* to) {
    cuda::Transpose(from, rows, cols, to, queue_.stream());
  }

  const GptqWork& work_;
  CudaProducts& products_;
  Queue& queue_;
  const Index rows_, n_;
  const CudaGptqFactor& factor_;
  const GptqGrid grid_;
  Scratch weights_{queue_}, errors_{queue_}, seen_{queue_}, block_{queue_};
  Scratch scale_{queue_}, minimum_{queue_}, codes_{queue_}, sums_{queue_};
};

}  // namespace

CudaGptqFactor::CudaGptqFactor(std::span<const Index> order, Queue& queue)
    : n_(static_cast<Index>(order.size())),
      feedback_(queue),
      pivots_(queue),
      order_(queue),
      positions_(queue) {
  std::vector<std::int32_t> columns(order.size()), positions(order.size());
  for (std::size_t p = 0; p < order.size(); ++p) {
    columns[p] = static_cast<std::int32_t>(order[p]);
    positions[Size(order[p])] = static_cast<std::int32_t>(p);
  }
  const std::size_t bytes = order.size() * sizeof(std::int32_t);
  PlaceValues(columns.data(), bytes, order_.Get<std::int32_t>(n_), queue);
  PlaceValues(positions.data(), bytes, positions_.Get<std::int32_t>(n_), queue);
}

PlacedGptqFactor Factorize(View<const double, 2> gram, std::span<const double> diagonal,
                           std::span<const Index> order, Cusolver& solver, Queue& queue) {
  auto factor = std::make_shared<CudaGptqFactor>(order, queue);
  const Index n = factor->n();
  const std::size_t row = Size(n) * sizeof(double);
  Scratch placed(queue), permuted(queue), placed_diagonal(queue);
  auto* from = placed.Get<double>(n * n);
  auto* l = permuted.Get<double>(n * n);
  auto* on_diagonal = placed_diagonal.Get<double>(n);
  constexpr Index kRows = 512;  // of the lower triangle: no farther than the last of them goes
  for (Index first = 0; first < n; first += kRows) {
    const Index count = std::min(kRows, n - first);
    queue.Upload(gram.Row(first).data(), Size(gram.stride()) * sizeof(double), from + first * n,
                 row, Size(first + count) * sizeof(double), count);
  }
  PlaceValues(diagonal.data(), row, on_diagonal, queue);
  Permute(from, on_diagonal, factor->order(), n, l, queue.stream());
  if (!solver.Cholesky(l, n)) return nullptr;
  Normalize(l, n, factor->feedback(), factor->pivots(), queue.stream());
  Check(cudaGetLastError(), "a factorisation");
  return factor;
}

PlacedGptqFactor PlaceFactor(View<const float, 2> feedback, std::span<const float> pivots,
                             std::span<const Index> order, Queue& queue) {
  auto factor = std::make_shared<CudaGptqFactor>(order, queue);
  const std::size_t row = Size(factor->n()) * sizeof(float);
  queue.Upload(feedback.data(), Size(feedback.stride()) * sizeof(float), factor->feedback(), row,
               row, factor->n());
  PlaceValues(pivots.data(), row, factor->pivots(), queue);
  return factor;
}

void RoundByGptq(const GptqWork& work, const GptqResult& result, CudaProducts& products,
                 Queue& queue) {
  Rounding(work, products, queue).Run(result);
}

}  // namespace lieq::cuda
