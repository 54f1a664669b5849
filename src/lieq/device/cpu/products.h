// Products of activations and weights on the processor, whatever the weights are held in.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/device/cpu/bf16_product.h"
#include "lieq/device/cpu/kernels.h"
#include "lieq/device/cpu/packed_matrix.h"
#include "lieq/device/cpu/packed_products.h"
#include "lieq/device/device.h"

namespace lieq {

/// A matrix for the processor: as it was given, in the host's memory, where kernels read every form
/// of it; or packed, and then nothing is kept of what was given.
class CpuPrepared final : public PreparedMatrix {
 public:
  explicit CpuPrepared(AnyMatrix held) : matrix(std::move(held)) {}
  explicit CpuPrepared(PackedMatrix held) : packed(std::move(held)) {}
  [[nodiscard]] Index rows() const noexcept override {
    return packed ? packed->rows() : Rows(matrix);
  }
  [[nodiscard]] Index cols() const noexcept override {
    return packed ? packed->cols() : Cols(matrix);
  }
  /// out [n, cols] = rows begin .. begin + n - 1 as float; exact for every form.
  void Widen(Index begin, View<float, 2> out) const {
    if (packed) return packed->Dequantize(begin, out);
    WidenRows(matrix, begin, out);
  }
  AnyMatrix matrix;  // empty where it is packed
  std::optional<PackedMatrix> packed;
};

/// Floats for each thread of a pool; blocks grow to the largest that was asked for.
class WorkerScratch {
 public:
  explicit WorkerScratch(int workers) : blocks_(Size(workers)) {}

  /// [rows, cols], contents undefined, until the worker asks again.
  [[nodiscard]] View<float, 2> Get(int worker, Index rows, Index cols);

 private:
  std::vector<Matrix<float>> blocks_;
};

/// Tiles of at most `most`, as equal as multiples of 16 allow.
[[nodiscard]] Index TileSize(Index extent, Index most);
/// Of sums of products [n, n]: small tiles where there are few, so that all threads have work.
[[nodiscard]] Index GramTile(Index n);

/// Rows of activations up to which a product reads packed weights where they lie; above, weights
/// are widened by tiles for BLAS, which many rows share (decode_bench).
inline constexpr Index kFewRows = 16;

/// Whether a kernel reads the codes where they lie; where none does, rows are widened first.
[[nodiscard]] bool HasFewRowsKernel(const QMatrix& w);

/// Outputs that a task of a product takes: by what there is to do.
[[nodiscard]] Index OutsOfTile(Index rows, Index out, Index in);

/// Work is cut by shapes alone, so that results do not depend on the number of threads.
class CpuProducts {
 public:
  /// All outlive this. `packed` multiplies matrices that are packed; null: there will be none.
  CpuProducts(ThreadPool& pool, const KernelSet& kernels, WorkerScratch& scratch,
              Arithmetic arithmetic, PackedProducts* packed);

  /// As Device::Products.
  void Multiply(View<const float, 2> x, std::span<const Product> products, bool add);
  /// As GradientOps::MatmulGradient.
  void MultiplyBack(View<const float, 2> dy, const CpuPrepared& w, View<float, 2> dx, bool add);
  /// sums [a.cols, b.cols] += aᵀ b; in bf16 sums over rows are made in float all the same.
  void AddCross(View<const float, 2> a, View<const float, 2> b, View<float, 2> sums);

 private:
  struct Tile {
    std::size_t product;
    Index out, outs, row, rows;
  };
  /// Those of the products that packed kernels do; gives back the others.
  [[nodiscard]] std::vector<Product> MultiplyPacked(View<const float, 2> x,
                                                    std::span<const Product> products, bool add);
  void MultiplyHeld(View<const float, 2> x, std::span<const Product> products, bool add);
  void RunFewRows(View<const float, 2> x, const Product& product, const Tile& tile, bool add,
                  int worker);
  void RunTile(View<const float, 2> x, const Product& product, const Tile& tile, bool add,
               int worker);
  void RoundRows(View<const float, 2> x);  // into rounded_
  void MultiplyInBf16(View<const float, 2> x, const Product& product, bool add);
  void MultiplyBackInBf16(View<const float, 2> dy, const CpuPrepared& w, View<float, 2> dx,
                          bool add);
  void MultiplyRounded(View<float, 2> y, Index k, bool add, const float* bias);
  /// The block [rows, cols] from (row, col) on as float; codes are widened by whole rows.
  [[nodiscard]] View<const float, 2> Widened(const CpuPrepared& prepared, Index row, Index rows,
                                             Index col, Index cols, int worker);

  ThreadPool& pool_;
  const KernelSet& kernels_;
  WorkerScratch& scratch_;
  const Arithmetic arithmetic_;
  const Bf16Multiplier& bf16_;
  PackedProducts* packed_products_;
  std::vector<std::uint16_t> rounded_, packed_;
};

}  // namespace lieq
