#include "lieq/container/finite.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <variant>

#include "lieq/base/error.h"
#include "lieq/container/named_tensors.h"
#include "lieq/container/tensor_names.h"

namespace lieq {
namespace {

constexpr std::uint64_t Lanes(std::uint64_t bits, int width) noexcept {
  std::uint64_t all = 0;
  for (int shift = 0; shift < 64; shift += width) all |= bits << shift;
  return all;
}

/// The exponent of a type in each lane of 64 bits, and the lowest bit of it. A value is not finite
/// where all bits of its exponent are set, and only then does adding the lowest one carry into the
/// sign's place, which was masked out.
template <class T>
constexpr std::uint64_t kExponents = Lanes(std::is_same_v<T, float>  ? 0x7F800000u
                                           : std::is_same_v<T, Bf16> ? 0x7F80u
                                                                     : 0x7C00u,
                                           8 * sizeof(T));
template <class T>
constexpr std::uint64_t kLowest = Lanes(std::is_same_v<T, float>  ? 0x00800000u
                                        : std::is_same_v<T, Bf16> ? 0x0080u
                                                                  : 0x0400u,
                                        8 * sizeof(T));
template <class T>
constexpr std::uint64_t kSigns = Lanes(std::uint64_t{1} << (8 * sizeof(T) - 1), 8 * sizeof(T));

float Widened(float value) noexcept {
  return value;
}
template <class T>
float Widened(T value) noexcept {
  return ToFloat(value);
}

template <class T>
bool AllFinite(std::span<const T> values) noexcept {
  constexpr std::size_t kPerWord = sizeof(std::uint64_t) / sizeof(T), kWords = 4;
  constexpr std::size_t kStep = kPerWord * kWords;
  std::array<std::uint64_t, kWords> carries{};  // apart, so that additions do not wait
  std::size_t i = 0;
  for (; i + kStep <= values.size(); i += kStep) {
    std::array<std::uint64_t, kWords> words{};
    std::memcpy(words.data(), values.data() + i, sizeof(words));
    for (std::size_t w = 0; w < kWords; ++w) {
      carries[w] |= (words[w] & kExponents<T>)+kLowest<T>;
    }
  }
  std::uint64_t any = 0;
  for (const std::uint64_t each : carries) any |= each;
  if ((any & kSigns<T>) != 0) return false;
  return std::all_of(values.begin() + static_cast<std::ptrdiff_t>(i), values.end(),
                     [](T value) { return std::isfinite(Widened(value)); });
}

[[noreturn]] void Fail(const ModelFolder& model, const std::string& tensor, Index row, Index col,
                       float value, std::int64_t count, std::int64_t all) {
  std::string found = std::isnan(value) ? "NaN" : value > 0 ? "infinity" : "-infinity";
  if (count > 1) {
    found +=
        ", and " + std::to_string(count - 1) + " more among its " + std::to_string(all) + " values";
  }
  throw Error({.what = "weight is not finite",
               .where = model.path.string() + ": tensor '" + tensor + "', row " +
                        std::to_string(row) + ", column " + std::to_string(col),
               .expected = "finite numbers",
               .found = std::move(found),
               .hint =
                   "the checkpoint is broken, or was never whole: rows that were added to an "
                   "embedding and not written are like that; get it again or write the values"});
}

/// Names the first value that is not finite.
template <class T>
[[noreturn]] void FailIn(const ModelFolder& model, const std::string& tensor, View<const T, 2> w) {
  Index row = -1, col = -1;
  std::int64_t count = 0;
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index c = 0; c < w.cols(); ++c) {
      if (std::isfinite(Widened(w(r, c)))) continue;
      if (count++ > 0) continue;
      row = r;
      col = c;
    }
  }
  Fail(model, tensor, row, col, Widened(w(row, col)), count, w.size());
}

template <class T>
void Require(const ModelFolder& model, const std::string& tensor, View<const T, 2> w,
             ThreadPool& pool) {
  constexpr Index kTask = Index{1} << 20;  // values
  const Index rows = std::max<Index>(1, kTask / w.cols());
  std::atomic<bool> finite = true;
  pool.ParallelFor(CeilDiv(w.rows(), rows), [&](Index task, int) {
    const Index end = std::min(w.rows(), (task + 1) * rows);
    for (Index r = task * rows; r < end; ++r) {
      if (!AllFinite(w.Row(r))) finite = false;
    }
  });
  if (!finite) FailIn(model, tensor, w);
}

void RequireMatrix(const ModelFolder& model, const std::string& module, const AnyMatrix& matrix,
                   ThreadPool& pool) {
  std::visit(
      [&](const auto& held) {
        if constexpr (requires { held.Row(0); }) Require(model, module + ".weight", held, pool);
      },
      matrix);
  model.weights.Release(matrix);
}

}  // namespace

std::int64_t RequireFinite(const ModelFolder& model, ThreadPool& pool) {
  std::int64_t count = 0;
  for (const NamedTensor& tensor : NamedTensors(model.weights)) {
    if (std::holds_alternative<const AnyMatrix*>(tensor.values)) {
      const AnyMatrix matrix = tensor.Matrix();
      RequireMatrix(model, tensor.name, matrix, pool);
      count += Rows(matrix) * Cols(matrix);
    } else {
      count +=
          static_cast<std::int64_t>(std::get<const std::vector<float>*>(tensor.values)->size());
    }
  }
  return count;
}

void RequireFiniteEnds(const ModelFolder& model, ThreadPool& pool) {
  RequireMatrix(model, std::string(kEmbeddingModule), model.weights.embedding, pool);
  if (!model.weights.config.tied) {
    RequireMatrix(model, std::string(kHeadModule), model.weights.head, pool);
  }
}

}  // namespace lieq
