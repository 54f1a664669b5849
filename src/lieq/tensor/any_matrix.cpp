#include "lieq/tensor/any_matrix.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

template <class T>
void WidenView(View<const T, 2> from, Index begin, View<float, 2> out) {
  for (Index r = 0; r < out.rows(); ++r) {
    const T* source = from.Row(begin + r).data();
    float* target = out.Row(r).data();
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(target, source, Size(out.cols()) * sizeof(float));
    } else {
      for (Index c = 0; c < out.cols(); ++c) target[c] = ToFloat(source[c]);
    }
  }
}

/// AnyMatrix of a part.
AnyMatrix Whole(const StackedRows::Part& part) {
  return std::visit([](const auto& view) -> AnyMatrix { return view; }, part);
}

template <class T>
constexpr DType kTypeOf = std::is_same_v<T, float> ? DType::kF32
                          : std::is_same_v<T, F16> ? DType::kF16
                                                   : DType::kBF16;

}  // namespace

StackedRows::StackedRows(std::vector<Part> parts) : parts_(std::move(parts)) {
  LIEQ_ASSERT(!parts_.empty());
  const AnyMatrix first = Whole(parts_.front());
  part_rows_ = Rows(first);
  cols_ = Cols(first);
  for (const Part& part : parts_) {
    const AnyMatrix each = Whole(part);
    LIEQ_ASSERT(part.index() == parts_.front().index() && Rows(each) == part_rows_ &&
                Cols(each) == cols_);
  }
}

Index Rows(const AnyMatrix& matrix) noexcept {
  return std::visit(
      [](const auto& held) -> Index {
        if constexpr (requires { held->rows(); }) {
          return held->rows();
        } else {
          return held.rows();
        }
      },
      matrix);
}

Index Cols(const AnyMatrix& matrix) noexcept {
  return std::visit(
      [](const auto& held) -> Index {
        if constexpr (requires { held->cols(); }) {
          return held->cols();
        } else {
          return held.cols();
        }
      },
      matrix);
}

void WidenRows(const AnyMatrix& matrix, Index begin, View<float, 2> out) {
  LIEQ_ASSERT(begin >= 0 && begin + out.rows() <= Rows(matrix) && out.cols() == Cols(matrix));
  std::visit(
      [&](const auto& held) {
        if constexpr (requires { held->Dequantize(begin, out); }) {
          held->Dequantize(begin, out);
        } else if constexpr (requires { held->parts(); }) {
          for (Index row = 0; row < out.rows();) {
            const Index at = begin + row, each = held->part_rows();
            const Index count = std::min(out.rows() - row, each - at % each);
            WidenRows(Whole(held->parts()[Size(at / each)]), at % each, out.Rows(row, count));
            row += count;
          }
        } else if constexpr (requires { held->whole(); }) {
          LIEQ_ASSERT(false);  // what opens such a file asks for packed kernels first
        } else {
          WidenView(held, begin, out);
        }
      },
      matrix);
}

AnyMatrix RowsOf(const AnyMatrix& matrix, Index begin, Index count) {
  LIEQ_ASSERT(begin >= 0 && count >= 0 && begin + count <= Rows(matrix));
  if (count == Rows(matrix)) return matrix;
  return std::visit(
      [&](const auto& held) -> AnyMatrix {
        if constexpr (requires { held->parts(); }) {
          const Index each = held->part_rows(), at = begin % each;
          LIEQ_ASSERT(at + count <= each);
          return RowsOf(Whole(held->parts()[Size(begin / each)]), at, count);
        } else if constexpr (requires { held->whole(); }) {
          return std::make_shared<const LaidOutMatrix>(held->PartAt(begin, count));
        } else if constexpr (requires { held->Slice(begin, count); }) {
          return std::make_shared<const QMatrix>(held->Slice(begin, count));
        } else {
          return held.Rows(begin, count);
        }
      },
      matrix);
}

DType TypeOf(const AnyMatrix& matrix) noexcept {
  return std::visit(
      [](const auto& held) -> DType {
        if constexpr (requires { held->parts(); }) {
          return TypeOf(Whole(held->parts().front()));
        } else if constexpr (requires { held->stored_bits(); }) {
          return DType::kI32;
        } else {
          return kTypeOf<std::remove_const_t<std::remove_reference_t<decltype(held(0, 0))>>>;
        }
      },
      matrix);
}

std::span<const std::byte> MappedBytes(const AnyMatrix& matrix) noexcept {
  return std::visit(
      [](const auto& held) -> std::span<const std::byte> {
        if constexpr (requires { held->rows(); }) {
          return {};
        } else {
          return std::as_bytes(std::span(held.data(), Size(held.rows() * held.stride())));
        }
      },
      matrix);
}

}  // namespace lieq
