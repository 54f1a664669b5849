// The one seam for compute: everything above it is written once, kernels live below it.
//
// Place. What a device works on lies in its own memory, and is named by types of its own
// (DeviceView, DeviceMatrix, Prepared), so that host code that would read it does not compile.
// What is used more than once is placed there once: weights, biases, norms, rotary angles, the
// embedding. Arguments in host memory (spans, tokens, targets, picks, factors) are small, and are
// read before a call returns.
//
// Time. Operations are queued, and run in the order of the calls; a call may return before it has
// run. What an operation writes to host memory (its arguments of double, TokenId or View<..., 2>
// that are not const) is there after the next Sync or Download, whichever comes first, and not
// before. Until then that memory stays alive, and the host neither reads nor writes it; operations
// that add to sums may be queued one after another. On a CPU all this is over when a call returns,
// which is no reason to rely on it: tests/support/strict_device.h is a device that does as it is
// written here, and every driver runs on it.
//
// Owners. A DeviceMatrix belongs to whoever allocated it, and a Prepared to all who hold it. Either
// may be let go of while operations on it are queued: the device keeps the memory until they have
// run. A Prepared may read the matrix that it was made of for as long as it is held, and no longer,
// so that mapped weights need no copy: who holds the one keeps mapped memory, unchanged. Codes are
// kept by the Prepared itself, where it reads them. All of them die before their device.
//
// Parts. Device is what a forward pass needs. CalibrationOps and GradientOps are what quantizing
// and tuning need beyond it: a device has a part whole or not at all; RoundingOps is what the
// processor does where a device has it not. Their operations share the device's queue. One thread
// at a time calls a device.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "lieq/base/assert.h"
#include "lieq/base/types.h"
#include "lieq/tensor/any_matrix.h"
#include "lieq/tensor/view.h"

namespace lieq {

class DeviceAccess;

/// [rows, cols] in device memory, row stride >= cols, in elements.
template <class T>
class DeviceView {
 public:
  DeviceView() = default;
  DeviceView(T* device_pointer, Index rows, Index cols, Index stride)
      : pointer_(device_pointer), rows_(rows), cols_(cols), stride_(stride) {}
  template <class U>
    requires std::is_same_v<const U, T>
  DeviceView(DeviceView<U> other)  // NOLINT(google-explicit-constructor): mutable to constant
      : DeviceView(other.pointer_, other.rows(), other.cols(), other.stride()) {}

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index stride() const noexcept { return stride_; }
  [[nodiscard]] DeviceView Rows(Index begin, Index count) const {
    LIEQ_ASSERT(begin >= 0 && count >= 0 && begin + count <= rows_);
    return {pointer_ + begin * stride_, count, cols_, stride_};
  }
  /// Rows begin, begin + step, ...: `count` of them.
  [[nodiscard]] DeviceView EveryRow(Index begin, Index step, Index count) const {
    LIEQ_ASSERT(begin >= 0 && step >= 1 && count >= 1 && begin + (count - 1) * step < rows_);
    return {pointer_ + begin * stride_, count, cols_, step * stride_};
  }
  /// Columns begin .. begin + count - 1.
  [[nodiscard]] DeviceView Cols(Index begin, Index count) const {
    LIEQ_ASSERT(begin >= 0 && count >= 0 && begin + count <= cols_);
    return {pointer_ + begin, rows_, count, stride_};
  }
  /// [rows, n * cols] without gaps as [rows * n, cols].
  [[nodiscard]] DeviceView Reshaped(Index cols) const {
    LIEQ_ASSERT(stride_ == cols_ && cols_ % cols == 0);
    return {pointer_, rows_ * (cols_ / cols), cols, cols};
  }
  /// What begins at the first element, without gaps, as [rows, cols]; it must fit.
  [[nodiscard]] DeviceView Shaped(Index rows, Index cols) const {
    LIEQ_ASSERT(stride_ == cols_ && rows * cols <= rows_ * cols_);
    return {pointer_, rows, cols, cols};
  }
  [[nodiscard]] bool empty() const noexcept { return rows_ * cols_ == 0; }

 private:
  template <class U>
  friend class DeviceView;
  friend class DeviceAccess;  // devices alone (device_access.h)

  T* pointer_ = nullptr;
  Index rows_ = 0, cols_ = 0, stride_ = 0;
};

/// Owns [rows, cols] floats on a device; contents are undefined at first.
class DeviceMatrix {
 public:
  using Free = std::function<void(float*)>;
  DeviceMatrix() = default;
  DeviceMatrix(float* pointer, Index rows, Index cols, Free free)
      : pointer_(pointer, std::move(free)), rows_(rows), cols_(cols) {}

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] DeviceView<float> view() const noexcept {
    return {pointer_.get(), rows_, cols_, cols_};
  }
  /// The first rows of the buffer seen as [rows, cols]; rows * cols must fit.
  [[nodiscard]] DeviceView<float> Shaped(Index rows, Index cols) const {
    LIEQ_ASSERT(rows * cols <= rows_ * cols_);
    return {pointer_.get(), rows, cols, cols};
  }

 private:
  std::unique_ptr<float, Free> pointer_{nullptr, [](float*) {}};
  Index rows_ = 0, cols_ = 0;
};

/// A weight matrix made ready for one device: for products, and to look rows up in.
class PreparedMatrix {
 public:
  virtual ~PreparedMatrix() = default;
  [[nodiscard]] virtual Index rows() const noexcept = 0;
  [[nodiscard]] virtual Index cols() const noexcept = 0;
};
using Prepared = std::shared_ptr<const PreparedMatrix>;

/// Keys or values of the tokens that went before, one row each, held on a device in the type that
/// it was made with (DeviceOptions::cache).
class RowCache {
 public:
  virtual ~RowCache() = default;
};

/// One matrix that x is multiplied with, and where its result goes.
struct Product {
  const PreparedMatrix& w;       // [out, in]
  DeviceView<const float> bias;  // [1, out] or empty
  DeviceView<float> y;           // [n, out]
};

/// cos and sin of the rotary angles, [positions, n / 2] each: the first n dimensions of heads turn.
struct RopeTable {
  DeviceView<const float> cosine;
  DeviceView<const float> sine;
};

/// How heads lie in rows: q [rows, heads * head_dim], k and v [rows, kv_heads * head_dim].
struct AttentionHeads {
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  Index window = 0;  // tokens that one sees at most, itself and those right before it; 0: no limit
  float cap = 0;  // scores become cap tanh(score / cap), on devices with MixerOps; 0: as they are
};

/// Tokens that follow one another in rows begin .. begin + length - 1 of q, behind `past` others.
/// Token i stands at position past + i and sees all of the past and, of the span, tokens 0 .. i, as
/// far as the window goes back.
struct AttentionSpan {
  Index begin = 0;      // row of q and of the output
  Index length = 0;     // >= 1
  Index keys = 0;       // row of k and v of the span's first token
  Index past = 0;       // tokens before the first
  Index past_keys = 0;  // row of k and v of the first of those
};

/// Windows of one length side by side, each on its own: rows of k and v are those of q.
struct AttentionShape {
  Index windows = 0;
  Index length = 0;
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  Index window = 0;  // as of AttentionHeads
};

/// One token among those that a row of logits speaks of.
struct TokenPick {
  Index row = 0;
  TokenId token = 0;
};

/// Arithmetic of Products and of their gradients. kBf16 rounds both factors to bf16 and adds in
/// float, where rows are so many that it is faster.
enum class Arithmetic { kFloat32, kBf16 };

/// What packed codes are multiplied with: activations as they are, or rounded to integers, which
/// up to 64 columns share a scale of. Numbers: a table of kernels has one of each.
enum class Activations { kFloat = 0, kInt8 = 1, kInt16 = 2 };
inline constexpr std::array<std::string_view, 3> kActivationNames{"float", "int8", "int16"};
[[nodiscard]] constexpr std::string_view Name(Activations activations) noexcept {
  return kActivationNames[static_cast<std::size_t>(activations)];
}

/// What keys and values of a cache are held in: float; half precision, numbers beyond its range as
/// its largest; or 8 bits, of which each head of a row has a scale. Numbers: names have one each.
enum class CacheType { kFloat = 0, kF16 = 1, kInt8 = 2 };
inline constexpr std::array<std::string_view, 3> kCacheTypeNames{"float", "f16", "int8"};
[[nodiscard]] constexpr std::string_view Name(CacheType type) noexcept {
  return kCacheTypeNames[static_cast<std::size_t>(type)];
}

/// Kernel rows of this name, or of "packed-" and the name of a row, lay codes out for themselves.
inline constexpr std::string_view kPackedKernels = "packed";
[[nodiscard]] constexpr bool IsPacked(std::string_view kernels) noexcept {
  return kernels == kPackedKernels ||
         (kernels.starts_with(kPackedKernels) && kernels[kPackedKernels.size()] == '-');
}

/// What a device keeps of operations that come again and again (Device::Repeat). Dies before it.
class RepeatedStep {
 public:
  virtual ~RepeatedStep() = default;
};

/// What a device is made with.
struct DeviceOptions {
  std::string kernels;        // name of a kernel row; empty: `usual_kernels`
  std::string usual_kernels;  // of a device that has rows; empty: the best one this processor runs
  int index = 0;              // of several devices of a kind: which
  Arithmetic arithmetic = Arithmetic::kFloat32;  // of Products, and of a GPU's attention
  Activations activations = Activations::kInt8;  // of Products with packed kernels
  CacheType cache = CacheType::kFloat;           // of keys and values of tokens that went before
  Index memory_bytes = 0;                        // of its own, that it may hold; 0: what there is
};

/// Sums over activations, [rows, cols], that lie where a device adds to them. What is asked of them
/// waits until all that was queued has been added; nothing is added after that.
template <class T>
class PlacedSums {
 public:
  virtual ~PlacedSums() = default;
  [[nodiscard]] virtual Index rows() const noexcept = 0;
  [[nodiscard]] virtual Index cols() const noexcept = 0;
  /// On the host, as long as these live: there already where a device's memory is the host's.
  [[nodiscard]] virtual const Matrix<T>& Host() = 0;
  /// The same for good: these are not used any more.
  [[nodiscard]] virtual Matrix<T> Take() = 0;
  /// to [rows]: of as many rows as columns.
  virtual void Diagonal(std::span<T> to) = 0;
  /// Values in place of the sums, read before the call returns. [rows, cols]
  virtual void Set(View<const T, 2> values) = 0;
  /// These += or = others of their shape, on this device or another of its kind, to which all has
  /// been added that will be. The others are read before the call returns.
  virtual void Add(PlacedSums& others) = 0;
  virtual void Copy(PlacedSums& others) = 0;
};

/// Sums over the activations that calibration is made of; in double but where it is said.
class CalibrationOps {
 public:
  virtual ~CalibrationOps() = default;

  /// Sums at 0, for GramUpdate [n, n] and CrossGramUpdate [rows, cols]. They die before the device.
  [[nodiscard]] virtual std::unique_ptr<PlacedSums<double>> MakeGram(Index n) = 0;
  [[nodiscard]] virtual std::unique_ptr<PlacedSums<float>> MakeCross(Index rows, Index cols) = 0;
  /// gram += xᵀ x, lower triangle. x [n, in], gram [in, in].
  virtual void GramUpdate(DeviceView<const float> x, PlacedSums<double>& gram) = 0;
  /// cross += aᵀ b, in float. a [n, rows], b [n, cols], cross [rows, cols].
  virtual void CrossGramUpdate(DeviceView<const float> a, DeviceView<const float> b,
                               PlacedSums<float>& cross) = 0;
  /// Sum of squares of each row: sums[i] += sum(x[i]²). x [n, cols].
  virtual void RowSquares(DeviceView<const float> x, std::span<double> sums) = 0;
  /// Of each column: sums[j] += sum over rows of x[i][j]², rows in order. x [n, cols].
  virtual void ColumnSquares(DeviceView<const float> x, std::span<double> sums) = 0;
  /// Each `group` columns of a row, and what is left behind them, become what signed integers of
  /// `bits` bits times one scale hold, in place: the scale is the largest magnitude over
  /// 2^(bits-1) - 1, ties go to even. x [n, cols]; bits 2 to 8.
  virtual void RoundRows(DeviceView<float> x, Index group, int bits) = 0;
  /// out = times (a - b). All [n, cols]; out may be a or b.
  virtual void Subtract(DeviceView<const float> a, DeviceView<const float> b, float times,
                        DeviceView<float> out) = 0;
};

/// Where gradients of weights go.
struct WeightSums {
  PlacedSums<float>* to = nullptr;  // [out, in]; null: nobody asks
  bool add = true;                  // false: they become the gradient, whatever they hold
};

/// One matrix of a unit on its way back: of y = x Wᵀ.
struct ProductGradient {
  const PreparedMatrix& w;     // [out, in]
  DeviceView<const float> dy;  // [n, out]
  WeightSums of_weights = {};  // dyᵀ x
};

/// Gradients of the forward pass, of a loss that is not named: d followed by a name is the gradient
/// with respect to it. That of Rope is Rope itself with the sines of the table negated.
class GradientOps {
 public:
  virtual ~GradientOps() = default;

  /// Of a product: dx = dy W, or dx += dy W where `add`. dy [n, out], w [out, in], dx [n, in].
  virtual void MatmulGradient(DeviceView<const float> dy, const PreparedMatrix& w,
                              DeviceView<float> dx, bool add) = 0;
  /// Of Products, of matrices that share x [n, in], n >= 1: dx = the sum of dy W, or dx += where
  /// `add`, in the order of the products, and gradients of weights as CrossGramUpdate adds them up.
  /// x: empty where nobody asks for those.
  virtual void ProductsGradient(DeviceView<const float> x,
                                std::span<const ProductGradient> products, DeviceView<float> dx,
                                bool add) = 0;
  /// Of RmsNorm: dx, or dx += where `add`, from dy; sums over a row in double. x, dy, dx [n, cols];
  /// dx may be dy; weight [1, cols].
  virtual void RmsNormGradient(DeviceView<const float> x, DeviceView<const float> weight,
                               double eps, DeviceView<const float> dy, DeviceView<float> dx,
                               bool add) = 0;
  /// Of Attention on windows without a past, whose probabilities are computed again. dout as out;
  /// dq as q; dk, dv as k, v, overwritten: none may overlap another argument.
  virtual void AttentionGradient(DeviceView<const float> q, DeviceView<const float> k,
                                 DeviceView<const float> v, DeviceView<const float> dout,
                                 const AttentionShape& shape, DeviceView<float> dq,
                                 DeviceView<float> dk, DeviceView<float> dv) = 0;
  /// Of SwiGlu, in place of its factors: gate and up [n, cols], as SwiGlu is given them, become
  /// dgate and dup. d [n, cols]: the gradient of its result.
  virtual void SwiGluGradient(DeviceView<float> gate, DeviceView<float> up,
                              DeviceView<const float> d) = 0;
  /// Of sum(nll): logits [n, vocab] become softmax(logits[i]) - onehot(targets[i]). nll as of
  /// LogSoftmaxNll.
  virtual void NllGradient(DeviceView<float> logits, std::span<const TokenId> targets,
                           std::span<double> nll) = 0;
  /// Of sum(kl), kl[i] = KL(softmax(reference[i]) || softmax(logits[i])) in nats: logits become
  /// softmax(logits[i]) - softmax(reference[i]), and reference is spoilt. Both [n, vocab].
  virtual void KlGradient(DeviceView<float> logits, DeviceView<float> reference,
                          std::span<double> kl) = 0;
};

/// A factor of a Gram matrix that lies on a device (quantize/gptq.h). "Position": in the order of
/// columns backwards; the last is rounded first.
class GptqFactorOnDevice {
 public:
  virtual ~GptqFactorOnDevice() = default;
};
using PlacedGptqFactor = std::shared_ptr<const GptqFactorOnDevice>;

/// Coordinate descent on codes and refits of their grids after GPTQ (quantize/refine.h), and what
/// each row is judged by: it ends with the codes of the step whose error is the smaller.
struct RefineWork {
  int rounds = 0;                     // at most
  double least_gain = 0;              // share of the loss: a round that gains less is the last one
  float least_share = 0;              // of a group's loss, that a refit has to gain
  std::span<const double> stretches;  // of scales, that a search tries; none: refits alone
  // Factors of H inside the groups, as a GptqFactor has them, one after another.
  View<const float, 2> feedback;  // [n, group columns]
  std::span<const float> pivots;  // [n]; of a group that is not refitted 0
  std::span<const Index> order;   // [n]: column of its group by position
  // What output errors are made of (quantize/calibrated.h); gram null: nothing is judged.
  const PlacedSums<float>* gram = nullptr;     // [n, n], both triangles
  const PlacedSums<float>* drift = nullptr;    // [n, n]; may be null
  const PlacedSums<float>* missing = nullptr;  // [rows, n]; may be null
};

/// A matrix to be rounded by GPTQ.
struct RoundingWork {
  View<const float, 2> w;                  // [rows, n], finite; empty where they are
  const PreparedMatrix* placed = nullptr;  // on the device: the same, of floats
  const GptqFactorOnDevice& factor;
  int bits = 0;
  Index group_columns = 0;
  Offset offset = Offset::kSymmetric;  // kFloat: not here
  bool search = true;                  // for the scale of least error; else the extreme weight's
  // What is rounded in place of w: w + (drift_strength w drift + multiple missing) H⁻¹, where H is
  // what was factorised. Null: without that part.
  const PlacedSums<float>* drift = nullptr;    // [n, n]
  const PlacedSums<float>* missing = nullptr;  // [rows, n]
  double drift_strength = 0, multiple = 1;
  const RefineWork* refine = nullptr;  // null: GPTQ is all
};
struct RoundingResult {
  View<std::uint8_t, 2> codes;    // [rows, n]
  View<float, 2> scale, minimum;  // [rows, groups]: a level is scale * code + minimum
  // Of each row [rows], all errors in the metric of the factor: the squared error of GPTQ, the
  // squares of what was rounded, how many weights lie beyond the outermost level;
  std::span<double> error, signal, clamped;
  // where there is refinement, the error after it and how many codes it changed, and where rows are
  // judged, their errors before and after it.
  std::span<double> refined, moves, judged_before, judged_after;
};

/// Rounding of whole matrices, where a device does it better than the processor. It has run when a
/// call returns.
class RoundingOps {
 public:
  virtual ~RoundingOps() = default;
  /// Whether it has what Factorize needs; where not, the processor factorises, for Place.
  [[nodiscard]] virtual bool factorizes() const noexcept = 0;
  /// Of the matrix whose lower triangle is `gram` [n, n] and whose diagonal `diagonal` [n], both by
  /// column; order [n]: column by position. In double. Null: not positive definite. refines: H will
  /// be wanted too.
  [[nodiscard]] virtual PlacedGptqFactor Factorize(const PlacedSums<double>& gram,
                                                   std::span<const double> diagonal,
                                                   std::span<const Index> order, bool refines) = 0;
  /// One that was made before. feedback [n, n], strictly lower, and pivots [n], by position; h
  /// [n, n] by column, both triangles, where it will be wanted, else empty.
  [[nodiscard]] virtual PlacedGptqFactor Place(View<const float, 2> feedback,
                                               std::span<const float> pivots,
                                               std::span<const Index> order,
                                               View<const float, 2> h) = 0;
  /// The largest magnitude in a matrix of floats; NaN where one of them is.
  [[nodiscard]] virtual float LargestSize(const PreparedMatrix& matrix) = 0;
  /// H inside its groups, one after another. blocks [n, group columns]
  virtual void Blocks(const GptqFactorOnDevice& factor, View<float, 2> blocks) = 0;
  /// Scales of all groups are fitted before the pass, as RoundByGptq does for an order that is
  /// static; where they are searched for, once more on the targets of a first pass. Equal up to the
  /// order of adds. Refined rows stop together.
  virtual void Round(const RoundingWork& work, const RoundingResult& result) = 0;
};

class MixerOps;  // mixer_ops.h

class Device {
 public:
  virtual ~Device() = default;

  /// "cpu avx512, OpenBLAS 0.3.21 SkylakeX": recorded with every result.
  [[nodiscard]] virtual std::string description() const = 0;
  /// The parts beyond a forward pass; null where the device has none. See RequireCalibration.
  [[nodiscard]] virtual CalibrationOps* calibration() noexcept { return nullptr; }
  [[nodiscard]] virtual GradientOps* gradients() noexcept { return nullptr; }
  [[nodiscard]] virtual MixerOps* mixers() noexcept { return nullptr; }
  /// Null: the processor rounds.
  [[nodiscard]] virtual RoundingOps* rounding() noexcept { return nullptr; }

  /// Of a memory of its own: the bytes that it may hold, and the most that it has held so far; 0:
  /// it has none, or there is no bound.
  [[nodiscard]] virtual Index memory_bound() const noexcept { return 0; }
  [[nodiscard]] virtual Index peak_memory() const { return 0; }

  [[nodiscard]] virtual DeviceMatrix Alloc(Index rows, Index cols) = 0;
  /// The same, where it does not count to the bound: slower memory that the device reaches.
  [[nodiscard]] virtual DeviceMatrix AllocOutside(Index rows, Index cols) {
    return Alloc(rows, cols);
  }
  /// What lies in memory of AllocOutside as the host sees it, until the device writes there again.
  /// Waits, as Sync does.
  [[nodiscard]] virtual View<const float, 2> ReadOutside(DeviceView<const float> x) = 0;
  /// From host memory, read before the call returns.
  virtual void Upload(View<const float, 2> from, DeviceView<float> to) = 0;
  /// To host memory. Waits, as Sync does: all that was queued before has run, and is there.
  virtual void Download(DeviceView<const float> from, View<float, 2> to) = 0;
  virtual void Copy(DeviceView<const float> from, DeviceView<float> to) = 0;
  [[nodiscard]] virtual Prepared Prepare(const AnyMatrix& matrix) = 0;
  /// Room for `rows` rows of [kv_heads * head_dim]; contents are undefined at first.
  [[nodiscard]] virtual std::unique_ptr<RowCache> AllocCache(Index rows, Index kv_heads,
                                                             Index head_dim) = 0;
  /// Rows row .. row + from.rows() - 1 of the cache become those of `from`, in its type.
  virtual void Store(DeviceView<const float> from, RowCache& cache, Index row) = 0;
  /// Waits until all that was queued has run: what it wrote to host memory is there then.
  virtual void Sync() = 0;

  /// y = x Wᵀ + bias for each product, or y += x Wᵀ + bias where `add`: a unit of matrices that
  /// share an input at once. x [n, in]. No y may overlap x or another y.
  virtual void Products(DeviceView<const float> x, std::span<const Product> products, bool add) = 0;
  /// The same for one.
  void Matmul(DeviceView<const float> x, const PreparedMatrix& w, DeviceView<const float> bias,
              DeviceView<float> y, bool add) {
    const Product product{w, bias, y};
    Products(x, {&product, 1}, add);
  }

  /// y = x / sqrt(mean(x²) + eps) * weight, each row (Zhang and Sennrich, arXiv:1910.07467), the
  /// mean in double. x, y [n, cols], may be the same; weight [1, cols].
  virtual void RmsNorm(DeviceView<const float> x, DeviceView<const float> weight, double eps,
                       DeviceView<float> y) = 0;
  /// Rotates the two halves of each head's first dimensions, as many as the table has, by the
  /// angles of its row's position, in place (Su et al., arXiv:2104.09864, in Hugging Face's
  /// half-split order). Positions are those of the spans, below those of the table; rows of no span
  /// are left as they are. x [rows, heads * head_dim]
  virtual void Rope(DeviceView<float> x, const RopeTable& table,
                    std::span<const AttentionSpan> spans, Index head_dim) = 0;
  /// Causal softmax(q kᵀ / sqrt(head_dim)) v of each span; query head h reads key head
  /// h * kv_heads / heads. out [rows, heads * head_dim]; rows of no span are left as they are.
  virtual void Attention(DeviceView<const float> q, DeviceView<const float> k,
                         DeviceView<const float> v, const AttentionHeads& heads,
                         std::span<const AttentionSpan> spans, DeviceView<float> out) = 0;
  /// The same, keys and values of the spans and of their pasts being rows of caches.
  virtual void CachedAttention(DeviceView<const float> q, const RowCache& k, const RowCache& v,
                               const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                               DeviceView<float> out) = 0;
  /// Calls `step`, or runs what `kept` holds of an earlier call of it: a device may record the
  /// operations once and queue them as one from then on, with the tokens and spans of each time.
  /// For that, calls with one `kept` make the same operations with the same arguments, but for what
  /// is here: EmbedRows has all of `tokens`; Rope and CachedAttention have all of `spans`, token i
  /// being span i, and Store its row at spans[i].keys. step calls these, Scale, RmsNorm, Products
  /// and SwiGlu, and no other. Afterwards rows of caches and `result`, which it writes last, are
  /// as it leaves them; other memory that it writes is undefined. kept: null at first; whoever
  /// holds it lets go of it before what the operations use.
  virtual void Repeat(std::unique_ptr<RepeatedStep>& kept, std::span<const TokenId> tokens,
                      std::span<const AttentionSpan> spans, DeviceView<const float> result,
                      const std::function<void()>& step) {
    static_cast<void>(kept), static_cast<void>(tokens), static_cast<void>(spans);
    static_cast<void>(result);
    step();
  }
  /// x *= factor.
  virtual void Scale(DeviceView<float> x, float factor) = 0;
  /// gate = silu(gate) * up, in place.
  virtual void SwiGlu(DeviceView<float> gate, DeviceView<const float> up) = 0;
  /// The same to `out`, apart from gate, which stays as it is: not for steps that are repeated.
  virtual void SwiGluInto(DeviceView<const float> gate, DeviceView<const float> up,
                          DeviceView<float> out) {
    Copy(gate, out);
    SwiGlu(out, up);
  }
  /// out [n, hidden] = rows of the table. Tokens are checked by the caller.
  virtual void EmbedRows(const PreparedMatrix& table, std::span<const TokenId> tokens,
                         DeviceView<float> out) = 0;
  /// nll[i] = -log softmax(logits[i])[targets[i]], nats. logits [n, vocab] is overwritten.
  virtual void LogSoftmaxNll(DeviceView<float> logits, std::span<const TokenId> targets,
                             std::span<double> nll) = 0;
  /// log_probabilities[i] = log softmax(logits[picks[i].row])[picks[i].token], nats; rows of picks
  /// may repeat. logits [n, vocab].
  virtual void LogProbabilities(DeviceView<const float> logits, std::span<const TokenPick> picks,
                                std::span<double> log_probabilities) = 0;
  /// kl[i] = KL(softmax(reference[i]) || softmax(logits[i])), nats; rounding may carry it some 1e-7
  /// below 0. reference, logits [n, vocab].
  virtual void SoftmaxKl(DeviceView<const float> reference, DeviceView<const float> logits,
                         std::span<double> kl) = 0;
  /// The columns of the k largest values of each row, the largest first; of equals the lower column
  /// comes first. x [n, cols], no NaN; columns [n, k], 1 <= k <= cols.
  virtual void TopColumns(DeviceView<const float> x, View<TokenId, 2> columns) = 0;
};

/// The part of the device. Throws Error, naming the device, where it has none.
[[nodiscard]] CalibrationOps& RequireCalibration(Device& device);
[[nodiscard]] GradientOps& RequireGradients(Device& device);

}  // namespace lieq
