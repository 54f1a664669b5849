// Whether bf16 products pay on this machine: a question of the processor and of its BLAS.
#pragma once

#include <string>
#include <string_view>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

/// "float32", "bf16"
[[nodiscard]] constexpr std::string_view Name(Arithmetic arithmetic) noexcept {
  return arithmetic == Arithmetic::kBf16 ? "bf16" : "float32";
}

/// Seconds of float32 over seconds of bf16 for products of the shapes of a small model's linears,
/// on the threads of the pool; 0 where the processor has no bf16 arithmetic. Takes some tenths of a
/// second. Differs a little from call to call.
[[nodiscard]] double Bf16Gain(ThreadPool& pool, const std::string& kernels = "");

}  // namespace lieq
