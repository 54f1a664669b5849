// The GPU's kernels of training, as kernels.h has those of a forward pass.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "lieq/base/types.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/tuning_ops.h"

namespace lieq::cuda {

/// A quantized matrix, and where its numbers lie among those of all.
struct TrainedMatrix {
  std::uint32_t* words = nullptr;
  float* scales = nullptr;
  float* minima = nullptr;              // null: it has none
  const std::uint8_t* zeros = nullptr;  // null: all are `zero`
  float zero = 0;
  std::int32_t bits = 0;
  Index rows = 0, cols = 0, groups = 0, group_columns = 0, words_per_row = 0;
  Index numbers = 0;  // first of its scales; minima are behind them
  Index codes = -1;   // first of its codes; below 0: they stay
};

/// Numbers of all matrices, side by side.
struct TrainedNumbers {
  float *u = nullptr, *gradient = nullptr, *first = nullptr, *second = nullptr;
  const float* start = nullptr;  // of codes null
  Index count = 0;
};

/// What a block of threads takes: `count` of the numbers of a matrix from `begin` on, or rows.
struct TrainedPiece {
  std::int32_t matrix, count;
  std::int64_t begin;
};
inline constexpr Index kNumbersOfPiece = 1024, kCodesOfPiece = 16384;

/// dw [rows, cols] without gaps.
void AddNumbersGradient(const TrainedMatrix& matrix, const float* dw, const TrainedNumbers& numbers,
                        const TrainedNumbers& codes, cudaStream_t stream);
/// Rows from[first[t]] .. from[first[t + 1] - 1] of a block go to row targets[t] of a matrix.
struct RowsOfTargets {
  const std::int32_t *from = nullptr, *first = nullptr, *targets = nullptr;
  Index count = 0;  // of targets
};
/// to[target] += factor x[row], without gaps, one row after another.
void AddRows(Block<const float> x, const RowsOfTargets& rows, float factor, float* to,
             cudaStream_t stream);
/// sum [1] = the sum of squares, in a fixed order; scratch of kSquaresScratch doubles.
inline constexpr Index kSquaresScratch = 2048;
void SquaresOf(const TrainedNumbers& numbers, const TrainedNumbers& codes, double* scratch,
               double* sum, cudaStream_t stream);
/// Moves numbers where `moves`, and rounds them into their matrices. pieces: of scales and minima.
void StepNumbers(const TrainedMatrix* matrices, const TrainedPiece* pieces, Index count,
                 const TrainedNumbers& numbers, const AdamStep& step, bool moves,
                 cudaStream_t stream);
/// The same of codes; pieces are rows.
void StepCodes(const TrainedMatrix* matrices, const TrainedPiece* pieces, Index count,
               const TrainedNumbers& codes, const AdamStep& step, bool moves, cudaStream_t stream);

}  // namespace lieq::cuda
