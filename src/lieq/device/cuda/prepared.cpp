#include "lieq/device/cuda/prepared.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>

#include "lieq/base/assert.h"
#include "lieq/device/cuda/packed.h"
#include "lieq/tensor/dtype.h"

namespace lieq::cuda {
namespace {

constexpr std::size_t kRow = 16;    // bytes that rows of floats of 16 bits are multiples of
constexpr std::size_t kPart = 256;  // bytes that parts of a block begin at multiples of

bool AreHalves(View<const float, 2> numbers) {
  const std::span<const float> all(numbers.data(), Size(numbers.size()));
  return std::ranges::all_of(all, [](float x) { return ToFloat(ToF16(x)) == x; });
}

/// Of Source::shift: as much as is of use, and as leaves room for every code of these scales and
/// minima in f16.
int ShiftOf(const QMatrix& matrix) {
  const auto largest = [](View<const float, 2> numbers) {
    float most = 0;
    for (const float x : std::span<const float>(numbers.data(), Size(numbers.size()))) {
      most = std::max(most, std::fabs(x));
    }
    return most;
  };
  // Below 2^room, or nothing.
  const auto shift = [](float most, int room) {
    return most > 0 ? room - 1 - std::ilogb(most) : room + 24;
  };
  constexpr int kMost = 5;  // the factor of scales is a number of f16
  return std::min(
      {kMost, shift(largest(matrix.scales()), 15 - 10), shift(largest(matrix.minima()), 15)});
}

/// Groups of 32 columns or multiples, with scales and minima that containers hold; those of K-quant
/// grids have more bits than f16.
bool MayBePacked(const QMatrix& matrix) {
  const int bits = matrix.grid().bits;
  const bool width = bits == 2 || bits == 3 || bits == 4 || bits == 8;
  return width && matrix.rows() > 0 && matrix.cols() <= kMostPackedColumns &&
         !matrix.grid().k_quant && ScalesOfUnit(matrix.group_columns()) > 0 &&
         AreHalves(matrix.scales()) && AreHalves(matrix.minima());
}

}  // namespace

CudaPrepared::CudaPrepared(const AnyMatrix& matrix, bool packs, Queue& queue) : queue_(queue) {
  source_.rows = Rows(matrix);
  source_.cols = Cols(matrix);
  if (const auto* floats = std::get_if<View<const float, 2>>(&matrix)) {
    Hold(*floats, Form::kFloat);
  } else if (const auto* bf16 = std::get_if<View<const Bf16, 2>>(&matrix)) {
    Hold(*bf16, Form::kBf16);
  } else if (const auto* f16 = std::get_if<View<const F16, 2>>(&matrix)) {
    Hold(*f16, Form::kF16);
  } else {
    const QMatrix& codes = *std::get<std::shared_ptr<const QMatrix>>(matrix);
    Hold(codes);
    if (packs && MayBePacked(codes)) Pack(codes);
  }
}

template <class T>
void CudaPrepared::Hold(View<const T, 2> matrix, Form form) {
  const std::size_t row = Size(matrix.cols()) * sizeof(T);
  const std::size_t pitch = (row + kRow - 1) / kRow * kRow;
  block_ = queue_.Take(pitch * Size(matrix.rows()));
  queue_.Upload(matrix.data(), Size(matrix.stride()) * sizeof(T), block_, pitch, row,
                matrix.rows());
  source_.form = form;
  source_.data = block_;
  source_.stride = static_cast<Index>(pitch / sizeof(T));
}

void CudaPrepared::Hold(const QMatrix& matrix) {
  // Kernels read eight codes out of two words.
  const int bits = matrix.grid().bits;
  LIEQ_ASSERT(bits <= 6 || bits == 8);
  const auto part = [](std::size_t bytes) { return (bytes + kPart - 1) / kPart * kPart; };
  const auto bytes_of = [](const auto& view) { return Size(view.size()) * sizeof(*view.data()); };
  const std::size_t sizes[] = {matrix.words().size_bytes(), bytes_of(matrix.scales()),
                               bytes_of(matrix.zeros()), bytes_of(matrix.minima())};
  const void* const parts[] = {matrix.words().data(), matrix.scales().data(), matrix.zeros().data(),
                               matrix.minima().data()};
  std::size_t all = 0;
  for (const std::size_t size : sizes) all += part(size);
  block_ = queue_.Take(all);
  const void* held[4] = {};
  std::byte* to = static_cast<std::byte*>(block_);
  for (std::size_t i = 0; i < 4; ++i) {
    if (sizes[i] == 0) continue;
    queue_.Upload(parts[i], sizes[i], to, sizes[i], sizes[i], 1);
    held[i] = to;
    to += part(sizes[i]);
  }
  source_.form = Form::kCodes;
  source_.words = static_cast<const std::uint32_t*>(held[0]);
  source_.scales = static_cast<const float*>(held[1]);
  source_.zeros = static_cast<const std::uint8_t*>(held[2]);
  source_.minima = static_cast<const float*>(held[3]);
  source_.words_per_row = matrix.words_per_row();
  source_.groups = matrix.groups();
  source_.group_columns = matrix.group_columns();
  source_.bits = bits;
  source_.zero = matrix.grid().shared_zero();
}

void CudaPrepared::Pack(const QMatrix& matrix) {
  const Source codes = source_;
  void* const held = block_;
  Source packed;
  packed.form = Form::kPacked;
  packed.rows = codes.rows;
  packed.cols = codes.cols;
  packed.group_columns = codes.group_columns;
  packed.bits = codes.bits;
  packed.zero = codes.zero;
  packed.has_zeros = codes.zeros != nullptr;
  packed.has_minima = codes.minima != nullptr;
  packed.unit_scales = ScalesOfUnit(matrix.group_columns());
  packed.units_per_row = CeilDiv(codes.cols, kUnitColumns);
  packed.shift = ShiftOf(matrix);
  packed.unit_bytes =
      UnitBytes(packed.bits, packed.unit_scales, packed.has_zeros || packed.has_minima);
  block_ = nullptr;
  try {
    block_ = queue_.Take(
        Size(CeilDiv(codes.rows, kUnitRows) * packed.units_per_row * packed.unit_bytes));
  } catch (...) {
    queue_.Give(held);
    throw;
  }
  packed.units = static_cast<std::byte*>(block_);
  cuda::Pack(codes, packed, queue_.stream());
  queue_.Give(held);
  Check(cudaGetLastError(), "laying codes out");
  // Products ask for weights before the kernels ahead of them have ended.
  Check(cudaStreamSynchronize(queue_.stream()), "laying codes out");
  source_ = packed;
}

}  // namespace lieq::cuda
