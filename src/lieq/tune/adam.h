// AdamW without decay (Loshchilov and Hutter, arXiv:1711.05101), on the host.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/base/types.h"
#include "lieq/device/tuning_ops.h"
#include "lieq/tune/tuned_model.h"

namespace lieq {

/// One step of codes and one of all others.
struct AdamSteps {
  AdamStep numbers, codes;
};

/// Of numbers whose gradients lie with the host: others stay as they are.
class Adam {
 public:
  explicit Adam(std::span<TunedNumbers> numbers);

  /// The step that makes `steps` of them, gradients being of the loss over `factor`.
  [[nodiscard]] static AdamStep Next(double rate, double factor, Index steps);
  void Step(std::span<TunedNumbers> numbers, const AdamSteps& steps, ThreadPool& pool);

  /// Where moments lie, to be written to a file or read from one.
  void AddArrays(std::span<const TunedNumbers> numbers, std::vector<TunedArray>& arrays);
  /// Room for the moments of numbers that a device holds.
  void MakeRoom(std::size_t number, std::size_t count);
  [[nodiscard]] std::span<float> first(std::size_t number) { return first_[number]; }
  [[nodiscard]] std::span<float> second(std::size_t number) { return second_[number]; }

 private:
  std::vector<std::vector<float>> first_, second_;
};

/// The sum of the squares of all gradients that lie with the host.
[[nodiscard]] double SquaresOf(std::span<TunedNumbers> numbers, ThreadPool& pool);

}  // namespace lieq
