// Refinement with a team of threads to a row: coordinate descent over a block of columns and refits
// of the groups in it, all in the block's own part of the gradient; a product tells the others.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/grid_code.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float LevelOf(float code, float scale, float minimum) {
  return __fadd_rn(__fmul_rn(scale, code), minimum);
}
__device__ float NearestCode(float value, float inverse, float minimum, float top) {
  return rintf(fminf(fmaxf((value - minimum) * inverse, 0.0f), top));
}

/// e = values - levels. [n, rows]
__global__ void ResidualKernel(const float* values, CodesOnDevice q, float* residual) {
  const Index row = Index{blockIdx.y} * kThreads + threadIdx.x, col = blockIdx.x;
  if (row >= q.rows) return;
  const Index at = col * q.rows + row, fit = col / q.group_columns * q.rows + row;
  const float level = LevelOf(static_cast<float>(q.codes[at]), q.scale[fit], q.minimum[fit]);
  residual[at] = values[at] - level;
}

/// out[r] = sum over columns of (p + linear) e, in double and in their order; linear may be null.
__global__ void ProductsOfRowsKernel(const float* e, const float* p, const float* linear, Index n,
                                     Index rows, double* out) {
  constexpr int kLanes = 8;  // parts of the columns, so that few rows make many threads
  __shared__ double parts[kLanes][kWarp];
  const int lane = threadIdx.x % kWarp, part = threadIdx.x / kWarp;
  const Index row = Index{blockIdx.x} * kWarp + lane;
  double sum = 0;
  if (row < rows) {
    for (Index c = part; c < n; c += kLanes) {
      const Index at = c * rows + row;
      const float with = p[at] + (linear == nullptr ? 0.0f : linear[at]);
      sum += static_cast<double>(e[at]) * static_cast<double>(with);
    }
  }
  parts[part][lane] = sum;
  __syncthreads();
  if (part != 0 || row >= rows) return;
  for (int i = 1; i < kLanes; ++i) sum += parts[i][lane];
  out[row] = sum;
}

constexpr int kTeam = 8;  // threads that work on a row: on parts of it, or on a searched grid each

/// Sizes of what a row takes of fast memory, in elements.
struct RoomOfRow {
  int width, columns;

  /// Floats: the gradient, the target and what misses it; eight more than whole lines of banks, so
  /// that the rows of a warp lie in different ones.
  __host__ __device__ int floats() const { return (width + 2 * columns + 31) / 32 * 32 + kTeam; }
  /// Bytes: codes of the block, the best of the group.
  __host__ __device__ int bytes() const { return (width + columns + 3) / 4 * 4; }
  /// All, with what each thread of the team has: errors and codes of the grid that it tries.
  __host__ __device__ int all() const { return 4 * floats() + bytes() + kTeam * 5 * columns; }
};

/// A row of the block and the team that works on it. Threads of a warp take the same ways, so that
/// they can wait for one another; what a team has of numbers is the same in each of its threads.
template <int kRows>
class RefinedRow {
  static constexpr int kThreads = kRows * kTeam;

 public:
  __device__ RefinedRow(const RefineBlock& block, const GptqGrid& grid, float* shared)
      : b_(block),
        grid_(grid),
        width_(static_cast<int>(block.width)),
        columns_(grid.group_columns),
        lane_(threadIdx.x % kTeam),
        here_(Index{blockIdx.x} * kRows + threadIdx.x / kTeam < block.q.rows),
        row_(here_ ? Index{blockIdx.x} * kRows + threadIdx.x / kTeam : block.q.rows - 1),
        top_(static_cast<float>(grid.levels - 1)) {
    const RoomOfRow room{width_, columns_};
    const int local = threadIdx.x / kTeam;
    gradient_ = shared + local * room.floats();
    target_ = gradient_ + width_;
    miss_ = target_ + columns_;
    errors_ = shared + kRows * room.floats() + threadIdx.x;
    auto* bytes =
        reinterpret_cast<std::uint8_t*>(shared + kRows * room.floats() + kThreads * columns_);
    codes_ = bytes + local * room.bytes();
    best_ = codes_ + width_;
    tried_ = bytes + kRows * room.bytes() + threadIdx.x;
  }

  __device__ void Run() {
    for (int k = lane_; k < width_; k += kTeam) {
      gradient_[k] = b_.gradient[At(k)];
      codes_[k] = b_.q.codes[At(k)];
      if (here_) b_.change[k * b_.q.rows + row_] = Level(k);
    }
    __syncwarp();
    int moved = Sweep(b_.forward);
    if (__any_sync(kAllLanes, moved > 0)) moved += Sweep(!b_.forward);
    for (int begin = 0; begin < width_; begin += columns_) RefitGroup(begin);
    if (!here_) return;
    for (int k = lane_; k < width_; k += kTeam) {
      b_.q.codes[At(k)] = codes_[k];
      b_.change[k * b_.q.rows + row_] -= Level(k);
    }
    if (lane_ != 0) return;
    b_.moves[row_] += moved;
    b_.gains[row_] += static_cast<double>(gain_);
  }

 private:
  __device__ Index At(int k) const { return (b_.begin + k) * b_.q.rows + row_; }
  __device__ Index FitAt(int k) const { return (b_.begin + k) / columns_ * b_.q.rows + row_; }
  __device__ float Level(int k) const {
    return LevelOf(static_cast<float>(codes_[k]), b_.q.scale[FitAt(k)], b_.q.minimum[FitAt(k)]);
  }
  /// Row begin + k of H from the block's first column on.
  __device__ const float* H(int k) const { return b_.h + (b_.begin + k) * b_.n + b_.begin; }

  /// As MoveCodes of quantize/row_loops.h, column after column.
  __device__ int Sweep(bool forward) {
    constexpr float kSmaller = 1 - 1e-6f;  // a tie stays where it is
    int moved = 0, group = -1;
    float scale = 1, inverse = 1, minimum = 0;
    for (int i = 0; i < width_; ++i) {
      const int k = forward ? i : width_ - 1 - i;
      if (k / columns_ != group) {
        group = k / columns_;
        scale = b_.q.scale[FitAt(k)];
        minimum = b_.q.minimum[FitAt(k)];
        inverse = 1.0f / scale;
      }
      const float* h = H(k);
      const float curvature = __ldg(h + k), slope = gradient_[k];
      const float code = static_cast<float>(codes_[k]), level = LevelOf(code, scale, minimum);
      const float wanted = slope * (1.0f / curvature);
      const float best = NearestCode(level + wanted, inverse, minimum, top_);
      const float step = LevelOf(best, scale, minimum) - level, left = wanted - step;
      const bool moves = best != code && left * left < wanted * wanted * kSmaller;
      __syncwarp();  // all have read what is written now
      if (moves) {
        if (lane_ == 0) codes_[k] = static_cast<std::uint8_t>(best);
        gain_ += step * (slope + slope - step * curvature);
        ++moved;
        Spread(step, h, 0);
      }
      __syncwarp();
    }
    return moved;
  }
  /// The gradient of the block's columns from `from` on, after one level rose by `step`.
  __device__ void Spread(float step, const float* h, int from) {
#pragma unroll 4
    for (int j = from + lane_; j < width_; j += kTeam) {
      gradient_[j] = fmaf(-step, __ldg(h + j), gradient_[j]);
    }
  }

  // Below, positions are those of the group's factor F D Fᵀ; row p of factors_ is column p of F.

  /// Sum of F_jp x_j over the positions j behind p; x `pitch` apart.
  template <int kPitch, class T>
  __device__ float Behind(int p, const T* x) const {
    constexpr int kSums = 8;
    const float* f = factors_ + p * columns_;
    float sums[kSums] = {};
    int j = p + 1;
    for (; j + kSums <= columns_; j += kSums) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        sums[i] = fmaf(__ldg(f + j + i), static_cast<float>(x[(j + i) * kPitch]), sums[i]);
      }
    }
    for (int i = 0; j < columns_; ++j, ++i) {
      sums[0] = fmaf(__ldg(f + j), static_cast<float>(x[j * kPitch]), sums[0]);
    }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
  __device__ int Column(int p) const { return group_ + b_.order[b_.begin + group_ + p]; }
  __device__ float Pivot(int p) const { return __ldg(b_.pivots + b_.begin + group_ + p); }

  /// As LocalGroup of quantize/local_group.h. Returns the loss of the levels there are.
  __device__ float MakeTarget() {
    for (int p = lane_; p < columns_; p += kTeam) target_[p] = gradient_[Column(p)];
    __syncwarp();
    float loss = 0;
    for (int p = 0; p < columns_; ++p) {
      const float value = target_[p], *f = factors_ + p * columns_;
      __syncwarp();  // all have read it
      for (int j = p + 1 + lane_; j < columns_; j += kTeam) {
        target_[j] = fmaf(-value, __ldg(f + j), target_[j]);
      }
      const float inverse = 1.0f / Pivot(p), white = value * inverse;
      loss += white * white;
      if (lane_ == 0) target_[p] = white * inverse;
      __syncwarp();
    }
    for (int p = columns_ - 1; p > 0; --p) {
      const float known = target_[p];
      for (int k = lane_; k < p; k += kTeam) {
        target_[k] = fmaf(-known, __ldg(factors_ + k * columns_ + p), target_[k]);
      }
      __syncwarp();
    }
    for (int p = lane_; p < columns_; p += kTeam) {
      const std::uint8_t code = codes_[Column(p)];
      target_[p] += LevelOf(static_cast<float>(code), scale_, minimum_);
      best_[p] = code;
    }
    __syncwarp();
    return loss;
  }

  /// The loss of the codes in best_ on another grid.
  __device__ float LossOf(float scale, float minimum) {
    for (int p = lane_; p < columns_; p += kTeam) {
      miss_[p] = target_[p] - LevelOf(static_cast<float>(best_[p]), scale, minimum);
    }
    __syncwarp();
    float loss = 0;
    for (int p = lane_; p < columns_; p += kTeam) {
      const float white = Pivot(p) * (miss_[p] + Behind<1>(p, miss_));
      loss += white * white;
    }
    __syncwarp();
    return OverLanes<kTeam>(loss, Add{});
  }

  /// This thread's: codes into tried_ that error feedback inside the group makes on a grid; stops
  /// once the loss is no less than the least.
  __device__ float Round(float scale, float minimum) {
    const float inverse = 1.0f / scale;
    float loss = 0;
    for (int p = columns_ - 1; p >= 0; --p) {
      const float target = target_[p], wanted = target + Behind<kThreads>(p, errors_);
      const float code = NearestCode(wanted, inverse, minimum, top_);
      const float level = LevelOf(code, scale, minimum), white = Pivot(p) * (wanted - level);
      loss += white * white;
      if (!(loss < least_)) return loss;
      tried_[p * kThreads] = static_cast<std::uint8_t>(code);
      errors_[p * kThreads] = target - level;
    }
    return loss;
  }

  struct Sums {  // LevelSums of quantize/local_group.h
    double cc = 0, c1 = 0, one = 0, ct = 0, t1 = 0, tt = 0;

    __device__ double Loss(float scale, float minimum) const {
      const double s = static_cast<double>(scale), m = static_cast<double>(minimum);
      return tt - 2 * (s * ct + m * t1) + s * s * cc + 2 * s * m * c1 + m * m * one;
    }
    __device__ double Scale(double zero) const {
      const double curvature = cc - 2 * zero * c1 + zero * zero * one;
      return curvature > 1e-9 * cc ? (ct - zero * t1) / curvature : 0;
    }
  };

  /// As FitToCodes, of grids with a zero.
  __device__ void FitToCodes(const Sums& sums, float& scale, float& minimum) const {
    double loss = sums.Loss(scale, minimum);
    const float now = rintf(-minimum / scale);
    float first = SharedZero(grid_), last = first;
    if (grid_.zeros == Zeros::kInteger) {
      const float reach = grid_.levels <= 8 ? top_ : 1.0f;
      first = fmaxf(0.0f, now - reach);
      last = fminf(top_, now + reach);
    }
    for (float zero = first; zero <= last; zero += 1.0f) {
      const double exact = sums.Scale(static_cast<double>(zero));
      if (exact == 0) continue;
      const float stored = StoredScale(static_cast<float>(exact)), at = -stored * zero;
      if (!isfinite(stored) || !isfinite(at)) continue;
      const double found = sums.Loss(stored, at);
      if (!(found < loss)) continue;
      loss = found;
      scale = stored;
      minimum = at;
    }
  }

  __device__ void Refit() {
    Sums sums;
    for (int p = lane_; p < columns_; p += kTeam) {
      const double pivot = static_cast<double>(Pivot(p));
      const double one = static_cast<double>(__ldg(b_.ones + b_.begin + group_ + p));
      const float coded = static_cast<float>(best_[p]) + Behind<1>(p, best_);
      const double c = pivot * static_cast<double>(coded);
      const double t = pivot * static_cast<double>(target_[p] + Behind<1>(p, target_));
      sums.cc += c * c;
      sums.c1 += c * one;
      sums.one += one * one;
      sums.ct += c * t;
      sums.t1 += one * t;
      sums.tt += t * t;
    }
    for (double* sum : {&sums.cc, &sums.c1, &sums.one, &sums.ct, &sums.t1, &sums.tt}) {
      *sum = OverLanes<kTeam>(*sum, Add{});
    }
    float scale = scale_, minimum = minimum_;
    FitToCodes(sums, scale, minimum);
    const float found = LossOf(scale, minimum);
    if (!(found < least_)) return;
    least_ = found;
    scale_ = scale;
    minimum_ = minimum;
    improved_ = true;
  }

  /// The codes that error feedback finds on grids near the group's own; each thread tries one.
  __device__ void Search() {
    const float base = scale_, zero = -minimum_ / scale_;
    for (int first = 0; first < b_.stretch_count; first += kTeam) {
      const int mine = first + lane_;
      float found = INFINITY, scale = 1, minimum = 0;
      if (mine < b_.stretch_count) {
        scale = StoredScale(static_cast<float>(static_cast<double>(base) * b_.stretches[mine]));
        minimum = -scale * zero;
        found = Round(scale, minimum);
      }
      __syncwarp();
      int winner = lane_;  // of equals the first
      float least = found;
#pragma unroll
      for (int offset = kTeam / 2; offset > 0; offset /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, least, offset);
        const int of = __shfl_xor_sync(kAllLanes, winner, offset);
        if (other < least || (other == least && of < winner)) {
          least = other;
          winner = of;
        }
      }
      scale = __shfl_sync(kAllLanes, scale, winner, kTeam);
      minimum = __shfl_sync(kAllLanes, minimum, winner, kTeam);
      if (least < least_) {
        least_ = least;
        scale_ = scale;
        minimum_ = minimum;
        improved_ = true;
        const std::uint8_t* codes = tried_ - lane_ + winner;
        for (int p = lane_; p < columns_; p += kTeam) best_[p] = codes[p * kThreads];
      }
      __syncwarp();
    }
  }

  /// Columns group .. group + columns - 1 of the block: scale and offset by least squares given
  /// their codes, and a search.
  __device__ void RefitGroup(int group) {
    group_ = group;
    factors_ = b_.factors + (b_.begin + group) * columns_;
    if (Pivot(0) == 0) return;  // it could not be factorised
    const Index fit = FitAt(group);
    const float old_scale = scale_ = b_.q.scale[fit], old_minimum = minimum_ = b_.q.minimum[fit];
    const float loss = MakeTarget();
    least_ = loss * (1 - b_.least_share);
    improved_ = false;
    Refit();
    if (b_.stretch_count > 0) {
      Search();
      Refit();
    }
    if (improved_) gain_ += loss - least_;
    for (int p = 0; p < columns_; ++p) {
      const int k = Column(p);
      const std::uint8_t code = best_[p], was = codes_[k];
      const float step = LevelOf(static_cast<float>(code), scale_, minimum_) -
                         LevelOf(static_cast<float>(was), old_scale, old_minimum);
      __syncwarp();
      if (!improved_) continue;
      if (lane_ == 0) codes_[k] = code;
      if (step != 0) Spread(step, H(k), group + columns_);  // groups before have had their turn
    }
    if (improved_ && here_ && lane_ == 0) {
      b_.q.scale[fit] = scale_;
      b_.q.minimum[fit] = minimum_;
    }
    __syncwarp();
  }

  const RefineBlock& b_;
  const GptqGrid& grid_;
  const int width_, columns_, lane_;
  const bool here_;  // else a row once more, of which nothing is written
  const Index row_;
  const float top_;
  float *gradient_, *target_, *miss_;  // of the row: [width], [columns], [columns]
  float* errors_;                      // of the thread: [columns], kThreads apart
  std::uint8_t *codes_, *best_;        // of the row: [width], [columns] by position
  std::uint8_t* tried_;                // of the thread: [columns] by position, kThreads apart
  const float* factors_ = nullptr;
  int group_ = 0;
  float least_ = 0, scale_ = 1, minimum_ = 0, gain_ = 0;
  bool improved_ = false;
};

template <int kRows>
__global__ void __launch_bounds__(kRows* kTeam) RefineKernel(RefineBlock block, GptqGrid grid) {
  extern __shared__ __align__(16) float shared[];
  RefinedRow<kRows>(block, grid, shared).Run();
}

template <int kRows>
bool Launch(const RefineBlock& block, const GptqGrid& grid, cudaStream_t stream) {
  constexpr int kMostBytes = 96 << 10;
  const int bytes = kRows * RoomOfRow{static_cast<int>(block.width), grid.group_columns}.all();
  if (bytes > kMostBytes) return false;
  cudaFuncSetAttribute(RefineKernel<kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       kMostBytes);
  RefineKernel<kRows><<<static_cast<unsigned>(CeilDiv(block.q.rows, kRows)), kRows * kTeam,
                        static_cast<std::size_t>(bytes), stream>>>(block, grid);
  return true;
}

/// Rows whose error rose by the refinement get back what they had.
__global__ void TakeBackKernel(CodesOnDevice q, CodesOnDevice start, Index n, const double* before,
                               const double* after) {
  const Index row = Index{blockIdx.y} * kThreads + threadIdx.x, col = blockIdx.x;
  if (row >= q.rows || after[row] <= before[row]) return;
  q.codes[col * q.rows + row] = start.codes[col * q.rows + row];
  if (col % q.group_columns != 0) return;
  const Index fit = col / q.group_columns * q.rows + row;
  q.scale[fit] = start.scale[fit];
  q.minimum[fit] = start.minimum[fit];
}

}  // namespace

void Residual(const float* values, const CodesOnDevice& q, Index n, float* residual,
              cudaStream_t stream) {
  ResidualKernel<<<RowsByColumns(n, q.rows, kThreads), kThreads, 0, stream>>>(values, q, residual);
}

void ProductsOfRows(const float* e, const float* p, const float* linear, Index n, Index rows,
                    double* out, cudaStream_t stream) {
  constexpr int kLanes = 8;
  ProductsOfRowsKernel<<<static_cast<unsigned>(CeilDiv(rows, kWarp)), kWarp * kLanes, 0, stream>>>(
      e, p, linear, n, rows, out);
}

void Refine(const RefineBlock& block, const GptqGrid& grid, cudaStream_t stream) {
  if (Launch<16>(block, grid, stream) || Launch<8>(block, grid, stream)) return;
  (void)Launch<4>(block, grid, stream);
}

void TakeBack(const CodesOnDevice& q, const CodesOnDevice& start, Index n, const double* before,
              const double* after, cudaStream_t stream) {
  TakeBackKernel<<<RowsByColumns(n, q.rows, kThreads), kThreads, 0, stream>>>(q, start, n, before,
                                                                              after);
}

}  // namespace lieq::cuda
