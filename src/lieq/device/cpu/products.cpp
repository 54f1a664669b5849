#include "lieq/device/cpu/products.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/device/cpu/bf16_product.h"
#include "lieq/device/device_access.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

// Large enough that packing the factors costs BLAS little (forward_bench): 512 rows by up to 1,024
// outputs; a widened tile of weights stays within 8 MiB.
constexpr Index kRowTile = 512;
constexpr Index kOutTile = 1024;
constexpr Index kWidenedTile = Index{1} << 21;  // floats
/// Weights that a task of few rows multiplies: some microseconds, against one to hand it out, and
/// few enough that a product of one row has work for all threads.
constexpr Index kFewRowsTile = Index{1} << 15;
constexpr Index kPanel = 64;                   // outputs that one task packs for bf16
constexpr Index kMostPacked = Index{1} << 22;  // words: 8 MiB

View<const float, 2> Host(DeviceView<const float> v) {
  return DeviceAccess::Shared(v);
}
View<float, 2> Host(DeviceView<float> v) {
  return DeviceAccess::Shared(v);
}
const CpuPrepared& Held(const PreparedMatrix& w) {
  return static_cast<const CpuPrepared&>(w);
}
const float* Data(DeviceView<const float> bias) {
  return bias.empty() ? nullptr : Host(bias).data();
}

PackedRows RowsFrom(const QMatrix& w, Index row) {
  return {.words = w.words().data() + row * w.words_per_row(),
          .scales = w.scales().Row(row).data(),
          .zeros = w.zeros().size() > 0 ? w.zeros().Row(row).data() : nullptr,
          .minima = w.minima().size() > 0 ? w.minima().Row(row).data() : nullptr,
          .words_per_row = w.words_per_row(),
          .groups = w.groups(),
          .group_columns = w.group_columns(),
          .zero = w.grid().shared_zero(),
          .bits = w.grid().bits};
}

}  // namespace

const Bf16Multiplier& BestBf16() noexcept {
  static const bool has_tiles = kAmxBf16.supported();
  return has_tiles ? kAmxBf16 : kVectorBf16;
}

View<float, 2> WorkerScratch::Get(int worker, Index rows, Index cols) {
  Matrix<float>& block = blocks_[Size(worker)];
  if (block.size() < rows * cols) {
    block = {};  // the old one goes first
    block = Matrix<float>(1, rows * cols);
  }
  return {block.data(), rows, cols};
}

Index TileSize(Index extent, Index most) {
  const Index tiles = CeilDiv(extent, most);
  return std::min(extent, CeilDiv(CeilDiv(extent, tiles), 16) * 16);
}

Index GramTile(Index n) {
  return TileSize(n, n <= 512 ? 64 : n <= 1536 ? 128 : 256);
}

bool HasFewRowsKernel(const QMatrix& w) {
  const int bits = w.grid().bits;
  return (bits == 2 || bits == 3 || bits == 4 || bits == 8) &&
         (w.group_columns() % 16 == 0 || w.groups() == 1);
}

Index OutsOfTile(Index rows, Index out, Index in) {
  if (rows <= kFewRows) return std::clamp<Index>(kFewRowsTile / in / 16 * 16, 16, kOutTile);
  const Index most = rows <= 64 ? kOutTile / 8 : kOutTile;
  return TileSize(out, std::clamp<Index>(kWidenedTile / in, 16, most));
}

CpuProducts::CpuProducts(ThreadPool& pool, const KernelSet& kernels, WorkerScratch& scratch,
                         Arithmetic arithmetic, PackedProducts* packed)
    : pool_(pool),
      kernels_(kernels),
      scratch_(scratch),
      arithmetic_(arithmetic),
      bf16_(BestBf16()),
      packed_products_(packed) {}

void CpuProducts::Multiply(View<const float, 2> x, std::span<const Product> products, bool add) {
  for (const Product& product : products) {
    LIEQ_ASSERT(x.cols() == product.w.cols() && product.y.cols() == product.w.rows());
    LIEQ_ASSERT(x.rows() == product.y.rows());
    LIEQ_ASSERT(product.bias.empty() || product.bias.cols() == product.w.rows());
  }
  if (packed_products_ == nullptr) return MultiplyHeld(x, products, add);
  MultiplyHeld(x, MultiplyPacked(x, products, add), add);
}

std::vector<Product> CpuProducts::MultiplyPacked(View<const float, 2> x,
                                                 std::span<const Product> products, bool add) {
  // Many rows of float share what it takes to widen the weights for BLAS.
  const bool all = packed_products_->activations() != Activations::kFloat || x.rows() <= kFewRows;
  std::vector<PackedWork> works;
  std::vector<Product> others;
  for (const Product& product : products) {
    const CpuPrepared& held = Held(product.w);
    if (all && held.packed) {
      works.push_back({&*held.packed, Data(product.bias), Host(product.y)});
    } else {
      others.push_back(product);
    }
  }
  packed_products_->Multiply(x, works, add);
  return others;
}

void CpuProducts::MultiplyHeld(View<const float, 2> x, std::span<const Product> products,
                               bool add) {
  if (products.empty()) return;
  const bool few = x.rows() <= kFewRows;
  if (arithmetic_ == Arithmetic::kBf16 && !few) {
    RoundRows(x);
    for (const Product& product : products) MultiplyInBf16(x, product, add);
    return;
  }
  std::vector<Tile> tiles;
  for (std::size_t p = 0; p < products.size(); ++p) {
    const Index out = products[p].w.rows(), step = OutsOfTile(x.rows(), out, x.cols());
    for (Index o = 0; o < out; o += step) {
      for (Index r = 0; r < x.rows(); r += kRowTile) {
        tiles.push_back({p, o, std::min(step, out - o), r, std::min(kRowTile, x.rows() - r)});
      }
    }
  }
  pool_.ParallelFor(static_cast<Index>(tiles.size()), [&](Index task, int worker) {
    const Tile& tile = tiles[Size(task)];
    const Product& product = products[tile.product];
    if (few) {
      RunFewRows(x, product, tile, add, worker);
    } else {
      RunTile(x, product, tile, add, worker);
    }
  });
}

void CpuProducts::RunFewRows(View<const float, 2> x, const Product& product, const Tile& tile,
                             bool add, int worker) {
  const CpuPrepared& prepared = Held(product.w);
  const AnyMatrix& matrix = prepared.matrix;
  const View<float, 2> y = Host(product.y).Cols(tile.out, tile.outs);
  const float* bias = Data(product.bias);
  const FewRows work{.x = x.data(),
                     .x_stride = x.stride(),
                     .rows = x.rows(),
                     .in = x.cols(),
                     .outs = tile.outs,
                     .y = y.data(),
                     .y_stride = y.stride(),
                     .bias = bias == nullptr ? nullptr : bias + tile.out,
                     .add = add};
  if (const auto* bf16 = std::get_if<View<const Bf16, 2>>(&matrix)) {
    kernels_.multiply_bf16(work, &bf16->Row(tile.out).data()->bits, bf16->stride());
    return;
  }
  if (const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
    if (HasFewRowsKernel(**packed)) {
      kernels_.multiply_packed(work, RowsFrom(**packed, tile.out));
      return;
    }
  }
  const View<const float, 2> wide = Widened(prepared, tile.out, tile.outs, 0, x.cols(), worker);
  kernels_.multiply_float(work, wide.data(), wide.stride());
}

void CpuProducts::RunTile(View<const float, 2> x, const Product& product, const Tile& tile,
                          bool add, int worker) {
  const View<const float, 2> weights =
      Widened(Held(product.w), tile.out, tile.outs, 0, x.cols(), worker);
  const View<float, 2> part = Host(product.y).Rows(tile.row, tile.rows).Cols(tile.out, tile.outs);
  Gemm(1.0f, x.Rows(tile.row, tile.rows), Transpose::kNo, weights, Transpose::kYes,
       add ? 1.0f : 0.0f, part);
  const float* bias = Data(product.bias);
  if (bias == nullptr) return;
  for (Index i = 0; i < tile.rows; ++i) {
    kernels_.add(bias + tile.out, part.Row(i).data(), tile.outs);
  }
}

/// Both factors are rounded and packed once, x by the caller, and not for each tile that reads
/// them; of the weights a part at a time.
void CpuProducts::MultiplyInBf16(View<const float, 2> x, const Product& product, bool add) {
  const CpuPrepared& matrix = Held(product.w);
  const View<float, 2> y = Host(product.y);
  const float* bias = Data(product.bias);
  const Index in = x.cols(), out = y.cols();
  const Index part = std::clamp(kMostPacked / EvenColumns(in) / kPanel * kPanel, kPanel,
                                CeilDiv(out, kPanel) * kPanel);
  for (Index o = 0; o < out; o += part) {
    const Index outs = std::min(part, out - o);
    packed_.resize(PackedBf16Words(outs, in));
    pool_.ParallelFor(CeilDiv(outs, kPanel), [&](Index task, int worker) {
      const Index at = task * kPanel, count = std::min(kPanel, outs - at);
      const View<const float, 2> w = Widened(matrix, o + at, count, 0, in, worker);
      PackBf16Weights(w.data(), count, in, w.stride(), packed_.data() + PackedBf16Words(at, in));
    });
    MultiplyRounded(y.Cols(o, outs), in, add, bias == nullptr ? nullptr : bias + o);
  }
}

/// y = what is rounded times what is packed, over k columns.
void CpuProducts::MultiplyRounded(View<float, 2> y, Index k, bool add, const float* bias) {
  // Of a row tile and of a tile of packed weights: together less than a MiB, well within L2.
  constexpr Index kMostRounded = Index{1} << 17, kMostOfTile = Index{1} << 18;
  constexpr Index kRows = 96;  // 6 and 32, which the two paths take at once
  const Index width = EvenColumns(k);
  const Index row_tile = std::clamp(kMostRounded / width / kRows * kRows, kRows, kRowTile);
  const Index row_tiles = CeilDiv(y.rows(), row_tile);
  const Index most_outs = std::clamp(kMostOfTile / width / 16 * 16, Index{64}, kOutTile);
  const Index out_tile = TileSize(y.cols(), most_outs), out_tiles = CeilDiv(y.cols(), out_tile);
  pool_.ParallelFor(out_tiles * row_tiles, [&](Index task, int) {
    const Index at = task / row_tiles * out_tile, r = task % row_tiles * row_tile;
    const Index count = std::min(out_tile, y.cols() - at), rows = std::min(row_tile, y.rows() - r);
    const View<float, 2> tile = y.Rows(r, rows).Cols(at, count);
    bf16_.multiply(rounded_.data() + r * width, packed_.data() + PackedBf16Words(at, k),
                   tile.data(), rows, count, k, tile.stride(), add);
    if (bias == nullptr) return;
    for (Index i = 0; i < rows; ++i) kernels_.add(bias + at, tile.Row(i).data(), count);
  });
}

void CpuProducts::RoundRows(View<const float, 2> x) {
  const Index width = EvenColumns(x.cols());
  rounded_.resize(Size(x.rows() * width));
  pool_.ParallelFor(CeilDiv(x.rows(), kPanel), [&](Index task, int) {
    const Index r = task * kPanel, rows = std::min(kPanel, x.rows() - r);
    RoundRowsToBf16(x.Row(r).data(), rows, x.cols(), x.stride(), rounded_.data() + r * width);
  });
}

/// Over outputs, a part at a time.
void CpuProducts::MultiplyBackInBf16(View<const float, 2> dy, const CpuPrepared& w,
                                     View<float, 2> dx, bool add) {
  const Index out = w.rows(), in = w.cols();
  const Index part =
      std::clamp(kMostPacked / in / kPanel * kPanel, kPanel, CeilDiv(out, kPanel) * kPanel);
  for (Index o = 0; o < out; o += part) {
    const Index outs = std::min(part, out - o);
    packed_.resize(PackedBf16Words(in, outs));
    pool_.ParallelFor(CeilDiv(outs, kPanel), [&](Index task, int worker) {
      const Index at = task * kPanel, count = std::min(kPanel, outs - at);
      const View<const float, 2> rows = Widened(w, o + at, count, 0, in, worker);
      PackBf16Columns(rows.data(), count, in, rows.stride(), at, outs, packed_.data());
    });
    RoundRows(dy.Cols(o, outs));
    MultiplyRounded(dx, outs, add || o > 0, nullptr);
  }
}

void CpuProducts::AddCross(View<const float, 2> a, View<const float, 2> b, View<float, 2> sums) {
  if (arithmetic_ != Arithmetic::kBf16) {
    const Index tile = GramTile(std::max(a.cols(), b.cols()));
    const Index across = CeilDiv(b.cols(), tile), down = CeilDiv(a.cols(), tile);
    pool_.ParallelFor(down * across, [&](Index task, int) {
      const Index i = task / across * tile, j = task % across * tile;
      const Index rows = std::min(tile, a.cols() - i), cols = std::min(tile, b.cols() - j);
      Gemm(1.0f, a.Cols(i, rows), Transpose::kYes, b.Cols(j, cols), Transpose::kNo, 1.0f,
           sums.Rows(i, rows).Cols(j, cols));
    });
    return;
  }
  constexpr Index kDepth = 512;  // rows at a time: two panels of them stay within L1
  for (Index first = 0; first < a.rows(); first += kDepth) {
    const Index depth = std::min(kDepth, a.rows() - first), width = EvenColumns(depth);
    const View<const float, 2> left = a.Rows(first, depth), right = b.Rows(first, depth);
    rounded_.resize(Size(a.cols() * width));
    packed_.resize(PackedBf16Words(b.cols(), depth));
    const Index of_left = CeilDiv(a.cols(), kPanel), of_right = CeilDiv(b.cols(), kPanel);
    pool_.ParallelFor(of_left + of_right, [&](Index task, int) {
      if (task < of_left) {
        const Index at = task * kPanel, count = std::min(kPanel, a.cols() - at);
        RoundColumnsToBf16(left.data() + at, count, depth, left.stride(),
                           rounded_.data() + at * width);
      } else {
        const Index at = (task - of_left) * kPanel, count = std::min(kPanel, b.cols() - at);
        PackBf16Columns(right.data() + at, depth, count, right.stride(), 0, depth,
                        packed_.data() + PackedBf16Words(at, depth));
      }
    });
    MultiplyRounded(sums, depth, true, nullptr);
  }
}

void CpuProducts::MultiplyBack(View<const float, 2> dy, const CpuPrepared& w, View<float, 2> dx,
                               bool add) {
  const Index out = w.rows(), in = w.cols();
  LIEQ_ASSERT(dy.cols() == out && dx.cols() == in && dx.rows() == dy.rows());
  if (arithmetic_ == Arithmetic::kBf16 && dy.rows() > kFewRows) {
    return MultiplyBackInBf16(dy, w, dx, add);
  }
  // Narrow tiles where rows are few, as of the head's: all threads should have work.
  const Index row_tiles = CeilDiv(dx.rows(), kRowTile);
  const Index in_tile = TileSize(in, row_tiles >= 4 ? kOutTile : row_tiles >= 2 ? 512 : 256);
  const Index depth = TileSize(out, std::clamp<Index>(kWidenedTile / in, 16, kOutTile));
  pool_.ParallelFor(CeilDiv(in, in_tile) * row_tiles, [&](Index task, int worker) {
    const Index c = task / row_tiles * in_tile, r = task % row_tiles * kRowTile;
    const Index cols = std::min(in_tile, in - c), rows = std::min(kRowTile, dx.rows() - r);
    const View<float, 2> part = dx.Rows(r, rows).Cols(c, cols);
    for (Index o = 0; o < out; o += depth) {
      const Index outs = std::min(depth, out - o);
      Gemm(1.0f, dy.Rows(r, rows).Cols(o, outs), Transpose::kNo,
           Widened(w, o, outs, c, cols, worker), Transpose::kNo, add || o > 0 ? 1.0f : 0.0f, part);
    }
  });
}

View<const float, 2> CpuProducts::Widened(const CpuPrepared& prepared, Index row, Index rows,
                                          Index col, Index cols, int worker) {
  const AnyMatrix& matrix = prepared.matrix;
  if (const auto* held = std::get_if<View<const float, 2>>(&matrix)) {
    return held->Rows(row, rows).Cols(col, cols);
  }
  if (prepared.packed || std::holds_alternative<std::shared_ptr<const QMatrix>>(matrix)) {
    const View<float, 2> wide = scratch_.Get(worker, rows, prepared.cols());
    prepared.Widen(row, wide);
    return wide.Cols(col, cols);
  }
  const View<float, 2> wide = scratch_.Get(worker, rows, cols);
  if (const auto* held = std::get_if<View<const Bf16, 2>>(&matrix)) {
    for (Index r = 0; r < rows; ++r) {
      const Bf16* from = held->Row(row + r).data() + col;
      kernels_.widen_bf16(&from->bits, wide.Row(r).data(), cols);
    }
  } else {
    WidenRows(std::get<View<const F16, 2>>(matrix).Cols(col, cols), row, wide);
  }
  return wide;
}

}  // namespace lieq
