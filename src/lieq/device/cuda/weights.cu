// Weights as they are held: widened, looked up in, and multiplied with few rows.
#include "lieq/device/cuda/device_code.cuh"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/packed.cuh"

namespace lieq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEight = 8;  // columns that a thread takes: 16 bytes of bf16, a byte of each bit

/// Columns col .. col + 7 of a row as float, 0 behind the last; col is a multiple of 8.
template <Form kForm>
__device__ void LoadEight(const Source& w, Index row, Index col, float (&out)[kEight]) {
  if constexpr (kForm == Form::kFloat) {
    const float* from = static_cast<const float*>(w.data) + row * w.stride + col;
#pragma unroll
    for (int i = 0; i < kEight; ++i) out[i] = col + i < w.cols ? from[i] : 0.0f;
  } else if constexpr (kForm == Form::kBf16 || kForm == Form::kF16) {
    const auto* from = static_cast<const std::uint16_t*>(w.data) + row * w.stride + col;
    const uint4 packed = *reinterpret_cast<const uint4*>(from);  // rows are padded to 16 bytes
    const std::uint32_t pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < kEight; ++i) {
      const auto bits = static_cast<unsigned short>(pairs[i / 2] >> (16 * (i % 2)));
      const float value = kForm == Form::kBf16 ? __uint_as_float(std::uint32_t{bits} << 16)
                                               : __half2float(__ushort_as_half(bits));
      out[i] = col + i < w.cols ? value : 0.0f;
    }
  } else if constexpr (kForm == Form::kPacked) {
    // Eight columns are those of one p: two of each t, in the words of four lanes.
    const std::byte* unit =
        w.units + (row / kUnitRows * w.units_per_row + col / kUnitColumns) * w.unit_bytes;
    const int r = static_cast<int>(row % kUnitRows), c = static_cast<int>(col % kUnitColumns);
    const int q = c / 64, p = c % 64 / kEight, low = w.bits == 3 ? 2 : w.bits;
    const std::byte* scales = unit + 256 * w.bits;
    const int at = ScaleByte(w.unit_scales, c / static_cast<int>(kUnitColumns / w.unit_scales), r);
    const auto half = [](const std::byte* from) {
      return __half2float(__ushort_as_half(*reinterpret_cast<const std::uint16_t*>(from)));
    };
    const float scale = half(scales + at);
    const float offset =
        w.has_zeros || w.has_minima ? half(scales + 32 * w.unit_scales + at) : w.zero;
    const float zero = w.has_minima ? 0.0f : offset, minimum = w.has_minima ? offset : -0.0f;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const auto word =
          *reinterpret_cast<const std::uint32_t*>(unit + WordByte(w.bits, q, p, r, t));
      std::uint32_t high = 0;
      if (w.bits == 3) {
        high = *reinterpret_cast<const std::uint32_t*>(unit + HighByte(q, r, t)) >> HighBit(p, r);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        std::uint32_t code = (word >> (16 * h + CodeBit(w.bits, p))) & ((1u << low) - 1);
        code |= (high >> (16 * h) & 1u) << 2;
        const float value = __fadd_rn(__fmul_rn(scale, static_cast<float>(code) - zero), minimum);
        const int i = 2 * t + h;
        out[i] = col + i < w.cols ? value : 0.0f;
      }
    }
  } else {
    // Eight codes are `bits` bytes of the row's stream, in two words at most.
    const Index bit = col * w.bits, word = bit / 32;
    const std::uint32_t* words = w.words + row * w.words_per_row;
    std::uint64_t stream = words[word];
    if (word + 1 < w.words_per_row) stream |= static_cast<std::uint64_t>(words[word + 1]) << 32;
    stream >>= bit % 32;
    const std::uint64_t mask = (std::uint64_t{1} << w.bits) - 1;
    const Index of_row = row * w.groups;
    Index group = static_cast<unsigned>(col) / static_cast<unsigned>(w.group_columns);
    Index end = (group + 1) * w.group_columns;
    float scale = 0, zero = 0, minimum = 0;
    const auto take = [&] {
      scale = w.scales[of_row + group];
      zero = w.zeros == nullptr ? w.zero : static_cast<float>(w.zeros[of_row + group]);
      minimum = w.minima == nullptr ? -0.0f : w.minima[of_row + group];
    };
    take();
#pragma unroll
    for (int i = 0; i < kEight; ++i) {
      if (col + i == end && col + i < w.cols) {
        ++group;
        end += w.group_columns;
        take();
      }
      const float code = static_cast<float>(static_cast<std::uint32_t>(stream & mask));
      stream >>= w.bits;
      // In two roundings, as QMatrix::Dequantize.
      const float value = __fadd_rn(__fmul_rn(scale, code - zero), minimum);
      out[i] = col + i < w.cols ? value : 0.0f;
    }
  }
}

__device__ std::uint16_t Bf16Bits(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
/// The first in the lower half.
__device__ std::uint32_t Bf16Bits(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return __bfloat16_as_ushort(pair.x) | std::uint32_t{__bfloat16_as_ushort(pair.y)} << 16;
}
__device__ void Store(float* to, float value) {
  *to = value;
}
__device__ void Store(std::uint16_t* to, float value) {
  *to = Bf16Bits(value);
}

/// Row r of out is row begin + r of the matrix, or rows[r] of it where there are rows.
template <Form kForm, class T>
__global__ void WidenKernel(Source w, Index begin, const std::int32_t* rows, Block<T> out) {
  const Index r = blockIdx.x, row = rows == nullptr ? begin + r : Index{rows[r]};
  const Index col = (Index{blockIdx.y} * kThreads + threadIdx.x) * kEight;
  if (col >= out.cols) return;
  float values[kEight] = {};
  if (col < w.cols) LoadEight<kForm>(w, row, col, values);
  T* to = out.data + r * out.stride + col;
  if constexpr (sizeof(T) == 2) {
    if (col + kEight <= out.cols && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
      *reinterpret_cast<uint4*>(to) = {
          Bf16Bits(values[0], values[1]), Bf16Bits(values[2], values[3]),
          Bf16Bits(values[4], values[5]), Bf16Bits(values[6], values[7])};
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kEight; ++i) {
    if (col + i < out.cols) Store(to + i, values[i]);
  }
}

template <template <Form> class Launch, class... Arguments>
void ByForm(Form form, const Arguments&... arguments) {
  switch (form) {
    case Form::kFloat:
      return Launch<Form::kFloat>::Run(arguments...);
    case Form::kBf16:
      return Launch<Form::kBf16>::Run(arguments...);
    case Form::kF16:
      return Launch<Form::kF16>::Run(arguments...);
    case Form::kCodes:
      return Launch<Form::kCodes>::Run(arguments...);
    case Form::kPacked:
      return Launch<Form::kPacked>::Run(arguments...);
  }
}

template <Form kForm>
struct LaunchWiden {
  template <class T>
  static void Run(const Source& w, Index begin, const std::int32_t* rows, Block<T> out,
                  cudaStream_t stream) {
    if (out.rows == 0) return;
    WidenKernel<kForm>
        <<<RowsByColumns(out.rows, out.cols, kThreads * kEight), kThreads, 0, stream>>>(w, begin,
                                                                                        rows, out);
  }
};

constexpr int kEightsThreads = 64, kEightsRows = 4;

/// As WidenKernel of codes in bf16: a thread takes eight columns, which are of one group, of
/// kEightsRows rows.
template <int kBits>
__global__ void WidenEightsKernel(Source w, Index begin, Block<std::uint16_t> out) {
  const unsigned col = (blockIdx.y * kEightsThreads + threadIdx.x) * kEight;
  if (col >= out.cols) return;
  const unsigned group = col / static_cast<unsigned>(w.group_columns);
  const unsigned bit = col * kBits, at = bit % 32;
#pragma unroll
  for (int i = 0; i < kEightsRows; ++i) {
    const Index r = Index{blockIdx.x} * kEightsRows + i, row = begin + r;
    if (r >= out.rows) return;
    const std::uint32_t* words = w.words + row * w.words_per_row + bit / 32;
    std::uint32_t low = words[0], high = 0;
    if (at + kEight * kBits > 32) high = words[1];
    if constexpr (kBits < 4) low = __funnelshift_r(low, high, at);
    const Index of = row * w.groups + group;
    const float scale = w.scales[of];
    const float zero = w.zeros == nullptr ? w.zero : static_cast<float>(w.zeros[of]);
    const float minimum = w.minima == nullptr ? -0.0f : w.minima[of];
    std::uint32_t pairs[kEight / 2];
#pragma unroll
    for (int k = 0; k < kEight / 2; ++k) {
      const auto value = [&](int n) {
        const std::uint32_t bits = n * kBits < 32 ? low >> (n * kBits) : high >> (n * kBits - 32);
        const auto code = static_cast<float>(bits & ((1u << kBits) - 1));
        return __fadd_rn(__fmul_rn(scale, code - zero), minimum);
      };
      pairs[k] = Bf16Bits(value(2 * k), value(2 * k + 1));
    }
    *reinterpret_cast<uint4*>(out.data + r * out.stride + col) = {pairs[0], pairs[1], pairs[2],
                                                                  pairs[3]};
  }
}

/// False for what is not in eights.
bool WidenEights(const Source& w, Index begin, Block<std::uint16_t> out, cudaStream_t stream) {
  if (w.form != Form::kCodes || w.group_columns % kEight != 0 || w.cols % kEight != 0 ||
      out.cols != w.cols || out.stride % kEight != 0 ||
      reinterpret_cast<std::uintptr_t>(out.data) % sizeof(uint4) != 0) {
    return false;
  }
  if (out.rows == 0) return true;
  const dim3 blocks =
      RowsByColumns(CeilDiv(out.rows, kEightsRows), out.cols, kEightsThreads * kEight);
  const auto launch = [&](auto* kernel) {
    kernel<<<blocks, kEightsThreads, 0, stream>>>(w, begin, out);
    return true;
  };
  switch (w.bits) {
    case 2:
      return launch(WidenEightsKernel<2>);
    case 3:
      return launch(WidenEightsKernel<3>);
    case 4:
      return launch(WidenEightsKernel<4>);
    case 8:
      return launch(WidenEightsKernel<8>);
    default:
      return false;
  }
}

template <Form kForm>
__global__ void LargestKernel(Source w, unsigned* largest) {
  const Index col = (Index{blockIdx.y} * kThreads + threadIdx.x) * kEight;
  unsigned most = 0;  // bits of magnitudes are in their order, those of NaN above all
  if (col < w.cols) {
    float values[kEight] = {};
    LoadEight<kForm>(w, blockIdx.x, col, values);
#pragma unroll
    for (int i = 0; i < kEight; ++i) most = max(most, __float_as_uint(values[i]) & 0x7fffffffu);
  }
  most = __reduce_max_sync(kAllLanes, most);
  if (threadIdx.x % kWarp == 0 && most > 0) atomicMax(largest, most);
}

template <Form kForm>
struct LaunchLargest {
  static void Run(const Source& w, unsigned* largest, cudaStream_t stream) {
    if (w.rows == 0) return;
    LargestKernel<kForm>
        <<<RowsByColumns(w.rows, w.cols, kThreads * kEight), kThreads, 0, stream>>>(w, largest);
  }
};

/// A thread takes four columns.
__global__ void RoundKernel(Block<const float> x, Block<std::uint16_t> out) {
  const Index row = blockIdx.x, col = (Index{blockIdx.y} * kThreads + threadIdx.x) * 4;
  if (col >= out.cols) return;
  const float* from = x.data + row * x.stride + col;
  std::uint16_t* to = out.data + row * out.stride + col;
  if (col + 4 <= x.cols && reinterpret_cast<std::uintptr_t>(from) % 16 == 0 &&
      reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    *reinterpret_cast<uint2*>(to) = {Bf16Bits(four.x, four.y), Bf16Bits(four.z, four.w)};
    return;
  }
  for (int i = 0; i < 4 && col + i < out.cols; ++i) {
    to[i] = col + i < x.cols ? Bf16Bits(from[i]) : std::uint16_t{0};
  }
}

/// A warp takes one output for kRows rows of x.
template <Form kForm, int kRows>
__global__ void FewRowsKernel(Block<const float> x, Source w, const float* bias, Block<float> y,
                              bool add) {
  constexpr int kWarps = kThreads / kWarp;
  const Index o = Index{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (o >= w.rows) return;
  float sums[kRows] = {};
  for (Index col = lane * kEight; col < w.cols; col += kWarp * kEight) {
    float weights[kEight];
    LoadEight<kForm>(w, o, col, weights);
    const bool whole = col + kEight <= w.cols;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= x.rows) break;
      const float* from = x.data + r * x.stride + col;
#pragma unroll
      for (int i = 0; i < kEight; ++i) {
        if (whole || col + i < w.cols) sums[r] = fmaf(weights[i], from[i], sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float sum = OverLanes(sums[r], Add{});
    if (lane != 0 || r >= x.rows) continue;
    float* to = y.data + r * y.stride + o;
    const float with_bias = sum + (bias == nullptr ? 0.0f : bias[o]);
    *to = add ? *to + with_bias : with_bias;
  }
}

template <Form kForm>
struct LaunchFewRows {
  static void Run(Block<const float> x, const Source& w, const float* bias, Block<float> y,
                  bool add, cudaStream_t stream) {
    const auto launch = [&](auto* kernel) {
      kernel<<<static_cast<unsigned>(CeilDiv(w.rows, kThreads / kWarp)), kThreads, 0, stream>>>(
          x, w, bias, y, add);
    };
    if (x.rows == 0) return;
    if (x.rows == 1) return launch(FewRowsKernel<kForm, 1>);
    if (x.rows <= 4) return launch(FewRowsKernel<kForm, 4>);
    launch(FewRowsKernel<kForm, static_cast<int>(kFewRows)>);
  }
};

}  // namespace

void Widen(const Source& w, Index begin, Block<float> out, cudaStream_t stream) {
  if (WidenUnits(w, begin, out, stream)) return;
  ByForm<LaunchWiden>(w.form, w, begin, static_cast<const std::int32_t*>(nullptr), out, stream);
}

void WidenToBf16(const Source& w, Index begin, Block<std::uint16_t> out, cudaStream_t stream) {
  if (WidenUnits(w, begin, out, stream) || WidenEights(w, begin, out, stream)) return;
  ByForm<LaunchWiden>(w.form, w, begin, static_cast<const std::int32_t*>(nullptr), out, stream);
}

void GatherRows(const Source& w, const std::int32_t* rows, Block<float> out, cudaStream_t stream) {
  ByForm<LaunchWiden>(w.form, w, Index{0}, rows, out, stream);
}

void LargestSize(const Source& w, float* largest, cudaStream_t stream) {
  cudaMemsetAsync(largest, 0, sizeof *largest, stream);
  ByForm<LaunchLargest>(w.form, w, reinterpret_cast<unsigned*>(largest), stream);
}

void RoundToBf16(Block<const float> x, Block<std::uint16_t> out, cudaStream_t stream) {
  if (x.rows == 0) return;
  RoundKernel<<<RowsByColumns(x.rows, out.cols, 4 * kThreads), kThreads, 0, stream>>>(x, out);
}

void MultiplyFewRows(Block<const float> x, const Source& w, const float* bias, Block<float> y,
                     bool add, cudaStream_t stream) {
  ByForm<LaunchFewRows>(w.form, x, w, bias, y, add, stream);
}

}  // namespace lieq::cuda
