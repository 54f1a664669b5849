// Operations of a layer beside products and attention: one pass over memory each.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/elements.cuh"
#include "lieq/device/cuda/kernels.h"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;

/// A group of kLanes threads takes a row, so that heads of 64 columns fill a block too.
template <int kLanes>
__global__ void RmsNormKernel(Block<const float> x, const float* weight, double eps,
                              Block<float> y) {
  constexpr int kRows = kThreads / kLanes;
  const Index row = Index{blockIdx.x} * kRows + threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes;
  const bool here = row < x.rows;  // those behind the last row take part in the sums
  const float* from = x.data + row * x.stride;
  double squares = 0;
  if (here) {
    for (Index c = lane; c < x.cols; c += kLanes) {
      const double value = static_cast<double>(from[c]);
      squares += value * value;
    }
  }
  if constexpr (kLanes == kWarp) {
    squares = OverLanes(squares, Add{});
  } else {
    squares = OverBlock<kThreads>(squares, Add{});
  }
  if (!here) return;
  const float scale = static_cast<float>(1.0 / sqrt(squares / static_cast<double>(x.cols) + eps));
  float* to = y.data + row * y.stride;
  for (Index c = lane; c < x.cols; c += kLanes) to[c] = from[c] * scale * weight[c];
}

__global__ void RopeKernel(Block<float> x, Block<const float> cosine, Block<const float> sine,
                           const std::int32_t* positions, Index head_dim) {
  const Index row = blockIdx.x, half = cosine.cols;
  const std::int32_t position = positions[row];
  if (position < 0) return;
  const Index pair = Index{blockIdx.y} * kThreads + threadIdx.x;
  if (pair >= x.cols / head_dim * half) return;
  const Index head = pair / half, i = pair % half;
  float* at = x.data + row * x.stride + head * head_dim + i;
  const float c = cosine.data[position * cosine.stride + i];
  const float s = sine.data[position * sine.stride + i];
  const float a = at[0], b = at[half];
  at[0] = a * c - b * s;
  at[half] = b * c + a * s;
}

/// Calls `apply` for every element.
template <class Function>
__global__ void ElementsKernel(Index cols, Function apply) {
  ForColumns<kThreads>(cols, apply);
}

template <class Function>
void ForElements(Index rows, Index cols, cudaStream_t stream, Function apply) {
  if (rows * cols == 0) return;
  ElementsKernel<<<RowsByColumns(rows, cols, 4 * kThreads), kThreads, 0, stream>>>(cols, apply);
}

struct HalfElement {
  Block<const float> x;
  Block<std::uint16_t> to;
  __device__ void operator()(Index row, Index col) const {
    to.data[row * to.stride + col] = BoundedHalf(x.data[row * x.stride + col]);
  }
};

/// A warp takes a group of columns.
__global__ void RoundRowsKernel(Block<float> x, Index group, float most) {
  const Index begin = (Index{blockIdx.y} * (kThreads / kWarp) + threadIdx.x / kWarp) * group;
  if (begin >= x.cols) return;  // a whole warp
  const Index end = begin + group < x.cols ? begin + group : x.cols;
  float* row = x.data + Index{blockIdx.x} * x.stride;
  const int lane = threadIdx.x % kWarp;
  float largest = 0;
  for (Index c = begin + lane; c < end; c += kWarp) largest = fmaxf(largest, fabsf(row[c]));
  largest = OverLanes(largest, Most{});
  const float scale = largest / most;
  for (Index c = begin + lane; c < end; c += kWarp) {
    row[c] = scale > 0 ? rintf(row[c] / scale) * scale : row[c] * 0;  // NaN stays
  }
}

struct ScaleElement {
  Block<float> x;
  float factor;
  __device__ void operator()(Index r, Index c) const { x.data[r * x.stride + c] *= factor; }
};
__device__ float SwiGluOf(float gate, float up) {
  // Clamped as the processor's: exp(-gate) stays finite, and so does the quotient.
  return gate / (1.0f + expf(fminf(-gate, 88.0f))) * up;
}
__global__ void SwiGluKernel(Block<const float> gate, Block<const float> up, Block<float> out) {
  ForColumns<kThreads>(gate.cols, [&](Index row, Index col) {
    out.data[row * out.stride + col] =
        SwiGluOf(gate.data[row * gate.stride + col], up.data[row * up.stride + col]);
  });
}
__global__ void SwiGluByFours(Block<const float> gate, Block<const float> up, Block<float> out) {
  ForFours<kThreads>(gate.cols, [&](Index row, Index four) {
    const float4 g = FourAt(gate, row, four), u = FourAt(up, row, four);
    FourAt(out, row, four) = {SwiGluOf(g.x, u.x), SwiGluOf(g.y, u.y), SwiGluOf(g.z, u.z),
                              SwiGluOf(g.w, u.w)};
  });
}

struct SubtractElement {
  Block<const float> a, b;
  float times;
  Block<float> out;
  __device__ void operator()(Index r, Index c) const {
    out.data[r * out.stride + c] =
        __fmul_rn(times, a.data[r * a.stride + c] - b.data[r * b.stride + c]);
  }
};
struct BiasElement {
  const float* bias;
  bool add;
  Block<float> y;
  __device__ void operator()(Index r, Index c) const {
    float& value = y.data[r * y.stride + c];
    value = add ? value + bias[c] : bias[c];
  }
};

}  // namespace

void RmsNorm(Block<const float> x, const float* weight, double eps, Block<float> y,
             cudaStream_t stream) {
  if (x.rows == 0) return;
  if (x.cols <= 512) {
    constexpr int kRows = kThreads / kWarp;
    RmsNormKernel<kWarp>
        <<<static_cast<unsigned>(CeilDiv(x.rows, kRows)), kThreads, 0, stream>>>(x, weight, eps, y);
  } else {
    RmsNormKernel<kThreads>
        <<<static_cast<unsigned>(x.rows), kThreads, 0, stream>>>(x, weight, eps, y);
  }
}

void Rope(Block<float> x, Block<const float> cosine, Block<const float> sine,
          const std::int32_t* positions, Index head_dim, cudaStream_t stream) {
  if (x.rows == 0) return;
  RopeKernel<<<RowsByColumns(x.rows, x.cols / head_dim * cosine.cols, kThreads), kThreads, 0,
               stream>>>(x, cosine, sine, positions, head_dim);
}

void RoundToF16(Block<const float> x, Block<std::uint16_t> to, cudaStream_t stream) {
  ForElements(x.rows, x.cols, stream, HalfElement{x, to});
}

void RoundRows(Block<float> x, Index group, int bits, cudaStream_t stream) {
  if (x.rows * x.cols == 0) return;
  const dim3 grid = RowsByColumns(x.rows, CeilDiv(x.cols, group), kThreads / kWarp);
  RoundRowsKernel<<<grid, kThreads, 0, stream>>>(x, group,
                                                 static_cast<float>((1 << (bits - 1)) - 1));
}

void Scale(Block<float> x, float factor, cudaStream_t stream) {
  ForElements(x.rows, x.cols, stream, ScaleElement{x, factor});
}

void SwiGlu(Block<float> gate, Block<const float> up, cudaStream_t stream) {
  SwiGluInto({gate.data, gate.rows, gate.cols, gate.stride}, up, gate, stream);
}

void SwiGluInto(Block<const float> gate, Block<const float> up, Block<float> out,
                cudaStream_t stream) {
  if (gate.rows * gate.cols == 0) return;
  const auto kernel = InFours(gate, up, out) ? SwiGluByFours : SwiGluKernel;
  kernel<<<RowsByColumns(gate.rows, gate.cols, 4 * kThreads), kThreads, 0, stream>>>(gate, up, out);
}

void Subtract(Block<const float> a, Block<const float> b, float times, Block<float> out,
              cudaStream_t stream) {
  ForElements(a.rows, a.cols, stream, SubtractElement{a, b, times, out});
}

void AddBias(const float* bias, bool add, Block<float> y, cudaStream_t stream) {
  ForElements(y.rows, y.cols, stream, BiasElement{bias, add, y});
}

}  // namespace lieq::cuda
