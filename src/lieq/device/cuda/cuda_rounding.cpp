#include "lieq/device/cuda/cuda_rounding.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/cuda_refine.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/prepared.h"

namespace lieq::cuda {
namespace {

void PlaceValues(const void* values, std::size_t bytes, void* to, Queue& queue) {
  queue.Upload(values, bytes, to, bytes, bytes, 1);
}

/// A piece of work on one matrix; positions are those of the factor.
class Rounding {
 public:
  Rounding(const RoundingWork& work, CudaProducts& products, Queue& queue)
      : work_(work),
        products_(products),
        queue_(queue),
        rows_(work.placed != nullptr ? work.placed->rows() : work.w.rows()),
        n_(work.placed != nullptr ? work.placed->cols() : work.w.cols()),
        factor_(static_cast<const CudaGptqFactor&>(work.factor)),
        grid_(GridOf(work, n_)) {
    LIEQ_ASSERT(factor_.n() == n_);
    // Weights arrive row by row where the errors will be, which nothing holds yet.
    auto* by_row = errors_.Get<float>(n_ * rows_);
    if (work.placed != nullptr) {
      Widen(SourceOf(*work.placed), 0, {by_row, rows_, n_, n_}, queue.stream());
    } else {
      queue.Upload(work.w.data(), Size(work.w.stride()) * sizeof(float), by_row,
                   Size(n_) * sizeof(float), Size(n_) * sizeof(float), rows_);
    }
    cuda::Transpose(by_row, rows_, n_, factor_.order(), Target(), queue.stream());
    if (work.drift != nullptr || work.missing != nullptr || work.refine != nullptr) {
      cuda::Transpose(by_row, rows_, n_, nullptr, weights_.Get<float>(n_ * rows_), queue.stream());
    }
  }

  void Run(const RoundingResult& result) {
    if (work_.drift != nullptr || work_.missing != nullptr) Correct();
    Fit(Target());
    // As RoundByGptq: scales fitted to the weights serve a first pass, those that count are fitted
    // to the targets that it met.
    if (work_.search) {
      auto* seen = seen_.Get<float>(n_ * rows_);
      Pass(seen);
      Fit(seen);
    }
    Pass(nullptr);
    MeasureSignal();
    if (work_.refine != nullptr) {
      // By column, where the scales' search had its targets.
      auto* target = seen_.Get<float>(n_ * rows_);
      PermuteRows(Target(), factor_.positions(), n_, rows_, target, queue_.stream());
      RefineMatrix({.work = *work_.refine,
                    .multiple = work_.multiple,
                    .grid = grid_,
                    .n = n_,
                    .h = factor_.h(),
                    .weights = weights_.Get<float>(n_ * rows_),
                    .target = target,
                    .residual = errors_.Get<float>(n_ * rows_),
                    .room = target_.Get<float>(n_ * rows_),
                    .q = Codes()},
                   result, products_, queue_);
    }
    Check(cudaGetLastError(), "rounding");
    Collect(result);
  }

 private:
  static GptqGrid GridOf(const RoundingWork& work, Index n) {
    LIEQ_ASSERT(work.offset != Offset::kFloat);
    return {.levels = 1 << work.bits,
            .group_columns = static_cast<std::int32_t>(work.group_columns),
            .groups = static_cast<std::int32_t>(n / work.group_columns),
            .zeros = work.offset == Offset::kSymmetric ? Zeros::kSymmetric
                     : work.offset == Offset::kHalf    ? Zeros::kHalf
                                                       : Zeros::kInteger,
            .search = work.search};
  }

  float* Target() { return target_.Get<float>(n_ * rows_); }
  float* Scale() { return scale_.Get<float>(Index{grid_.groups} * rows_); }
  float* Minimum() { return minimum_.Get<float>(Index{grid_.groups} * rows_); }
  CodesOnDevice Codes() {
    return {.codes = codes_.Get<std::uint8_t>(n_ * rows_),
            .scale = Scale(),
            .minimum = Minimum(),
            .rows = rows_,
            .group_columns = grid_.group_columns};
  }

  /// Adds to the target what makes up for drifted inputs (quantize/target.h).
  void Correct() {
    const cudaStream_t stream = queue_.stream();
    auto* miss = seen_.Get<float>(n_ * rows_);  // by column, then by position
    auto* negated = errors_.Get<float>(n_ * rows_);
    MissingByColumn({.drift = work_.drift,
                     .missing = work_.missing,
                     .drift_strength = work_.drift_strength,
                     .multiple = work_.multiple},
                    weights_.Get<float>(n_ * rows_), rows_, negated, miss, products_, queue_);
    PermuteRows(miss, factor_.order(), n_, rows_, negated, stream);
    std::swap(miss, negated);  // both are of that size
    const float* f = factor_.feedback();
    const auto part = [&](float* of, Index first, Index count) {
      return Block<float>{of + first * rows_, count, rows_, rows_};
    };
    const auto read = [](Block<float> block) {
      return Block<const float>{block.data, block.rows, block.cols, block.stride};
    };
    for (Index begin = 0; begin < n_; begin += kGptqBlock) {
      const Index count = std::min(kGptqBlock, n_ - begin);
      const Block<float> own = part(miss, begin, count);
      if (begin > 0) {
        products_.AddPlain({f + begin * n_, count, begin, n_}, read(part(negated, 0, begin)), own);
      }
      SolveInBlock(f + begin * n_ + begin, n_, count, rows_, true, own.data,
                   negated + begin * rows_, stream);
    }
    DivideByPivots(factor_.pivots(), n_, rows_, miss, stream);
    for (Index end = n_; end > 0;) {
      const Index begin = (end - 1) / kGptqBlock * kGptqBlock;
      const Block<float> own = part(miss, begin, end - begin);
      if (end < n_) {
        products_.MultiplyTransposed({f + end * n_ + begin, n_ - end, end - begin, n_},
                                     read(part(negated, end, n_ - end)), own, true);
      }
      SolveInBlock(f + begin * n_ + begin, n_, end - begin, rows_, false, own.data,
                   negated + begin * rows_, stream);
      end = begin;
    }
    AddMultiple(miss, 1, n_ * rows_, Target(), stream);
  }

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
    const float* weights = Target();
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
    const float* weights = Target();
    double* signal = sums_.Get<double>(3 * rows_) + 2 * rows_;
    for (Index begin = 0; begin < n_; begin += kGptqBlock) {
      const Index count = std::min(kGptqBlock, n_ - begin);
      const Block<float> sums = WithFeedback(weights, weights, begin, count, begin);
      AddSignal(sums.data, count, rows_, factor_.pivots() + begin, signal, queue_.stream());
    }
  }

  void Collect(const RoundingResult& result) {
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

  const RoundingWork& work_;
  CudaProducts& products_;
  Queue& queue_;
  const Index rows_, n_;
  const CudaGptqFactor& factor_;
  const GptqGrid grid_;
  // [n, rows] each: the target by position, and the weights by column.
  Scratch target_{queue_}, weights_{queue_}, errors_{queue_}, seen_{queue_}, block_{queue_};
  Scratch scale_{queue_}, minimum_{queue_}, codes_{queue_}, sums_{queue_};
};

}  // namespace

CudaGptqFactor::CudaGptqFactor(std::span<const Index> order, Queue& queue)
    : n_(static_cast<Index>(order.size())),
      feedback_(queue),
      pivots_(queue),
      order_(queue),
      positions_(queue),
      h_(queue) {
  std::vector<std::int32_t> columns(order.size()), positions(order.size());
  for (std::size_t p = 0; p < order.size(); ++p) {
    columns[p] = static_cast<std::int32_t>(order[p]);
    positions[Size(order[p])] = static_cast<std::int32_t>(p);
  }
  const std::size_t bytes = order.size() * sizeof(std::int32_t);
  PlaceValues(columns.data(), bytes, order_.Get<std::int32_t>(n_), queue);
  PlaceValues(positions.data(), bytes, positions_.Get<std::int32_t>(n_), queue);
}

PlacedGptqFactor Factorize(const double* gram, std::span<const double> diagonal,
                           std::span<const Index> order, bool refines, Cusolver& solver,
                           Queue& queue) {
  auto factor = std::make_shared<CudaGptqFactor>(order, queue);
  const Index n = factor->n();
  Scratch permuted(queue), placed_diagonal(queue);
  auto* l = permuted.Get<double>(n * n);
  auto* on_diagonal = placed_diagonal.Get<double>(n);
  PlaceValues(diagonal.data(), diagonal.size_bytes(), on_diagonal, queue);
  if (refines) MakeMetric(gram, on_diagonal, n, factor->h(), queue.stream());
  Permute(gram, on_diagonal, factor->order(), n, l, queue.stream());
  if (!solver.Cholesky(l, n)) return nullptr;
  Normalize(l, n, factor->feedback(), factor->pivots(), queue.stream());
  Check(cudaGetLastError(), "a factorisation");
  return factor;
}

PlacedGptqFactor PlaceFactor(View<const float, 2> feedback, std::span<const float> pivots,
                             std::span<const Index> order, View<const float, 2> h, Queue& queue) {
  auto factor = std::make_shared<CudaGptqFactor>(order, queue);
  const std::size_t row = Size(factor->n()) * sizeof(float);
  queue.Upload(feedback.data(), Size(feedback.stride()) * sizeof(float), factor->feedback(), row,
               row, factor->n());
  PlaceValues(pivots.data(), row, factor->pivots(), queue);
  if (h.size() > 0) {
    queue.Upload(h.data(), Size(h.stride()) * sizeof(float), factor->h(), row, row, factor->n());
  }
  return factor;
}

void DownloadBlocks(const GptqFactorOnDevice& of, View<float, 2> blocks, Queue& queue) {
  const auto& factor = static_cast<const CudaGptqFactor&>(of);
  const Index n = factor.n(), columns = blocks.cols();
  LIEQ_ASSERT(blocks.rows() == n && n % columns == 0);
  const std::size_t row = Size(columns) * sizeof(float);
  Scratch gathered(queue);
  auto* room = gathered.Get<float>(n * columns);
  // Rows of one group begin at one column: a copy to a group, and one to the host.
  for (Index begin = 0; begin < n; begin += columns) {
    Check(cudaMemcpy2DAsync(room + begin * columns, row, factor.h() + begin * n + begin,
                            Size(n) * sizeof(float), row, Size(columns), cudaMemcpyDeviceToDevice,
                            queue.stream()),
          "copying on it");
  }
  queue.Download(room, row, blocks.data(), Size(blocks.stride()) * sizeof(float), row, n);
}

void RoundMatrix(const RoundingWork& work, const RoundingResult& result, CudaProducts& products,
                 Queue& queue) {
  Rounding(work, products, queue).Run(result);
}

}  // namespace lieq::cuda
