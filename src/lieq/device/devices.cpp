#include "lieq/device/devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
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
              .pieces = 1,
              .make = MakeCpuDevice},
    DeviceRow{.name = "cuda",
              .description = "an NVIDIA GPU (docs/gpu.md)",
              .available = HasCudaDevice,
              .has_bf16 = [] { return true; },
              .has_fast_bf16 = [] { return true; },
              .several = true,
              .own_bytes = true,
              .pieces = 4,  // as many share the windows of a calibration at most
              .make = MakeCudaDevice},
};

[[noreturn]] void FailOfName(std::string_view name) {
  std::string names;
  for (const DeviceRow& row : kRows) {
    names += std::string(row.name) + ", ";
    if (row.several) names += fmt::format("{0}:N, {0}:N,M, ", row.name);
  }
  throw Error({.what = "no such device",
               .where = "--device",
               .expected = names + std::string(kAutoDevice),
               .found = std::string(name)});
}

/// Of "0,1": none is there twice.
std::optional<std::vector<int>> Numbers(std::string_view text) {
  std::vector<int> numbers;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view digits = text.substr(0, comma);
    int number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number < 0 ||
        std::ranges::find(numbers, number) != numbers.end()) {
      return std::nullopt;
    }
    numbers.push_back(number);
    if (comma == std::string_view::npos) return numbers;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

std::span<const DeviceRow> Devices() noexcept {
  return kRows;
}

FoundDevice FindDevice(std::string_view name) {
  if (name == kAutoDevice) {
    for (const DeviceRow& row : kRows | std::views::reverse) {
      if (row.available()) return {row, {0}};
    }
  }
  const std::size_t colon = name.find(':');
  for (const DeviceRow& row : kRows) {
    if (row.name != name.substr(0, colon)) continue;
    if (colon == std::string_view::npos) return {row, {0}};
    const std::optional<std::vector<int>> indices = Numbers(name.substr(colon + 1));
    if (row.several && indices) return {row, *indices};
  }
  FailOfName(name);
}

std::unique_ptr<Device> MakeDevice(std::string_view name, ThreadPool& pool,
                                   const DeviceOptions& options) {
  const auto [row, indices] = FindDevice(name);
  DeviceOptions those = options;
  those.index = indices.front();
  return row.make(pool, those);
}

}  // namespace lieq
