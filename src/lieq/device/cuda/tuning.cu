// Training of the numbers of quantized matrices: their gradients, their steps, and their rounding.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/tuning_kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

__device__ std::uint32_t CodeAt(const std::uint32_t* words, Index col, int bits) {
  const Index bit = col * bits, word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  std::uint32_t code = words[word] >> shift;
  if (shift + bits > 32) code |= words[word + 1] << (32 - shift);
  return code & ((1u << bits) - 1);
}

/// What group `at` of the matrix has: sums of dw times codes less their zero-points, and of dw.
__device__ void AddToNumbers(const TrainedMatrix& q, const TrainedNumbers& numbers, Index at,
                             double of_codes, double of_ones) {
  const Index first = q.numbers + at, count = q.rows * q.groups;
  const float unit = numbers.start[first];
  float& of_scale = numbers.gradient[first];
  of_scale = __fadd_rn(of_scale, __fmul_rn(static_cast<float>(of_codes), unit));
  if (q.minima == nullptr) return;
  float& of_minimum = numbers.gradient[first + count];
  of_minimum = __fadd_rn(of_minimum, __fmul_rn(static_cast<float>(of_ones), fabsf(unit)));
}

/// A warp takes a group.
__global__ void AddGradientKernel(TrainedMatrix q, const float* dw, TrainedNumbers numbers,
                                  TrainedNumbers codes) {
  const Index at = Index{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (at >= q.rows * q.groups) return;  // a whole warp
  const Index row = at / q.groups, group = at % q.groups;
  const int lane = threadIdx.x % kWarp;
  const std::uint32_t* words = q.words + row * q.words_per_row;
  const float* of = dw + row * q.cols;
  float* of_z = q.codes < 0 ? nullptr : codes.gradient + q.codes + row * q.cols;
  const float zero = q.zeros == nullptr ? q.zero : static_cast<float>(q.zeros[at]);
  const float scale = q.scales[at];
  const Index begin = group * q.group_columns, end = begin + q.group_columns;
  double of_codes = 0, of_ones = 0;
  for (Index c = begin + lane; c < end; c += kWarp) {
    const float d = of[c];
    const float code = static_cast<float>(CodeAt(words, c, q.bits)) - zero;
    of_codes += static_cast<double>(d) * static_cast<double>(code);
    of_ones += static_cast<double>(d);
    if (of_z != nullptr) of_z[c] = __fadd_rn(of_z[c], __fmul_rn(d, scale));
  }
  of_codes = OverLanes(of_codes, Add{});
  of_ones = OverLanes(of_ones, Add{});
  if (lane != 0) return;
  AddToNumbers(q, numbers, at, of_codes, of_ones);
}

/// A code, below 2^24, less a zero-point in halves: what float would give, without a conversion of
/// either. 2^51 has steps of a half.
__device__ double LessZero(std::uint32_t code, double zero) {
  constexpr int kHigh = 0x43200000;  // of 2^51
  return __hiloint2double(kHigh, static_cast<int>(code << 1)) - (0x1p51 + zero);
}

/// The same for groups of 8 kLanes columns, or multiples: kLanes lanes take a group, each eight
/// columns that lie in memory as one.
constexpr int kEightsThreads = 64;
template <int kLanes>
__global__ void AddGradientByEights(TrainedMatrix q, const float* dw, TrainedNumbers numbers,
                                    TrainedNumbers codes) {
  const Index row = blockIdx.x;
  const Index group = Index{blockIdx.y} * (kEightsThreads / kLanes) + threadIdx.x / kLanes;
  const bool there = group < q.groups;
  const Index at = there ? row * q.groups + group : 0, begin = group * q.group_columns;
  const std::uint32_t* words = q.words + row * q.words_per_row;
  const float* of = dw + row * q.cols;
  float* of_z = q.codes < 0 ? nullptr : codes.gradient + q.codes + row * q.cols;
  const double zero =
      q.zeros == nullptr ? static_cast<double>(q.zero) : static_cast<double>(q.zeros[at]);
  const bool minima = q.minima != nullptr;
  const std::uint32_t mask = (1u << q.bits) - 1;
  double of_codes = 0, of_ones = 0;
  for (Index c = begin + threadIdx.x % kLanes * 8; there && c < begin + q.group_columns;
       c += 8 * kLanes) {
    const float4 first = reinterpret_cast<const float4*>(of + c)[0];
    const float4 second = reinterpret_cast<const float4*>(of + c)[1];
    const unsigned bit = static_cast<unsigned>(c) * static_cast<unsigned>(q.bits);
    std::uint64_t stream = words[bit / 32];
    if (bit % 32 + 8 * q.bits > 32) {
      stream |= static_cast<std::uint64_t>(words[bit / 32 + 1]) << 32;
    }
    stream >>= bit % 32;
    const float d[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const double wide = static_cast<double>(d[i]);
      of_codes = fma(wide, LessZero(static_cast<std::uint32_t>(stream) & mask, zero), of_codes);
      stream >>= q.bits;
      if (minima) of_ones += wide;
    }
    if (of_z == nullptr) continue;
    const float scale = q.scales[at];
    for (int half = 0; half < 2; ++half) {
      const float4 more = half == 0 ? first : second;
      float4& sums = reinterpret_cast<float4*>(of_z + c)[half];
      const float4 before = sums;
      sums = {__fadd_rn(before.x, __fmul_rn(more.x, scale)),
              __fadd_rn(before.y, __fmul_rn(more.y, scale)),
              __fadd_rn(before.z, __fmul_rn(more.z, scale)),
              __fadd_rn(before.w, __fmul_rn(more.w, scale))};
    }
  }
  of_codes = OverLanes<kLanes>(of_codes, Add{});
  if (q.minima != nullptr) of_ones = OverLanes<kLanes>(of_ones, Add{});
  if (threadIdx.x % kLanes != 0 || !there) return;
  AddToNumbers(q, numbers, at, of_codes, of_ones);
}

/// A block takes kThreads columns of a target.
__global__ void AddRowsKernel(Block<const float> x, RowsOfTargets rows, float factor, float* to) {
  const Index col = Index{blockIdx.y} * kThreads + threadIdx.x;
  if (col >= x.cols) return;
  float& sum = to[Index{rows.targets[blockIdx.x]} * x.cols + col];
  float value = sum;
  const int end = rows.first[blockIdx.x + 1];
  for (int i = rows.first[blockIdx.x]; i < end; ++i) {
    value = __fadd_rn(value, __fmul_rn(factor, x.data[rows.from[i] * x.stride + col]));
  }
  sum = value;
}

constexpr int kSquareBlocks = static_cast<int>(kSquaresScratch / 2);

__global__ void SquaresKernel(const float* x, Index count, double* parts) {
  double sum = 0;
  for (Index i = Index{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += Index{kSquareBlocks} * kThreads) {
    const double value = static_cast<double>(x[i]);
    sum += value * value;
  }
  sum = OverBlock<kThreads>(sum, Add{});
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void SumKernel(const double* parts, Index count, double* sum) {
  double all = 0;
  for (Index i = threadIdx.x; i < count; i += kThreads) all += parts[i];
  all = OverBlock<kThreads>(all, Add{});
  if (threadIdx.x == 0) *sum = all;
}

/// As RoundScale and RoundMinimum of qmatrix.h, to the bit.
__device__ float RoundMagnitude(float magnitude) {
  return magnitude < 0x1.0p-17f ? rintf(magnitude * 0x1.0p24f) * 0x1.0p-24f
                                : __bfloat162float(__float2bfloat16_rn(magnitude));
}
constexpr float kLeastScale = 0x1.0p-24f, kMostScale = 65280.0f, kOfNothing = 0x1.0p-14f;
__device__ float RoundedScale(float scale) {
  const float magnitude = scale == 0 ? kOfNothing : fminf(fabsf(scale), kMostScale);
  return copysignf(fmaxf(RoundMagnitude(magnitude), kLeastScale), scale);
}
__device__ float RoundedMinimum(float minimum) {
  const float rounded = RoundMagnitude(fminf(fabsf(minimum), kMostScale));
  return rounded == 0 ? 0.0f : copysignf(rounded, minimum);
}

__device__ float Moved(const TrainedNumbers& numbers, Index i, const AdamStep& step) {
  const float g = numbers.gradient[i] * step.factor;
  const float m = step.first * numbers.first[i] + (1 - step.first) * g;
  const float v = step.second * numbers.second[i] + (1 - step.second) * g * g;
  numbers.first[i] = m;
  numbers.second[i] = v;
  numbers.gradient[i] = 0;
  return numbers.u[i] - step.rate * m / (sqrtf(v / step.second_share) + step.tiny);
}

__global__ void StepNumbersKernel(const TrainedMatrix* matrices, const TrainedPiece* pieces,
                                  TrainedNumbers numbers, AdamStep step, bool moves) {
  const TrainedPiece piece = pieces[blockIdx.x];
  const TrainedMatrix& q = matrices[piece.matrix];
  const Index count = q.rows * q.groups;
  for (Index i = piece.begin + threadIdx.x; i < piece.begin + piece.count; i += kThreads) {
    const Index at = q.numbers + i;
    float u = numbers.u[at];
    if (moves) numbers.u[at] = u = Moved(numbers, at, step);
    const float start = numbers.start[at];
    const bool of_scale = i < count;
    const float unit = of_scale ? start : fabsf(numbers.start[at - count]);
    const float value = __fadd_rn(start, __fmul_rn(unit, u));
    if (of_scale) {
      // A scale keeps its sign: codes would change theirs.
      q.scales[i] = u == 0 || !(start * value > 0) ? start : RoundedScale(value);
    } else {
      q.minima[i - count] = u == 0 ? start : RoundedMinimum(value);
    }
  }
}

/// A warp takes 32 columns of a row, whose codes are `bits` words.
__global__ void StepCodesKernel(const TrainedMatrix* matrices, const TrainedPiece* pieces,
                                TrainedNumbers codes, AdamStep step, bool moves) {
  const TrainedPiece piece = pieces[blockIdx.x];
  const TrainedMatrix& q = matrices[piece.matrix];
  const int lane = threadIdx.x % kWarp, bits = q.bits, most = (1 << bits) - 1;
  const float low = -0.5f, high = static_cast<float>(most) + 0.5f;
  const Index chunks = (q.cols + kWarp - 1) / kWarp;
  for (Index i = threadIdx.x / kWarp; i < piece.count * chunks; i += kWarps) {
    const Index row = piece.begin + i / chunks, chunk = i % chunks, col = chunk * kWarp + lane;
    std::uint32_t code = 0;
    if (col < q.cols) {
      const Index at = q.codes + row * q.cols + col;
      float z = moves ? Moved(codes, at, step) : codes.u[at];
      z = fminf(fmaxf(z, low), high);
      codes.u[at] = z;
      code = static_cast<std::uint32_t>(min(static_cast<int>(z + 0.5f), most));
    }
    for (int word = 0; word < bits; ++word) {
      const int shift = lane * bits - 32 * word;  // of the code in this word
      std::uint32_t part = 0;
      if (shift >= 0 && shift < 32) part = code << shift;
      if (shift < 0 && shift > -bits) part = code >> -shift;
      part = __reduce_or_sync(kAllLanes, part);
      const Index to = chunk * bits + word;
      if (lane == 0 && to < q.words_per_row) q.words[row * q.words_per_row + to] = part;
    }
  }
}

}  // namespace

void AddNumbersGradient(const TrainedMatrix& matrix, const float* dw, const TrainedNumbers& numbers,
                        const TrainedNumbers& codes, cudaStream_t stream) {
  const Index groups = matrix.rows * matrix.groups;
  if (groups == 0) return;
  const auto by_eights = [&]<int kLanes>() {
    AddGradientByEights<kLanes>
        <<<RowsByColumns(matrix.rows, matrix.groups, kEightsThreads / kLanes), kEightsThreads, 0,
           stream>>>(matrix, dw, numbers, codes);
  };
  const bool in_two_words =
      matrix.bits <= 5 || matrix.bits == 8;  // eight codes, wherever they begin
  const bool whole = in_two_words && matrix.group_columns * matrix.groups == matrix.cols &&
                     (matrix.codes < 0 || matrix.codes % 4 == 0);
  if (whole && matrix.group_columns == 32) return by_eights.template operator()<4>();
  if (whole && matrix.group_columns == 64) return by_eights.template operator()<8>();
  if (whole && matrix.group_columns % 128 == 0) return by_eights.template operator()<16>();
  AddGradientKernel<<<static_cast<unsigned>(CeilDiv(groups, Index{kWarps})), kThreads, 0, stream>>>(
      matrix, dw, numbers, codes);
}

void AddRows(Block<const float> x, const RowsOfTargets& rows, float factor, float* to,
             cudaStream_t stream) {
  if (rows.count == 0 || x.cols == 0) return;
  const dim3 blocks(static_cast<unsigned>(rows.count),
                    static_cast<unsigned>(CeilDiv(x.cols, Index{kThreads})));
  AddRowsKernel<<<blocks, kThreads, 0, stream>>>(x, rows, factor, to);
}

void SquaresOf(const TrainedNumbers& numbers, const TrainedNumbers& codes, double* scratch,
               double* sum, cudaStream_t stream) {
  SquaresKernel<<<kSquareBlocks, kThreads, 0, stream>>>(numbers.gradient, numbers.count, scratch);
  SquaresKernel<<<kSquareBlocks, kThreads, 0, stream>>>(codes.gradient, codes.count,
                                                        scratch + kSquareBlocks);
  SumKernel<<<1, kThreads, 0, stream>>>(scratch, kSquaresScratch, sum);
}

void StepNumbers(const TrainedMatrix* matrices, const TrainedPiece* pieces, Index count,
                 const TrainedNumbers& numbers, const AdamStep& step, bool moves,
                 cudaStream_t stream) {
  if (count == 0) return;
  StepNumbersKernel<<<static_cast<unsigned>(count), kThreads, 0, stream>>>(matrices, pieces,
                                                                           numbers, step, moves);
}

void StepCodes(const TrainedMatrix* matrices, const TrainedPiece* pieces, Index count,
               const TrainedNumbers& codes, const AdamStep& step, bool moves, cudaStream_t stream) {
  if (count == 0) return;
  StepCodesKernel<<<static_cast<unsigned>(count), kThreads, 0, stream>>>(matrices, pieces, codes,
                                                                         step, moves);
}

}  // namespace lieq::cuda
