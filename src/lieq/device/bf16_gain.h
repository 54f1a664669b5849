// Whether bf16 products pay on a device: of a processor, a question of its BLAS too.
#pragma once

#include <string_view>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

/// "float32", "bf16"
[[nodiscard]] constexpr std::string_view Name(Arithmetic arithmetic) noexcept {
  return arithmetic == Arithmetic::kBf16 ? "bf16" : "float32";
}

/// Seconds of float32 over seconds of bf16 for products of the shapes of a small model's linears,
/// on the device that MakeDevice makes of the name and the options, whatever their arithmetic; 0
/// where it has no bf16 arithmetic. Takes some tenths of a second. Differs a little from call to
/// call.
[[nodiscard]] double Bf16Gain(std::string_view device, ThreadPool& pool, DeviceOptions options);

}  // namespace lieq
