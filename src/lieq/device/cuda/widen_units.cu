// Packed codes widened: whole units to rows of floats.
#include "lieq/device/cuda/packed.cuh"

namespace lieq::cuda {
namespace {

constexpr int kUnitWarps = 4;
// Behind each row of a unit in shared memory, so that neither writes nor reads meet in a bank.
constexpr int kPadBytes = 16;

/// Two neighbours of a row.
__device__ __forceinline__ void StorePair(std::uint16_t* to, float first, float second) {
  *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(first, second);
}
__device__ __forceinline__ void StorePair(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = {first, second};
}

/// A warp widens units: lane (g, t) what it has of rows g and g + 8, then whole rows go out.
template <int kBits, class T>
__global__ void __launch_bounds__(kUnitWarps* kWarp)
    WidenUnitsKernel(Source w, Index first_tile, Block<T> out) {
  constexpr int kRow = (int{kUnitColumns} * int{sizeof(T)} + kPadBytes) / int{sizeof(T)};
  __shared__ __align__(16) T of_warps[kUnitWarps][kUnitRows * kRow];
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  T* const wide = of_warps[threadIdx.x / kWarp];
  const Index tile = blockIdx.x, k = Index{blockIdx.y} * kUnitWarps + threadIdx.x / kWarp;
  if (k >= w.units_per_row) return;  // a whole warp
  const std::byte* unit = w.units + ((first_tile + tile) * w.units_per_row + k) * w.unit_bytes;
  std::uint32_t words[kLaneWords<kBits>];
#pragma unroll
  for (int i = 0; i < (kBits == 3 ? 1 : kBits / 2); ++i) {
    const uint4 v = *reinterpret_cast<const uint4*>(unit + i * 512 + lane * 16);
    words[4 * i] = v.x, words[4 * i + 1] = v.y, words[4 * i + 2] = v.z, words[4 * i + 3] = v.w;
  }
  if constexpr (kBits == 3) {
    const uint2 v = *reinterpret_cast<const uint2*>(unit + 512 + lane * 8);
    words[4] = v.x, words[5] = v.y;
  }
  const auto pair_at = [&](int at) {  // rows g and g + 8
    return __half22float2(*reinterpret_cast<const __half2*>(unit + 256 * kBits + at));
  };
#pragma unroll
  for (int q = 0; q < 2; ++q) {
#pragma unroll
    for (int fold = 0; fold < 2; ++fold) {
      const int at = ScaleByte(w.unit_scales, (2 * q + fold) * w.unit_scales / 4, g);
      const float2 scales = pair_at(at);
      float2 zeros{w.zero, w.zero}, minima{-0.0f, -0.0f};
      if (w.has_minima) {
        zeros = {0, 0};
        minima = pair_at(at + 32 * w.unit_scales);
      } else if (w.has_zeros) {
        zeros = pair_at(at + 32 * w.unit_scales);
      }
#pragma unroll
      for (int p = 4 * fold; p < 4 * fold + 4; ++p) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const std::uint32_t pair = CodePair<kBits>(words, q, p, half);
          const float2 codes = __half22float2(*reinterpret_cast<const __half2*>(&pair));
          const float unshift = __uint_as_float((127u + 24 - ShiftOf(kBits, p)) << 23);
          const float scale = half == 0 ? scales.x : scales.y;
          const float zero = half == 0 ? zeros.x : zeros.y;
          const float minimum = half == 0 ? minima.x : minima.y;
          // Differences are exact; then two roundings, as QMatrix::Dequantize.
          const auto value = [&](float code) {
            return __fadd_rn(__fmul_rn(scale, fmaf(code, unshift, -zero)), minimum);
          };
          StorePair(wide + (g + 8 * half) * kRow + q * 64 + p * 8 + 2 * t, value(codes.x),
                    value(codes.y));
        }
      }
    }
  }
  __syncwarp();
  constexpr int kPiece = 16 / int{sizeof(T)}, kPieces = int{kUnitColumns} / kPiece;
#pragma unroll
  for (int i = lane; i < int{kUnitRows} * kPieces; i += kWarp) {
    const int row = i / kPieces, col = i % kPieces * kPiece;
    const Index out_row = tile * kUnitRows + row, out_col = k * kUnitColumns + col;
    if (out_row >= out.rows || out_col >= out.cols) continue;
    *reinterpret_cast<uint4*>(out.data + out_row * out.stride + out_col) =
        *reinterpret_cast<const uint4*>(wide + row * kRow + col);
  }
}

template <class T>
bool WidenUnitsTo(const Source& w, Index begin, Block<T> out, cudaStream_t stream) {
  const bool even = w.form == Form::kPacked && begin % kUnitRows == 0 && out.cols == w.cols &&
                    reinterpret_cast<std::uintptr_t>(out.data) % 16 == 0 &&
                    out.stride * static_cast<Index>(sizeof(T)) % 16 == 0;
  if (!even || out.rows == 0) return false;
  const dim3 grid(static_cast<unsigned>(CeilDiv(out.rows, kUnitRows)),
                  static_cast<unsigned>(CeilDiv(w.units_per_row, kUnitWarps)), 1);
  const auto kernel = w.bits == 2   ? WidenUnitsKernel<2, T>
                      : w.bits == 3 ? WidenUnitsKernel<3, T>
                      : w.bits == 4 ? WidenUnitsKernel<4, T>
                                    : WidenUnitsKernel<8, T>;
  kernel<<<grid, kUnitWarps * kWarp, 0, stream>>>(w, begin / kUnitRows, out);
  return true;
}

}  // namespace

bool WidenUnits(const Source& w, Index begin, Block<float> out, cudaStream_t stream) {
  return WidenUnitsTo(w, begin, out, stream);
}

bool WidenUnits(const Source& w, Index begin, Block<std::uint16_t> out, cudaStream_t stream) {
  return WidenUnitsTo(w, begin, out, stream);
}

}  // namespace lieq::cuda
