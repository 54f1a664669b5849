#include "lieq/device/cuda/cuda_tuning.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <variant>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/block_of.h"
#include "lieq/device/cuda/cuda_sums.h"
#include "lieq/device/cuda/gradient_kernels.h"
#include "lieq/device/cuda/prepared.h"
#include "lieq/device/cuda/tuning_kernels.h"
#include "lieq/device/device_access.h"

namespace lieq::cuda {
namespace {

/// A block of a GPU's memory, zeros at first.
template <class T>
class Held {
 public:
  Held(Queue& queue, Index count)
      : queue_(queue), count_(count), block_(count > 0 ? queue.Take(bytes()) : nullptr) {
    Clear();
  }
  ~Held() { queue_.Give(block_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  [[nodiscard]] T* data() const noexcept { return static_cast<T*>(block_); }
  [[nodiscard]] std::size_t bytes() const noexcept { return Size(count_) * sizeof(T); }
  void Clear() {
    if (count_ > 0) Check(cudaMemsetAsync(block_, 0, bytes(), queue_.stream()), "clearing");
  }
  void Write(Index first, std::span<const T> from) {
    if (from.empty()) return;
    queue_.Upload(from.data(), from.size_bytes(), data() + first, from.size_bytes(),
                  from.size_bytes(), 1);
  }
  void Read(Index first, std::span<T> to) const {
    if (to.empty()) return;
    queue_.Download(data() + first, to.size_bytes(), to.data(), to.size_bytes(), to.size_bytes(),
                    1);
  }

 private:
  Queue& queue_;
  Index count_;
  void* block_;
};

class CudaTrained final : public TrainedMatrices {
 public:
  CudaTrained(Queue& queue, std::span<const TrainedStart> starts)
      : queue_(queue),
        sizes_(SizesOf(starts)),
        u_(queue, sizes_.numbers),
        gradient_(queue, sizes_.numbers),
        first_(queue, sizes_.numbers),
        second_(queue, sizes_.numbers),
        start_(queue, sizes_.numbers),
        kept_(queue, sizes_.numbers),
        code_u_(queue, sizes_.codes),
        code_gradient_(queue, sizes_.codes),
        code_first_(queue, sizes_.codes),
        code_second_(queue, sizes_.codes),
        kept_words_(queue, sizes_.words),
        table_(queue, static_cast<Index>(starts.size())),
        pieces_(queue, sizes_.pieces),
        code_pieces_(queue, sizes_.code_pieces),
        squares_(queue) {
    std::vector<TrainedPiece> pieces, code_pieces;
    Index numbers = 0, codes = 0, words = 0;
    for (const TrainedStart& start : starts) {
      const QMatrix& q = *start.matrix;
      LIEQ_ASSERT(!q.grid().k_quant);
      prepared_.push_back(std::make_shared<CudaPrepared>(start.matrix, false, queue));
      // Its memory is this object's to change: nobody else has it before it is handed out.
      const Source& source = SourceOf(*prepared_.back());
      matrices_.push_back({.words = const_cast<std::uint32_t*>(source.words),
                           .scales = const_cast<float*>(source.scales),
                           .minima = const_cast<float*>(source.minima),
                           .zeros = source.zeros,
                           .zero = source.zero,
                           .bits = source.bits,
                           .rows = source.rows,
                           .cols = source.cols,
                           .groups = source.groups,
                           .group_columns = source.group_columns,
                           .words_per_row = source.words_per_row,
                           .numbers = numbers,
                           .codes = start.codes ? codes : -1});
      kept_at_.push_back(words);
      start_.Write(numbers, {q.scales().data(), Size(q.scales().size())});
      start_.Write(numbers + q.scales().size(), {q.minima().data(), Size(q.minima().size())});
      const auto index = static_cast<std::int32_t>(matrices_.size() - 1);
      ForNumberPieces(q, [&](Index begin, Index count) {
        pieces.push_back({index, static_cast<std::int32_t>(count), begin});
      });
      numbers += q.scales().size() + q.minima().size();
      if (!start.codes) continue;
      ForCodePieces(q, [&](Index begin, Index count) {
        code_pieces.push_back({index, static_cast<std::int32_t>(count), begin});
      });
      codes += q.rows() * q.cols();
      words += static_cast<Index>(q.words().size());
    }
    table_.Write(0, matrices_);
    pieces_.Write(0, pieces);
    code_pieces_.Write(0, code_pieces);
  }

  const Prepared& matrix(Index i) const override { return prepared_[Size(i)]; }

  void AddGradient(Index i, const PlacedSums<float>& dw) override {
    const TrainedMatrix& matrix = matrices_[Size(i)];
    LIEQ_ASSERT(dw.rows() == matrix.rows && dw.cols() == matrix.cols);
    AddNumbersGradient(matrix, DataOf(dw), Numbers(), Codes(), queue_.stream());
    Started("AddGradient");
  }
  double GradientSquares() override {
    auto* scratch = squares_.Get<double>(kSquaresScratch + 1);
    SquaresOf(Numbers(), Codes(), scratch, scratch + kSquaresScratch, queue_.stream());
    Started("GradientSquares");
    double sum = 0;
    queue_.Download(scratch + kSquaresScratch, sizeof sum, &sum, sizeof sum, sizeof sum, 1);
    return sum;
  }
  void ClearGradients() override {
    gradient_.Clear();
    code_gradient_.Clear();
  }
  void Step(const AdamStep& numbers, const AdamStep& codes) override { Go(numbers, codes, true); }
  void Round() override { Go({}, {}, false); }

  void Keep() override {
    const auto copy = [&](const void* from, void* to, std::size_t bytes) {
      if (bytes == 0) return;
      Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, queue_.stream()), "keeping");
    };
    copy(u_.data(), kept_.data(), u_.bytes());
    for (std::size_t i = 0; i < matrices_.size(); ++i) {
      const TrainedMatrix& matrix = matrices_[i];
      if (matrix.codes < 0) continue;
      copy(matrix.words, kept_words_.data() + kept_at_[i],
           Size(matrix.rows * matrix.words_per_row) * sizeof(std::uint32_t));
    }
  }
  void Read(Index i, const TrainedArrays<float, std::uint32_t>& to) override {
    const TrainedMatrix& matrix = matrices_[Size(i)];
    const auto read = [&](const auto& numbers, Index first) {
      u_.Read(first, numbers.u);
      first_.Read(first, numbers.first);
      second_.Read(first, numbers.second);
      kept_.Read(first, numbers.kept);
    };
    read(to.scale, matrix.numbers);
    read(to.minimum, matrix.numbers + matrix.rows * matrix.groups);
    if (matrix.codes < 0) return;
    code_u_.Read(matrix.codes, to.code.u);
    code_first_.Read(matrix.codes, to.code.first);
    code_second_.Read(matrix.codes, to.code.second);
    kept_words_.Read(kept_at_[Size(i)], to.kept_words);
  }
  void Write(Index i, const TrainedArrays<const float, const std::uint32_t>& from) override {
    const TrainedMatrix& matrix = matrices_[Size(i)];
    const auto write = [&](const auto& numbers, Index first) {
      u_.Write(first, numbers.u);
      first_.Write(first, numbers.first);
      second_.Write(first, numbers.second);
      kept_.Write(first, numbers.kept);
    };
    write(from.scale, matrix.numbers);
    write(from.minimum, matrix.numbers + matrix.rows * matrix.groups);
    if (matrix.codes < 0) return;
    code_u_.Write(matrix.codes, from.code.u);
    code_first_.Write(matrix.codes, from.code.first);
    code_second_.Write(matrix.codes, from.code.second);
    kept_words_.Write(kept_at_[Size(i)], from.kept_words);
  }

 private:
  struct Sizes {
    Index numbers = 0, codes = 0, words = 0, pieces = 0, code_pieces = 0;
  };
  template <class Call>
  static void ForNumberPieces(const QMatrix& q, const Call& call) {
    const Index all = q.scales().size() + q.minima().size();
    for (Index i = 0; i < all; i += kNumbersOfPiece) call(i, std::min(kNumbersOfPiece, all - i));
  }
  template <class Call>
  static void ForCodePieces(const QMatrix& q, const Call& call) {
    const Index rows = std::max<Index>(1, kCodesOfPiece / q.cols());
    for (Index r = 0; r < q.rows(); r += rows) call(r, std::min(rows, q.rows() - r));
  }
  static Sizes SizesOf(std::span<const TrainedStart> starts) {
    Sizes sizes;
    for (const TrainedStart& start : starts) {
      const QMatrix& q = *start.matrix;
      sizes.numbers += q.scales().size() + q.minima().size();
      ForNumberPieces(q, [&](Index, Index) { ++sizes.pieces; });
      if (!start.codes) continue;
      ForCodePieces(q, [&](Index, Index) { ++sizes.code_pieces; });
      sizes.codes += q.rows() * q.cols();
      sizes.words += static_cast<Index>(q.words().size());
    }
    return sizes;
  }

  static void Started(const char* operation) { Check(cudaGetLastError(), operation); }
  [[nodiscard]] TrainedNumbers Numbers() const {
    return {.u = u_.data(),
            .gradient = gradient_.data(),
            .first = first_.data(),
            .second = second_.data(),
            .start = start_.data(),
            .count = sizes_.numbers};
  }
  [[nodiscard]] TrainedNumbers Codes() const {
    return {.u = code_u_.data(),
            .gradient = code_gradient_.data(),
            .first = code_first_.data(),
            .second = code_second_.data(),
            .count = sizes_.codes};
  }
  void Go(const AdamStep& numbers, const AdamStep& codes, bool moves) {
    StepNumbers(table_.data(), pieces_.data(), sizes_.pieces, Numbers(), numbers, moves,
                queue_.stream());
    StepCodes(table_.data(), code_pieces_.data(), sizes_.code_pieces, Codes(), codes, moves,
              queue_.stream());
    Started("a step of training");
  }

  Queue& queue_;
  const Sizes sizes_;
  Held<float> u_, gradient_, first_, second_, start_, kept_;
  Held<float> code_u_, code_gradient_, code_first_, code_second_;
  Held<std::uint32_t> kept_words_;
  Held<TrainedMatrix> table_;
  Held<TrainedPiece> pieces_, code_pieces_;
  Scratch squares_;
  std::vector<Prepared> prepared_;
  std::vector<TrainedMatrix> matrices_;
  std::vector<Index> kept_at_;  // of words
};

}  // namespace

HeldMatrices::Key HeldMatrices::KeyOf(const AnyMatrix& matrix) {
  const void* where = std::visit(
      [](const auto& each) -> const void* {
        if constexpr (requires { each.data(); }) return each.data();
        if constexpr (requires { each.get(); }) return each.get();
        return nullptr;  // apart: it is prepared in parts
      },
      matrix);
  return {where, matrix.index(), Rows(matrix), Cols(matrix)};
}

void HeldMatrices::Add(const AnyMatrix& matrix, const Prepared& prepared) {
  std::erase_if(held_, [](const auto& each) { return each.second.expired(); });
  const Key key = KeyOf(matrix);
  if (std::get<0>(key) != nullptr) held_[key] = prepared;
}

Prepared HeldMatrices::Find(const AnyMatrix& matrix) const {
  if (held_.empty()) return nullptr;
  const auto found = held_.find(KeyOf(matrix));
  return found == held_.end() ? nullptr : found->second.lock();
}

std::unique_ptr<TrainedMatrices> CudaTuning::Train(std::span<const TrainedStart> matrices) {
  auto trained = std::make_unique<CudaTrained>(queue_, matrices);
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    held_.Add(matrices[i].matrix, trained->matrix(static_cast<Index>(i)));
  }
  return trained;
}

Prepared CudaTuning::Hold(const AnyMatrix& matrix) {
  Prepared prepared = Find(matrix);
  if (prepared != nullptr) return prepared;
  prepared = std::make_shared<CudaPrepared>(matrix, false, queue_);
  held_.Add(matrix, prepared);
  return prepared;
}

Index CudaTuning::free_memory() {
  std::size_t free = 0, total = 0;
  queue_.Sync();
  Check(cudaMemGetInfo(&free, &total), "asking for memory");
  const Index used = queue_.Used(), there = static_cast<Index>(free) + queue_.Held() - used;
  return queue_.bound() > 0 ? std::clamp<Index>(queue_.bound() - used, 0, there) : there;
}

void CudaTuning::Deliver(const double* found, std::span<double> sums) {
  double* room = queue_.Result<double>(sums.size(), [sums](const double* here) {
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += here[i];
  });
  Check(cudaMemcpyAsync(room, found, sums.size_bytes(), cudaMemcpyDeviceToHost, queue_.stream()),
        "sums of columns");
  Check(cudaGetLastError(), "sums of columns");
}

void CudaTuning::NormSums(DeviceView<const float> x, DeviceView<const float> dy, double eps,
                          std::span<double> sums) {
  LIEQ_ASSERT(x.rows() == dy.rows() && x.cols() == dy.cols() && Size(x.cols()) == sums.size());
  const Index scratch = ColumnSumsScratch(dy.rows(), dy.cols());
  auto* parts = sums_.Get<double>(scratch + dy.cols());
  cuda::NormSums(BlockOf(x), BlockOf(dy), eps, parts, parts + scratch, queue_.stream());
  Deliver(parts + scratch, sums);
}

void CudaTuning::ColumnSums(DeviceView<const float> dy, std::span<double> sums) {
  LIEQ_ASSERT(Size(dy.cols()) == sums.size());
  const Index scratch = ColumnSumsScratch(dy.rows(), dy.cols());
  auto* parts = sums_.Get<double>(scratch + dy.cols());
  cuda::ColumnSums(BlockOf(dy), parts, parts + scratch, queue_.stream());
  Deliver(parts + scratch, sums);
}

void CudaTuning::AddRows(DeviceView<const float> x, std::span<const TokenId> rows, float factor,
                         PlacedSums<float>& to) {
  LIEQ_ASSERT(Size(x.rows()) == rows.size() && x.cols() == to.cols());
  if (x.empty()) return;
  // By where they go, so that one block adds all of a row, in order.
  std::vector<std::int32_t> from(rows.size()), first, targets;
  std::iota(from.begin(), from.end(), 0);
  std::ranges::stable_sort(from, {}, [&](std::int32_t i) { return rows[Size(i)]; });
  for (std::size_t i = 0; i < from.size(); ++i) {
    const TokenId target = rows[Size(from[i])];
    LIEQ_ASSERT(target >= 0 && target < to.rows());
    if (!targets.empty() && targets.back() == target) continue;
    targets.push_back(target);
    first.push_back(static_cast<std::int32_t>(i));
  }
  first.push_back(static_cast<std::int32_t>(from.size()));
  const std::size_t count = targets.size();
  targets.insert(targets.end(), first.begin(), first.end());
  targets.insert(targets.end(), from.begin(), from.end());
  const std::int32_t* placed = queue_.Argument(std::span<const std::int32_t>(targets));
  const RowsOfTargets order{.from = placed + 2 * count + 1,
                            .first = placed + count,
                            .targets = placed,
                            .count = static_cast<Index>(count)};
  cuda::AddRows(BlockOf(x), order, factor, DataOf(to), queue_.stream());
  Check(cudaGetLastError(), "AddRows");
}

}  // namespace lieq::cuda
