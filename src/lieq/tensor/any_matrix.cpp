#include "lieq/tensor/any_matrix.h"

#include <cstring>
#include <type_traits>

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

}  // namespace

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
        } else {
          WidenView(held, begin, out);
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
