#include "lieq/tune/adam.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>

#include "lieq/base/types.h"

namespace lieq {
namespace {

constexpr float kFirst = 0.9f, kSecond = 0.95f, kTiny = 1e-12f;
constexpr std::size_t kPiece = std::size_t{1} << 15;  // numbers of a task

/// Calls `piece` for parts of all arrays that have gradients here, in order: which array, its first
/// number and how many.
void ForPieces(std::span<TunedNumbers> numbers, ThreadPool& pool,
               const std::function<void(std::size_t task, std::size_t array, std::size_t first,
                                        std::size_t count)>& piece) {
  std::vector<std::array<std::size_t, 2>> pieces;
  for (std::size_t n = 0; n < numbers.size(); ++n) {
    for (std::size_t i = 0; i < numbers[n].gradient.size(); i += kPiece) pieces.push_back({n, i});
  }
  pool.ParallelFor(static_cast<Index>(pieces.size()), [&](Index task, int) {
    const auto [array, first] = pieces[Size(task)];
    piece(Size(task), array, first, std::min(kPiece, numbers[array].gradient.size() - first));
  });
}

}  // namespace

Adam::Adam(std::span<TunedNumbers> numbers) {
  for (const TunedNumbers& each : numbers) {
    first_.emplace_back(each.gradient.size());
    second_.emplace_back(each.gradient.size());
  }
}

AdamStep Adam::Next(double rate, double factor, Index steps) {
  const auto done = static_cast<double>(steps);
  const auto first_share = static_cast<float>(1 - std::pow(static_cast<double>(kFirst), done));
  const auto second_share = static_cast<float>(1 - std::pow(static_cast<double>(kSecond), done));
  return {.first = kFirst,
          .second = kSecond,
          .tiny = kTiny,
          .rate = static_cast<float>(rate / static_cast<double>(first_share)),
          .second_share = second_share,
          .factor = static_cast<float>(factor)};
}

void Adam::Step(std::span<TunedNumbers> numbers, const AdamSteps& steps, ThreadPool& pool) {
  ForPieces(numbers, pool, [&](std::size_t, std::size_t n, std::size_t begin, std::size_t count) {
    TunedNumbers& each = numbers[n];
    const AdamStep& step = each.kind == TunedKind::kCode ? steps.codes : steps.numbers;
    for (std::size_t i = begin; i < begin + count; ++i) {
      const float g = each.gradient[i] * step.factor;
      float &m = first_[n][i], &v = second_[n][i];
      m = kFirst * m + (1 - kFirst) * g;
      v = kSecond * v + (1 - kSecond) * g * g;
      each.u[i] -= step.rate * m / (std::sqrt(v / step.second_share) + kTiny);
    }
  });
}

void Adam::AddArrays(std::span<const TunedNumbers> numbers, std::vector<TunedArray>& arrays) {
  for (std::size_t n = 0; n < numbers.size(); ++n) {
    const auto add = [&](const char* what, std::vector<float>& values) {
      if (values.empty()) return;
      arrays.push_back(
          {numbers[n].name + what, DType::kF32, std::as_writable_bytes(std::span(values))});
    };
    add(": first moment", first_[n]);
    add(": second moment", second_[n]);
  }
}

void Adam::MakeRoom(std::size_t number, std::size_t count) {
  first_[number].resize(count);
  second_[number].resize(count);
}

double SquaresOf(std::span<TunedNumbers> numbers, ThreadPool& pool) {
  std::size_t most = 0;
  for (const TunedNumbers& each : numbers) most += each.gradient.size() / kPiece + 1;
  std::vector<double> squares(most);
  ForPieces(numbers, pool,
            [&](std::size_t task, std::size_t n, std::size_t begin, std::size_t count) {
              for (std::size_t i = begin; i < begin + count; ++i) {
                const auto g = static_cast<double>(numbers[n].gradient[i]);
                squares[task] += g * g;
              }
            });
  return std::accumulate(squares.begin(), squares.end(), 0.0);
}

}  // namespace lieq
