// Products of activations and weights on a GPU, whatever the weights are held in.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lieq/device/cuda/cublas_lt.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/packed.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

/// Few rows are multiplied where the weights lie, in float32 whatever the arithmetic. For many,
/// weights are widened into scratch where they are not what the library takes, a part at a time.
class CudaProducts {
 public:
  /// packs: codes that are in units (packed.h) meet x in f16, as that says, whatever the arithmetic
  /// and however many rows there are.
  CudaProducts(Queue& queue, Arithmetic arithmetic, bool packs);

  /// ", bf16 products by cuBLASLt 13.1.0"
  [[nodiscard]] std::string description() const;

  [[nodiscard]] bool packs() const noexcept { return packs_; }
  /// As Device::Products.
  void Multiply(Block<const float> x, std::span<const Product> products, bool add);
  /// As GradientOps::MatmulGradient: bf16 where the arithmetic is, the library is here and rows are
  /// many, else float32.
  void MultiplyBack(Block<const float> dy, const PreparedMatrix& w, Block<float> dx, bool add);
  /// As GradientOps::ProductsGradient: each dy, and x, is rounded to bf16 once where that is.
  void MultiplyBack(Block<const float> x, std::span<const ProductGradient> products,
                    Block<float> dx, bool add);
  /// y = aᵀ b, or y += aᵀ b, as CalibrationOps::CrossGramUpdate. a [n, y.rows], b [n, y.cols].
  void MultiplyCross(Block<const float> a, Block<const float> b, Block<float> y, bool add);
  /// Whether MultiplyInput does: codes in units, x of few rows that begin where it reads them.
  [[nodiscard]] bool TakesInput(Block<const float> x,
                                std::span<const Product> products) const noexcept;
  /// As Multiply, of what the input makes of its x. gates: there are two, and the first is to
  /// become silu(first) * second; false where it did not.
  bool MultiplyInput(const ProductInput& input, std::span<const Product> products, bool add,
                     bool gates = false);
  /// Takes what scratch Multiply needs for so many rows, so that it takes none later.
  void Reserve(Index rows, std::span<const Product> products);
  /// Memory of products for what other operations need between them, so that both have it once.
  /// What is there lasts until the next product.
  template <class T>
  [[nodiscard]] T* BetweenProducts(Index count) {
    return widened_.Get<T>(count);
  }
  /// y = aᵀ b, or y += aᵀ b, in float32. a [n, y.rows], b [n, y.cols].
  void MultiplyTransposed(Block<const float> a, Block<const float> b, Block<float> y, bool add);
  /// y += a b, in float32. a [y.rows, n], b [n, y.cols].
  void AddPlain(Block<const float> a, Block<const float> b, Block<float> y);
  /// y = xᵀ x of x rounded to bf16, which is what bf16 products multiply; float sums. False where
  /// the arithmetic is float32 or the library is not here: then nothing was queued.
  [[nodiscard]] bool SquareInBf16(Block<const float> x, Block<float> y);

 private:
  void MultiplyPart(Block<const float> x, std::span<const Product> products, bool add);
  /// All of codes in units, some rows at once.
  void MultiplyUnits(Block<const float> x, std::span<const Product> products, bool add);
  /// The same by tiles (matmat.h).
  void MultiplyInTiles(Block<const float> x, std::span<const Product> products, bool add);
  /// Matrices that are alike, from the first on: kMostPackedProducts at most.
  [[nodiscard]] static std::vector<PackedProduct> AlikeFrom(std::span<const Product> products);
  /// Whether so many rows of codes in units are multiplied by tiles.
  [[nodiscard]] bool TakesTiles(Index rows) const noexcept;
  void MultiplyMany(Block<const float> x, const Source& w, Block<float> y, bool add);
  void MultiplyInBf16(Block<const float> x, const Source& w, Block<float> y, bool add);
  /// rounded: dy. False where the library has nothing for it: then dx is as it was.
  [[nodiscard]] bool MultiplyBackInBf16(Block<const float> dy, const Operand& rounded,
                                        const Source& w, Block<float> dx, bool add);
  void MultiplyBackInFloat(Block<const float> dy, const Source& w, Block<float> dx, bool add);
  /// Where x is in bf16, which products that share it round once.
  [[nodiscard]] Block<std::uint16_t> Rounding(Block<const float> x, Scratch& to);
  /// x rounded there, without the columns that pad it.
  [[nodiscard]] Operand Rounded(Block<const float> x, Scratch& to);

  Queue& queue_;
  const Arithmetic arithmetic_;
  const bool packs_;
  const bool has_tiles_;                     // matmat.h's kernels
  const std::unique_ptr<CublasLt> library_;  // null: kernels of our own
  int turn_ = 0;                             // of the next product of one row (packed.h)
  Scratch widened_, other_widened_, rounded_, other_rounded_, halved_, tiles_;
};

}  // namespace lieq::cuda
