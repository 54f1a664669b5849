// The GPU's kernels as functions that queue them on a stream. Pointers are the device's but where
// it is said; whoever calls has checked shapes. Errors of a launch are left for cudaGetLastError.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "lieq/base/types.h"

namespace lieq::cuda {

/// [rows, cols] of a row stride in elements.
template <class T>
struct Block {
  T* data = nullptr;
  Index rows = 0, cols = 0, stride = 0;
};

enum class Form : int { kFloat, kBf16, kF16, kCodes, kPacked };

/// A weight matrix in the form that it was given in, as kernels read it.
struct Source {
  Form form = Form::kFloat;
  Index rows = 0, cols = 0;
  const void* data = nullptr;  // of floats: [rows, cols]; bf16 and f16 with rows of 16 bytes
  Index stride = 0;
  // Of codes: the members of a QMatrix. zeros and minima may be null.
  const std::uint32_t* words = nullptr;
  const float* scales = nullptr;
  const std::uint8_t* zeros = nullptr;
  const float* minima = nullptr;
  Index words_per_row = 0, groups = 0, group_columns = 0;
  int bits = 0;
  float zero = 0;  // where zeros is null
  // Of packed codes (packed.h): beside group_columns, bits and zero.
  std::byte* units = nullptr;
  Index unit_bytes = 0, units_per_row = 0;
  int unit_scales = 0;
  bool has_zeros = false, has_minima = false;
  int shift = 0;  // weights times 2^shift, and scales times 2^(shift + 10), are numbers of f16
};

// Weights (weights.cu). Widened numbers are those of QMatrix::Dequantize to the bit; bf16 is those
// rounded to even.
/// out [rows, w.cols]: from row `begin` of the matrix on.
void Widen(const Source& w, Index begin, Block<float> out, cudaStream_t stream);
/// The same, in bf16; columns of out behind w.cols become 0.
void WidenToBf16(const Source& w, Index begin, Block<std::uint16_t> out, cudaStream_t stream);
/// out [n, w.cols] = rows of the matrix.
void GatherRows(const Source& w, const std::int32_t* rows, Block<float> out, cudaStream_t stream);
/// The largest magnitude, NaN where one weight is, into `largest` [1].
void LargestSize(const Source& w, float* largest, cudaStream_t stream);
/// out, of x.rows and at least x.cols columns; those behind become 0.
void RoundToBf16(Block<const float> x, Block<std::uint16_t> out, cudaStream_t stream);
inline constexpr Index kFewRows = 16;
/// y = x Wᵀ + bias, or y += : up to kFewRows rows of x; weights are read where they lie. Float sums
/// in an order that depends on w.cols alone. bias may be null.
void MultiplyFewRows(Block<const float> x, const Source& w, const float* bias, Block<float> y,
                     bool add, cudaStream_t stream);
/// y = bias for each row, or y += bias.
void AddBias(const float* bias, bool add, Block<float> y, cudaStream_t stream);

// Products without cuBLASLt (products.cu).
/// One factor of a product, [rows, cols] by two strides, so that either may be transposed.
struct Factor {
  const float* data;
  Index row_stride, col_stride;
};
/// y = a b, or y += a b, in float: a [y.rows, depth], b [depth, y.cols].
void MultiplyFloat(Factor a, Factor b, Index depth, Block<float> y, bool add, cudaStream_t stream);
/// y = a bᵀ, or y += a bᵀ, of bf16 with float sums (mma.sync): a [y.rows, depth], b [y.cols,
/// depth]. Rows of a and b are multiples of 16 bytes and depth one of 8.
void MultiplyBf16(Block<const std::uint16_t> a, Block<const std::uint16_t> b, Block<float> y,
                  bool add, cudaStream_t stream);

// Operations of a layer (steps.cu), each as the one of its name of Device.
void RmsNorm(Block<const float> x, const float* weight, double eps, Block<float> y,
             cudaStream_t stream);
/// positions [x.rows]: of each row, below 0 where it stays as it is.
void Rope(Block<float> x, Block<const float> cosine, Block<const float> sine,
          const std::int32_t* positions, Index head_dim, cudaStream_t stream);
void Scale(Block<float> x, float factor, cudaStream_t stream);
/// to = x in f16; numbers beyond its range as its largest. [x.rows, x.cols]
void RoundToF16(Block<const float> x, Block<std::uint16_t> to, cudaStream_t stream);
/// As CalibrationOps::RoundRows.
void RoundRows(Block<float> x, Index group, int bits, cudaStream_t stream);
void SwiGlu(Block<float> gate, Block<const float> up, cudaStream_t stream);
void SwiGluInto(Block<const float> gate, Block<const float> up, Block<float> out,
                cudaStream_t stream);
void Subtract(Block<const float> a, Block<const float> b, float times, Block<float> out,
              cudaStream_t stream);

// Attention (attention.cu). Scores are never written.
struct Span {
  std::int32_t begin, length, keys, past, past_keys;  // as of AttentionSpan
  std::int32_t held = 0;  // where its keys begin in planes that were made of them
};
/// Queries of a span that a block of threads takes, or one query.
struct QueryTile {
  std::int32_t span, begin;  // the latter counted within the span
};
/// Key: float, or the bits of f16.
template <class Key>
struct AttentionArguments {
  Block<const float> q;
  Block<const Key> k, v;
  Block<float> out;
  std::int32_t heads, kv_heads, head_dim, window;
  const Span* spans;
  const QueryTile* tiles;
  Index tile_count;
};
inline constexpr Index kMostHeadDim = 256;
/// Queries of a tile; 1 where spans are so short that a query is a tile (`by_query`).
[[nodiscard]] Index QueriesOfTile(Index head_dim, bool by_query) noexcept;
void Attention(const AttentionArguments<float>& arguments, bool by_query, cudaStream_t stream);
void Attention(const AttentionArguments<std::uint16_t>& arguments, bool by_query,
               cudaStream_t stream);

// Losses (losses.cu): sums in double; what they write may lie in mapped host memory.
/// log_sums [x.rows]: log of the sum of exponentials of each row; NaN where one is not finite.
void LogSumExp(Block<const float> x, double* log_sums, cudaStream_t stream);
struct Pick {
  std::int32_t row, token;
};
/// out[i] = x[row][token] - log_sums[row].
void PickLogProbabilities(Block<const float> x, const Pick* picks, Index count,
                          const double* log_sums, double* out, cudaStream_t stream);
/// nll[i] = log_sums[i] - x[i][targets[i]].
void Nll(Block<const float> x, const std::int32_t* targets, const double* log_sums, double* nll,
         cudaStream_t stream);
void SoftmaxKl(Block<const float> reference, Block<const float> x, const double* reference_sums,
               const double* sums, double* kl, cudaStream_t stream);
/// columns [x.rows, k], without gaps.
void TopColumns(Block<const float> x, Index k, std::int32_t* columns, cudaStream_t stream);

// Sums of calibration (sums.cu).
/// sums[i] = sum of squares of row i.
void RowSquares(Block<const float> x, double* sums, cudaStream_t stream);
/// Doubles of scratch that ColumnSquares needs.
[[nodiscard]] Index ColumnSquaresScratch(Index rows, Index cols) noexcept;
/// sums[j] += sum of squares of column j, in a fixed order.
void ColumnSquares(Block<const float> x, double* scratch, double* sums, cudaStream_t stream);
/// to [n] = the diagonal of sums [n, n].
void Diagonal(const double* sums, Index n, double* to, cudaStream_t stream);
void Diagonal(const float* sums, Index n, float* to, cudaStream_t stream);
/// The lower triangles of squares: sums += part.
void AddLower(Block<const float> part, double* sums, cudaStream_t stream);

// GPTQ (gptq.cu). Matrices lie by position and by column in dimension 0, rows of the weights in
// dimension 1, without gaps: [n, rows].
/// to [cols, rows] = from [rows, cols] transposed; order: rows of `to` by columns of `from`, or
/// null.
void Transpose(const float* from, Index rows, Index cols, const std::int32_t* order, float* to,
               cudaStream_t stream);
void Transpose(const std::uint8_t* from, Index rows, Index cols, std::uint8_t* to,
               cudaStream_t stream);
/// to [n, n] = the lower triangle of `gram` with rows and columns by `order`, diagonal [n] by
/// column in place of its own; the other triangle is left alone.
void Permute(const double* gram, const double* diagonal, const std::int32_t* order, Index n,
             double* to, cudaStream_t stream);
/// What is below the diagonal of l [n, n] over the pivot of its column, else 0; and the pivots.
void Normalize(const double* l, Index n, float* feedback, float* pivots, cudaStream_t stream);
enum class Zeros : int { kSymmetric, kHalf, kInteger };
struct GptqGrid {
  std::int32_t levels, group_columns, groups;
  Zeros zeros;
  bool search;
};
/// Scales and minima [groups, rows] of groups of `values` [n, rows], by position; as FitGroup, an
/// error weighted by the square of its column's pivot. positions [n]: by column.
void FitGroups(const float* values, Index rows, const std::int32_t* positions, const float* pivots,
               GptqGrid grid, float* scale, float* minimum, cudaStream_t stream);
inline constexpr Index kGptqBlock = 128;  // positions of a block at most
struct GptqBlock {
  Index begin, end;  // positions
  Index rows, n;
  const float* weights;       // [n, rows] by position
  const float* targets;       // [end - begin, rows]: with the feedback of all positions from end on
  const float* feedback;      // [n, n]
  const float* pivots;        // [n]
  const std::int32_t* order;  // [n]
  const float* scale;         // [groups, rows]
  const float* minimum;       // [groups, rows]
  float* errors;              // [n, rows] by position: weight less its level
  float* seen;                // [n, rows] by position: targets when they are rounded; or null
  std::uint8_t* codes;        // [n, rows] by column
  double* error;              // [rows], added to
  double* clamped;            // [rows], added to
};
/// Rounds the positions end - 1 down to begin with the feedback of one another.
void RoundBlock(const GptqBlock& block, GptqGrid grid, cudaStream_t stream);
/// signal[r] += sum of (pivot * value)² over positions; values [count, rows].
void AddSignal(const float* values, Index count, Index rows, const float* pivots, double* signal,
               cudaStream_t stream);

// Targets (target.cu). values [n, rows] by position; F is `feedback` with ones on its diagonal.
/// values [width, rows] = F⁻¹ values where `forward`, else F⁻ᵀ values, of the block of F [n, n]
/// that begins at `f`; negated = -values. width: kGptqBlock at most.
void SolveInBlock(const float* f, Index n, Index width, Index rows, bool forward, float* values,
                  float* negated, cudaStream_t stream);
/// Each position over the square of its pivot.
void DivideByPivots(const float* pivots, Index n, Index rows, float* values, cudaStream_t stream);
/// to[i] = from[map[i]], both [n, rows].
void PermuteRows(const float* from, const std::int32_t* map, Index n, Index rows, float* to,
                 cudaStream_t stream);
/// to += factor * from. [count]
void AddMultiple(const float* from, float factor, Index count, float* to, cudaStream_t stream);
/// h [n, n] whole, of the lower triangle of `gram` and of `diagonal` in place of its own.
void MakeMetric(const double* gram, const double* diagonal, Index n, float* h, cudaStream_t stream);

// Refinement (refine.cu), by column.
/// Codes of some rows, and the lines that they lie on.
struct CodesOnDevice {
  std::uint8_t* codes;     // [n, rows]
  float *scale, *minimum;  // [groups, rows]
  Index rows, group_columns;
};
/// residual [n, rows] = values - levels.
void Residual(const float* values, const CodesOnDevice& q, Index n, float* residual,
              cudaStream_t stream);
/// out[r] = sum over n of e (p + linear), all [n, rows]; linear may be null.
void ProductsOfRows(const float* e, const float* p, const float* linear, Index n, Index rows,
                    double* out, cudaStream_t stream);
inline constexpr Index kWidestRefined = 256;  // columns of a block, and so of a group
struct RefineBlock {
  Index begin, width, n;      // columns, whole groups
  const float* h;             // [n, n], both triangles
  const float* factors;       // [n, group columns]: by position, the column of its group's F
  const float* pivots;        // [n] by position
  const float* ones;          // [n] by position: what F and the pivot make of 1
  const std::int32_t* order;  // [n] by position: the column within its group
  const float* gradient;      // [n, rows]
  float* change;              // [width, rows]: becomes the levels before less those after
  CodesOnDevice q;
  double *gains, *moves;    // [rows], added to
  const double* stretches;  // of scales, that a search tries
  int stretch_count;
  float least_share;  // of the loss, that a refit has to gain
  bool forward;
};
/// Coordinate descent there and back, then refits; as quantize/refine.h up to the order of adds.
void Refine(const RefineBlock& block, const GptqGrid& grid, cudaStream_t stream);
/// Gives rows back what they had where `after` is more than `before`. [rows]
void TakeBack(const CodesOnDevice& q, const CodesOnDevice& start, Index n, const double* before,
              const double* after, cudaStream_t stream);

}  // namespace lieq::cuda
