// Products of few rows with packed codes: which kernel.
#include "lieq/device/cuda/matvec.cuh"

namespace lieq::cuda {

extern template void LaunchMatVec<2>(MatVecPlan&, int, bool, int, cudaStream_t);
extern template void LaunchMatVec<3>(MatVecPlan&, int, bool, int, cudaStream_t);
extern template void LaunchMatVec<4>(MatVecPlan&, int, bool, int, cudaStream_t);
extern template void LaunchMatVec<8>(MatVecPlan&, int, bool, int, cudaStream_t);

namespace {

constexpr int kRoundThreads = 256;

/// Eight lanes take 64 columns of a row.
__global__ void RoundInputKernel(Block<const float> x, Block<float> out) {
  const Index row = blockIdx.x;
  const Index col = (Index{blockIdx.y} * kRoundThreads + threadIdx.x) * 8;
  float values[8] = {}, most = 0;
  const bool here = col < x.cols;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (here) values[i] = x.data[row * x.stride + col + i];
    most = fmaxf(most, fabsf(values[i]));
  }
  const int exponent = ExponentOf(OverLanes<8>(most, Most{}));
  const float factor = __uint_as_float(static_cast<unsigned>(127 - exponent) << 23);
  const float back = __uint_as_float(static_cast<unsigned>(127 + exponent) << 23);
  if (!here) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    out.data[row * out.stride + col + i] = __half2float(__float2half_rn(values[i] * factor)) * back;
  }
}

}  // namespace

void RoundInput(Block<const float> x, Block<float> out, cudaStream_t stream) {
  if (x.rows * x.cols == 0) return;
  RoundInputKernel<<<RowsByColumns(x.rows, x.cols, kRoundThreads * 8), kRoundThreads, 0, stream>>>(
      x, out);
}

bool Alike(const Source& a, const Source& b) noexcept {
  return a.form == Form::kPacked && b.form == Form::kPacked && a.cols == b.cols &&
         a.bits == b.bits && a.unit_scales == b.unit_scales && a.has_zeros == b.has_zeros &&
         a.has_minima == b.has_minima && a.zero == b.zero;
}

bool MultiplyPacked(const ProductInput& input, std::span<const PackedProduct> products, bool add,
                    bool gates, int turn, int multiprocessors, cudaStream_t stream) {
  if (input.x.rows == 0) return gates;
  MatVecPlan plan{};
  plan.turn = turn;
  MatVecArguments& a = plan.arguments;
  const Source& w = products.front().w;
  int tiles = 0;
  for (std::size_t i = 0; i < kMostPackedProducts; ++i) {
    if (i >= products.size()) {
      a.parts[i] = {nullptr, nullptr, nullptr, 0, 0, tiles};
      continue;
    }
    const PackedProduct& product = products[i];
    tiles += static_cast<int>(CeilDiv(product.w.rows, kUnitRows));
    a.parts[i] = {product.w.units,
                  product.bias,
                  product.y,
                  product.stride,
                  static_cast<int>(product.w.rows),
                  tiles};
  }
  a.input = input;
  a.tiles = tiles;
  a.units_per_row = static_cast<int>(w.units_per_row);
  a.cols = static_cast<int>(w.cols);
  a.rows = static_cast<int>(input.x.rows);
  a.per_column = 1.0f / static_cast<float>(a.cols);
  a.zero = w.zero;
  a.minima = w.has_minima;
  a.add = add;
  a.paired = gates;
  const bool offsets = w.has_zeros || w.has_minima;
  const auto launch = w.bits == 2   ? LaunchMatVec<2>
                      : w.bits == 3 ? LaunchMatVec<3>
                      : w.bits == 4 ? LaunchMatVec<4>
                                    : LaunchMatVec<8>;
  launch(plan, w.unit_scales, offsets, multiprocessors, stream);
  return a.paired;
}

}  // namespace lieq::cuda
