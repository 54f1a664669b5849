#include "lieq/device/cpu/packed_products.h"

#include <algorithm>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr Index kRowTile = 128;  // rows of x that one task multiplies: well within L2
/// Weights times rows that a task multiplies: some microseconds, against one to hand it out.
constexpr Index kTaskWork = Index{1} << 18;
/// Tasks of a large matrix: enough for many threads, and so few that a thread reads on for long.
constexpr Index kMostTasks = 64;

template <class T>
void Grow(Matrix<T>& matrix, Index rows, Index cols) {
  if (matrix.rows() >= rows && matrix.cols() == cols) return;
  matrix = {};  // the old one goes first
  matrix = Matrix<T>(rows, cols);
}

/// A stride of an odd number of lines, so that rows do not meet in the same sets of a cache.
Index OddLines(Index bytes) {
  constexpr Index kLine = 64;
  return (CeilDiv(bytes, kLine) | 1) * kLine;
}

Index PlanesOf(Activations activations) {
  return activations == Activations::kInt16 ? 2 : 1;
}

RoundedRows FromRow(RoundedRows rows, Index planes, Index row) {
  const auto step = [row](auto*& pointer, Index stride) {
    if (pointer != nullptr) pointer += row * stride;
  };
  step(rows.codes, planes * rows.code_stride);
  step(rows.values, rows.code_stride);
  step(rows.scales, rows.piece_stride);
  step(rows.sums, rows.part_stride);
  step(rows.totals, rows.part_stride);
  return rows;
}

}  // namespace

Index BlocksOfTask(Index rows, Index blocks, Index in) {
  const Index of_block = kBlockRows * in * std::min(rows, kRowTile);
  const Index least = CeilDiv(kTaskWork, of_block);
  return std::clamp<Index>(CeilDiv(blocks, kMostTasks), std::min(least, blocks), blocks);
}

PackedProducts::PackedProducts(ThreadPool& pool, const PackedKernels& kernels,
                               Activations activations)
    : pool_(pool), kernels_(kernels), activations_(activations) {}

RoundedRows PackedProducts::Round(View<const float, 2> x, const PackedShape& shape,
                                  Rounded& rounded) {
  constexpr Index kRowsOfTask = 8;
  const Index positions = shape.groups * shape.group_positions;
  const Index pieces = shape.groups * shape.group_pieces, parts = pieces * shape.parts;
  const Index planes = PlanesOf(activations_);
  const Index stride = OddLines(positions);
  rounded.shape = shape;
  if (activations_ == Activations::kFloat) {
    Grow(rounded.values, x.rows(), stride);
  } else {
    Grow(rounded.codes, x.rows() * planes + 1, stride);  // one more: kernels read beyond the last
    Grow(rounded.scales, x.rows(), pieces);
    Grow(rounded.sums, x.rows(), parts);
  }
  Grow(rounded.totals, x.rows(), parts);
  const RoundedRows all{.codes = rounded.codes.data(),
                        .values = rounded.values.data(),
                        .scales = rounded.scales.data(),
                        .sums = rounded.sums.data(),
                        .totals = rounded.totals.data(),
                        .code_stride = stride,
                        .piece_stride = pieces,
                        .part_stride = parts};
  pool_.ParallelFor(CeilDiv(x.rows(), kRowsOfTask), [&](Index task, int) {
    const Index row = task * kRowsOfTask, rows = std::min(kRowsOfTask, x.rows() - row);
    kernels_.round(shape, activations_, x.Row(row).data(), x.stride(), rows,
                   FromRow(all, planes, row));
  });
  return all;
}

void PackedProducts::Multiply(View<const float, 2> x, std::span<const PackedWork> works, bool add) {
  struct Task {
    const PackedWork* work;
    RoundedRows x;
    Index block, blocks, row, rows;
  };
  std::vector<Task> tasks;
  std::vector<RoundedRows> rows_of_layout;
  std::size_t used = 0;
  for (const PackedWork& work : works) {
    const PackedShape& shape = work.w->shape();
    LIEQ_ASSERT(x.cols() == work.w->cols() && work.y.cols() == work.w->rows());
    LIEQ_ASSERT(x.rows() == work.y.rows());
    std::size_t layout = 0;
    while (layout < used && !(rounded_[layout].shape == shape)) ++layout;
    if (layout == used) {
      if (rounded_.size() == used) rounded_.emplace_back();
      rows_of_layout.push_back(Round(x, shape, rounded_[used++]));
    }
    const Index blocks = work.w->blocks(), step = BlocksOfTask(x.rows(), blocks, x.cols());
    for (Index block = 0; block < blocks; block += step) {
      for (Index row = 0; row < x.rows(); row += kRowTile) {
        tasks.push_back({&work, rows_of_layout[layout], block, std::min(step, blocks - block), row,
                         std::min(kRowTile, x.rows() - row)});
      }
    }
  }
  pool_.ParallelFor(static_cast<Index>(tasks.size()), [&](Index index, int) {
    const Task& task = tasks[Size(index)];
    const PackedWork& work = *task.work;
    const Index out = task.block * kBlockRows;
    const View<float, 2> y = work.y.Rows(task.row, task.rows);
    kernels_.multiply[static_cast<std::size_t>(activations_)](
        {.shape = work.w->shape(),
         .w = work.w->From(task.block),
         .x = FromRow(task.x, PlanesOf(activations_), task.row),
         .rows = task.rows,
         .outs = std::min(task.blocks * kBlockRows, work.w->rows() - out),
         .y = y.data() + out,
         .y_stride = y.stride(),
         .bias = work.bias == nullptr ? nullptr : work.bias + out,
         .add = add});
  });
}

}  // namespace lieq
