#include "lieq/device/devices.h"

#include <array>
#include <charconv>
#include <ranges>
#include <string>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/device/cpu/bf16_product.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/device/cuda/cuda_device.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    DeviceRow{.name = "cpu",
              .description = "this processor: kernel rows for what it has, OpenBLAS for the rest",
              .available = [] { return true; },
              .has_bf16 = HasBf16Product,
              .has_fast_bf16 = [] { return kAmxBf16.supported(); },
              .several = false,
              .own_bytes = false,
              .make = MakeCpuDevice},
    DeviceRow{.name = "cuda",
              .description = "an NVIDIA GPU (docs/gpu.md)",
              .available = HasCudaDevice,
              .has_bf16 = [] { return true; },
              .has_fast_bf16 = [] { return true; },
              .several = true,
              .own_bytes = true,
              .make = MakeCudaDevice},
};

[[noreturn]] void FailOfName(std::string_view name) {
  std::string names;
  for (const DeviceRow& row : kRows) {
    names += std::string(row.name) + ", ";
    if (row.several) names += std::string(row.name) + ":N, ";
  }
  throw Error({.what = "no such device",
               .where = "--device",
               .expected = names + std::string(kAutoDevice),
               .found = std::string(name)});
}

}  // namespace

std::span<const DeviceRow> Devices() noexcept {
  return kRows;
}

FoundDevice FindDevice(std::string_view name) {
  if (name == kAutoDevice) {
    for (const DeviceRow& row : kRows | std::views::reverse) {
      if (row.available()) return {row, 0};
    }
  }
  const std::size_t colon = name.find(':');
  for (const DeviceRow& row : kRows) {
    if (row.name != name.substr(0, colon)) continue;
    if (colon == std::string_view::npos) return {row, 0};
    const std::string_view digits = name.substr(colon + 1);
    int index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    const bool whole = error == std::errc() && end == digits.data() + digits.size() && index >= 0;
    if (row.several && whole) return {row, index};
  }
  FailOfName(name);
}

std::unique_ptr<Device> MakeDevice(std::string_view name, ThreadPool& pool,
                                   const DeviceOptions& options) {
  const auto [row, index] = FindDevice(name);
  DeviceOptions those = options;
  those.index = index;
  return row.make(pool, those);
}

}  // namespace lieq
