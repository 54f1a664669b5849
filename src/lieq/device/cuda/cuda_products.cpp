#include "lieq/device/cuda/cuda_products.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/cuda_sums.h"
#include "lieq/device/cuda/matmat.h"
#include "lieq/device/cuda/prepared.h"
#include "lieq/device/device_access.h"

namespace lieq::cuda {
namespace {

constexpr Index kWidened = Index{1} << 26;  // elements of scratch: of a head a part at a time
constexpr Index kBf16Row = 8;               // elements that rows of bf16 are multiples of

bool IsAligned(Block<const float> x) {
  constexpr std::size_t kAligned = 16;
  return reinterpret_cast<std::uintptr_t>(x.data) % kAligned == 0 &&
         Size(x.stride) * sizeof(float) % kAligned == 0;
}

Index EvenColumns(Index cols) {
  return CeilDiv(cols, kBf16Row) * kBf16Row;
}

/// Of a matrix that is widened, at once: whole units where there are some.
Index RowsOfPart(const Source& w, Index width) {
  const Index most = kWidened / width;
  return std::clamp<Index>(most > kUnitRows ? most / kUnitRows * kUnitRows : most, 1, w.rows);
}

/// Columns begin .. begin + count - 1.
Block<float> Columns(Block<float> y, Index begin, Index count) {
  return {y.data + begin, y.rows, count, y.stride};
}

template <class T>
Operand Plain(Block<const T> block) {
  return {block.data, block.rows, block.cols, block.stride, false};
}
template <class T>
Operand Transposed(Block<const T> block) {
  return {block.data, block.rows, block.cols, block.stride, true};
}

bool HasTiles(Queue& queue) {
  (void)queue.stream();  // its GPU is the thread's then
  return HasMatMat();
}

}  // namespace

CudaProducts::CudaProducts(Queue& queue, Arithmetic arithmetic, bool packs)
    : queue_(queue),
      arithmetic_(arithmetic),
      packs_(packs),
      has_tiles_(packs && HasTiles(queue)),
      library_(CublasLt::Find(queue)),
      widened_(queue),
      other_widened_(queue),
      rounded_(queue),
      other_rounded_(queue),
      halved_(queue),
      tiles_(queue) {}

std::string CudaProducts::description() const {
  const std::string by =
      library_ ? library_->description() : "kernels of its own, slower (cuBLASLt is not here)";
  return std::string(packs_ ? ", packed" : "") +
         (arithmetic_ == Arithmetic::kBf16 ? ", bf16" : ", float32") + " products by " + by;
}

void CudaProducts::Multiply(Block<const float> x, std::span<const Product> products, bool add) {
  // Runs of matrices that are in units, and of others.
  for (std::size_t begin = 0; begin < products.size();) {
    const auto packed = [&](std::size_t i) {
      return SourceOf(products[i].w).form == Form::kPacked;
    };
    std::size_t end = begin + 1;
    while (end < products.size() && packed(end) == packed(begin)) ++end;
    const auto some = products.subspan(begin, end - begin);
    if (packed(begin) && x.rows > 0) {
      MultiplyUnits(x, some, add);
    } else {
      MultiplyPart(x, some, add);
    }
    begin = end;
  }
  Check(cudaGetLastError(), "starting a product");
}

void CudaProducts::MultiplyUnits(Block<const float> x, std::span<const Product> products,
                                 bool add) {
  // Without tiles: reading the codes once more for each 16 rows costs less than widening them, up
  // to here.
  const Index most = arithmetic_ == Arithmetic::kBf16 ? 64 : 192;
  const bool tiles = TakesTiles(x.rows);
  if (!tiles && x.rows > most) {
    if (arithmetic_ == Arithmetic::kBf16) return MultiplyPart(x, products, add);
    const Block<float> halved{halved_.Get<float>(x.rows * x.cols), x.rows, x.cols, x.cols};
    RoundInput(x, halved, queue_.stream());
    return MultiplyPart({halved.data, halved.rows, halved.cols, halved.stride}, products, add);
  }
  if (!IsAligned(x)) {
    float* even = halved_.Get<float>(x.rows * x.cols);
    const std::size_t row = Size(x.cols) * sizeof(float);
    Check(cudaMemcpy2DAsync(even, row, x.data, Size(x.stride) * sizeof(float), row, Size(x.rows),
                            cudaMemcpyDeviceToDevice, queue_.stream()),
          "copying on it");
    x = {even, x.rows, x.cols, x.cols};
  }
  if (tiles) return MultiplyInTiles(x, products, add);
  for (Index row = 0; row < x.rows; row += kMostPackedRows) {
    const Index rows = std::min(kMostPackedRows, x.rows - row);
    std::vector<Product> part;
    for (const Product& product : products) {
      part.push_back({product.w, product.bias, product.y.Rows(row, rows)});
    }
    (void)MultiplyInput({.x = {x.data + row * x.stride, rows, x.cols, x.stride}}, part, add);
  }
}

bool CudaProducts::TakesTiles(Index rows) const noexcept {
  // From here on cuBLASLt's products in bf16 make up for widening; those in float never do.
  constexpr Index kMostBeforeBf16 = 64;
  return has_tiles_ && rows > kMostPackedRows &&
         (arithmetic_ != Arithmetic::kBf16 || library_ == nullptr || rows <= kMostBeforeBf16);
}

std::vector<PackedProduct> CudaProducts::AlikeFrom(std::span<const Product> products) {
  std::vector<PackedProduct> alike;
  const Source& first = SourceOf(products.front().w);
  for (const Product& product :
       products.first(std::min(products.size(), Size(kMostPackedProducts)))) {
    const Source& w = SourceOf(product.w);
    if (!Alike(first, w)) break;
    LIEQ_ASSERT(product.y.cols() == w.rows);
    alike.push_back({w, product.bias.empty() ? nullptr : DeviceAccess::Pointer(product.bias),
                     DeviceAccess::Pointer(product.y), product.y.stride()});
  }
  return alike;
}

void CudaProducts::MultiplyInTiles(Block<const float> x, std::span<const Product> products,
                                   bool add) {
  Reserve(x.rows, products);
  for (std::size_t begin = 0; begin < products.size();) {
    std::vector<PackedProduct> alike = AlikeFrom(products.subspan(begin));
    begin += alike.size();
    LIEQ_ASSERT(x.cols == alike.front().w.cols);
    for (Index row = 0; row < x.rows; row += kMostMatMatRows) {
      const Index rows = std::min(kMostMatMatRows, x.rows - row);
      const int multiprocessors = queue_.multiprocessors();
      std::byte* scratch = tiles_.Get<std::byte>(MatMatBytes(alike, rows, multiprocessors));
      MultiplyTiles({x.data + row * x.stride, rows, x.cols, x.stride}, alike, add, scratch,
                    multiprocessors, queue_.stream());
      for (PackedProduct& product : alike) product.y += rows * product.stride;
    }
  }
}

bool CudaProducts::TakesInput(Block<const float> x,
                              std::span<const Product> products) const noexcept {
  return x.rows >= 1 && x.rows <= kMostPackedRows && IsAligned(x) &&
         std::ranges::all_of(products, [](const Product& product) {
           return SourceOf(product.w).form == Form::kPacked;
         });
}

bool CudaProducts::MultiplyInput(const ProductInput& input, std::span<const Product> products,
                                 bool add, bool gates) {
  const Block<const float>& x = input.x;
  Reserve(x.rows, products);
  bool gated = false;
  for (std::size_t begin = 0; begin < products.size();) {
    const std::vector<PackedProduct> alike = AlikeFrom(products.subspan(begin));
    const Source& first = alike.front().w;
    LIEQ_ASSERT(x.cols == first.cols && x.rows == products[begin].y.rows());
    const bool pair = gates && alike.size() == 2 && alike[0].w.rows == alike[1].w.rows && !add;
    gated =
        MultiplyPacked(input, alike, add, pair, turn_, queue_.multiprocessors(), queue_.stream());
    turn_ = 1 - turn_;
    begin += alike.size();
  }
  return gated;
}

void CudaProducts::Reserve(Index rows, std::span<const Product> products) {
  if (!TakesTiles(rows)) return;
  for (std::size_t begin = 0; begin < products.size();) {
    if (SourceOf(products[begin].w).form != Form::kPacked) {
      ++begin;
      continue;
    }
    const std::vector<PackedProduct> alike = AlikeFrom(products.subspan(begin));
    begin += alike.size();
    (void)tiles_.Get<std::byte>(
        MatMatBytes(alike, std::min(rows, kMostMatMatRows), queue_.multiprocessors()));
  }
}

void CudaProducts::MultiplyPart(Block<const float> x, std::span<const Product> products, bool add) {
  const bool few = x.rows <= kFewRows, bf16 = arithmetic_ == Arithmetic::kBf16;
  if (x.rows == 0) return;
  if (!few && bf16) RoundToBf16(x, Rounding(x, rounded_), queue_.stream());
  for (const Product& product : products) {
    const Source& w = SourceOf(product.w);
    LIEQ_ASSERT(x.cols == w.cols && product.y.cols() == w.rows && x.rows == product.y.rows());
    const Block<float> y{DeviceAccess::Pointer(product.y), product.y.rows(), product.y.cols(),
                         product.y.stride()};
    const float* bias = product.bias.empty() ? nullptr : DeviceAccess::Pointer(product.bias);
    if (few) {
      MultiplyFewRows(x, w, bias, y, add, queue_.stream());
      continue;
    }
    if (bias != nullptr) AddBias(bias, add, y, queue_.stream());
    if (bf16) {
      MultiplyInBf16(x, w, y, add || bias != nullptr);
    } else {
      MultiplyMany(x, w, y, add || bias != nullptr);
    }
  }
}

void CudaProducts::MultiplyMany(Block<const float> x, const Source& w, Block<float> y, bool add) {
  const bool held = w.form == Form::kFloat;
  const Index part = held ? w.rows : RowsOfPart(w, w.cols);
  for (Index begin = 0; begin < w.rows; begin += part) {
    const Index count = std::min(part, w.rows - begin);
    Block<const float> weights{static_cast<const float*>(w.data), w.rows, w.cols, w.stride};
    if (!held) {
      const Block<float> wide{widened_.Get<float>(part * w.cols), count, w.cols, w.cols};
      Widen(w, begin, wide, queue_.stream());
      weights = {wide.data, wide.rows, wide.cols, wide.stride};
    }
    const Block<float> to = Columns(y, begin, count);
    if (library_ && library_->Multiply(Element::kFloat, Plain(x), Transposed(weights), to, add)) {
      continue;
    }
    MultiplyFloat({x.data, x.stride, 1}, {weights.data, 1, weights.stride}, x.cols, to, add,
                  queue_.stream());
  }
}

Block<std::uint16_t> CudaProducts::Rounding(Block<const float> x, Scratch& to) {
  const Index width = EvenColumns(x.cols);
  return {to.Get<std::uint16_t>(x.rows * width), x.rows, width, width};
}

void CudaProducts::MultiplyInBf16(Block<const float> x, const Source& w, Block<float> y, bool add) {
  const Block<std::uint16_t> rounded = Rounding(x, rounded_);  // where Multiply put it
  const Block<const std::uint16_t> from{rounded.data, rounded.rows, rounded.cols, rounded.stride};
  const Index width = rounded.cols;
  const bool held = w.form == Form::kBf16 && w.cols == width;
  const Index part = held ? w.rows : RowsOfPart(w, width);
  for (Index begin = 0; begin < w.rows; begin += part) {
    const Index count = std::min(part, w.rows - begin);
    Block<const std::uint16_t> weights{static_cast<const std::uint16_t*>(w.data), w.rows, width,
                                       w.stride};
    if (!held) {
      const Block<std::uint16_t> wide{widened_.Get<std::uint16_t>(part * width), count, width,
                                      width};
      WidenToBf16(w, begin, wide, queue_.stream());
      weights = {wide.data, wide.rows, wide.cols, wide.stride};
    }
    const Block<float> to = Columns(y, begin, count);
    if (library_ && library_->Multiply(Element::kBf16, Plain(from), Transposed(weights), to, add)) {
      continue;
    }
    MultiplyBf16(from, weights, to, add, queue_.stream());
  }
}

void CudaProducts::MultiplyBack(Block<const float> dy, const PreparedMatrix& matrix,
                                Block<float> dx, bool add) {
  const Source& w = SourceOf(matrix);
  LIEQ_ASSERT(dy.cols == w.rows && dx.cols == w.cols && dy.rows == dx.rows);
  if (dy.rows == 0) return;
  const bool bf16 = arithmetic_ == Arithmetic::kBf16 && library_ != nullptr && dy.rows > kFewRows;
  if (!bf16 || !MultiplyBackInBf16(dy, Rounded(dy, rounded_), w, dx, add)) {
    MultiplyBackInFloat(dy, w, dx, add);
  }
  Check(cudaGetLastError(), "starting a product");
}

void CudaProducts::MultiplyBack(Block<const float> x, std::span<const ProductGradient> products,
                                Block<float> dx, bool add) {
  const bool bf16 = arithmetic_ == Arithmetic::kBf16 && library_ != nullptr && dx.rows > kFewRows;
  std::optional<Operand> input;
  for (const ProductGradient& product : products) {
    const Block<const float> dy{DeviceAccess::Pointer(product.dy), product.dy.rows(),
                                product.dy.cols(), product.dy.stride()};
    const Source& w = SourceOf(product.w);
    LIEQ_ASSERT(dy.cols == w.rows && dx.cols == w.cols && dy.rows == dx.rows);
    const auto [sums, adds] = product.of_weights;
    const Block<float> to =
        sums == nullptr ? Block<float>{}
                        : Block<float>{DataOf(*sums), sums->rows(), sums->cols(), sums->cols()};
    if (!bf16) {
      if (sums != nullptr) MultiplyCross(dy, x, to, adds);
      MultiplyBack(dy, product.w, dx, std::exchange(add, true));
      continue;
    }
    const Operand rounded = Rounded(dy, rounded_);
    if (sums != nullptr) {
      if (!input) input = Rounded(x, other_rounded_);
      Operand left = rounded;
      left.transposed = true;
      if (!library_->Multiply(Element::kBf16, left, *input, to, adds)) {
        MultiplyTransposed(dy, x, to, adds);
      }
    }
    if (!MultiplyBackInBf16(dy, rounded, w, dx, add)) MultiplyBackInFloat(dy, w, dx, add);
    add = true;
  }
  Check(cudaGetLastError(), "starting a product");
}

void CudaProducts::MultiplyBackInFloat(Block<const float> dy, const Source& w, Block<float> dx,
                                       bool add) {
  const bool held = w.form == Form::kFloat;
  const Index part = held ? w.rows : std::clamp<Index>(kWidened / w.cols, 1, w.rows);
  for (Index begin = 0; begin < w.rows; begin += part) {
    const Index count = std::min(part, w.rows - begin);
    Block<const float> weights{static_cast<const float*>(w.data), w.rows, w.cols, w.stride};
    if (!held) {
      const Block<float> wide{widened_.Get<float>(part * w.cols), count, w.cols, w.cols};
      Widen(w, begin, wide, queue_.stream());
      weights = {wide.data, wide.rows, wide.cols, wide.stride};
    }
    const Block<const float> from{dy.data + begin, dy.rows, count, dy.stride};
    const bool adds = add || begin > 0;
    if (library_ && library_->Multiply(Element::kFloat, Plain(from), Plain(weights), dx, adds)) {
      continue;
    }
    MultiplyFloat({from.data, from.stride, 1}, {weights.data, weights.stride, 1}, count, dx, adds,
                  queue_.stream());
  }
}

bool CudaProducts::MultiplyBackInBf16(Block<const float> dy, const Operand& rounded,
                                      const Source& w, Block<float> dx, bool add) {
  const Index width = EvenColumns(w.cols);
  const bool held = w.form == Form::kBf16;
  const Index most = std::max(kBf16Row, kWidened / width / kBf16Row * kBf16Row);
  const Index part = held ? w.rows : std::min(most, w.rows);
  for (Index begin = 0; begin < w.rows; begin += part) {
    const Index count = std::min(part, w.rows - begin);
    Operand weights{w.data, w.rows, w.cols, w.stride, false};
    if (!held) {
      const Block<std::uint16_t> wide{widened_.Get<std::uint16_t>(part * width), count, width,
                                      width};
      WidenToBf16(w, begin, wide, queue_.stream());
      weights = {wide.data, count, w.cols, width, false};
    }
    const Operand some{static_cast<const std::uint16_t*>(rounded.data) + begin, dy.rows, count,
                       rounded.stride, false};
    if (!library_->Multiply(Element::kBf16, some, weights, dx, add || begin > 0)) {
      if (begin == 0) return false;
      const Block<float> wide{other_widened_.Get<float>(count * w.cols), count, w.cols, w.cols};
      Widen(w, begin, wide, queue_.stream());
      MultiplyFloat({dy.data + begin, dy.stride, 1}, {wide.data, wide.stride, 1}, count, dx, true,
                    queue_.stream());
    }
  }
  return true;
}

void CudaProducts::MultiplyTransposed(Block<const float> a, Block<const float> b, Block<float> y,
                                      bool add) {
  if (library_ && library_->Multiply(Element::kFloat, Transposed(a), Plain(b), y, add)) return;
  MultiplyFloat({a.data, 1, a.stride}, {b.data, b.stride, 1}, a.rows, y, add, queue_.stream());
  Check(cudaGetLastError(), "starting a product");
}

void CudaProducts::AddPlain(Block<const float> a, Block<const float> b, Block<float> y) {
  if (library_ && library_->Multiply(Element::kFloat, Plain(a), Plain(b), y, true)) return;
  MultiplyFloat({a.data, a.stride, 1}, {b.data, b.stride, 1}, a.cols, y, true, queue_.stream());
  Check(cudaGetLastError(), "starting a product");
}

bool CudaProducts::SquareInBf16(Block<const float> x, Block<float> y) {
  if (arithmetic_ != Arithmetic::kBf16 || !library_) return false;
  const Operand plain = Rounded(x, rounded_);
  Operand transposed = plain;
  transposed.transposed = true;
  return library_->Multiply(Element::kBf16, transposed, plain, y, false);
}

void CudaProducts::MultiplyCross(Block<const float> a, Block<const float> b, Block<float> y,
                                 bool add) {
  if (arithmetic_ == Arithmetic::kBf16 && library_ != nullptr) {
    const bool same = a.data == b.data && a.cols == b.cols && a.stride == b.stride;
    const Operand right = Rounded(b, rounded_);
    Operand left = same ? right : Rounded(a, other_rounded_);
    left.transposed = true;
    if (library_->Multiply(Element::kBf16, left, right, y, add)) return;
  }
  MultiplyTransposed(a, b, y, add);
}

Operand CudaProducts::Rounded(Block<const float> x, Scratch& to) {
  const Block<std::uint16_t> rounded = Rounding(x, to);
  RoundToBf16(x, rounded, queue_.stream());
  return {rounded.data, x.rows, x.cols, rounded.stride, false};
}

}  // namespace lieq::cuda
