#include "lieq/container/narrow.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"

namespace lieq {
float Rounded(float value, DType type) noexcept {
  if (type == DType::kF32) return value;
  return type == DType::kF16 ? ToFloat(ToF16(value)) : ToFloat(ToBf16(value));
}

namespace {

bool Holds(DType type, float value) noexcept {
  return Rounded(value, type) == value && std::isfinite(value);  // a NaN differs from itself
}

}  // namespace

bool HoldsAll(DType type, View<const float, 2> values) noexcept {
  for (Index row = 0; row < values.rows(); ++row) {
    for (const float value : values.Row(row)) {
      if (!Holds(type, value)) return false;
    }
  }
  return true;
}

std::vector<std::uint16_t> Narrow(std::string_view module, const std::string& what,
                                  View<const float, 2> values, DType type) {
  std::vector<std::uint16_t> items;
  items.reserve(Size(values.size()));
  for (Index row = 0; row < values.rows(); ++row) {
    for (const float value : values.Row(row)) {
      if (!Holds(type, value)) {
        throw Error({.what = what + " cannot be stored exactly",
                     .where = std::string(module) + ", row " + std::to_string(row),
                     .expected = "a finite number that " + std::string(Name(type)) + " holds",
                     .found = std::to_string(value)});
      }
      items.push_back(type == DType::kF16 ? ToF16(value).bits : ToBf16(value).bits);
    }
  }
  return items;
}

void WriteRounded(TensorWriter& writer, std::string_view name, std::span<const float> values,
                  DType type) {
  if (type == DType::kF32) {
    writer.Write(name, std::as_bytes(values));
    return;
  }
  constexpr std::size_t kPart = std::size_t{1} << 20;
  std::vector<std::uint16_t> part;
  for (std::size_t at = 0; at < values.size(); at += part.size()) {
    const auto some = values.subspan(at, std::min(kPart, values.size() - at));
    part.resize(some.size());
    std::ranges::transform(some, part.begin(), [&](float value) {
      return type == DType::kBF16 ? ToBf16(value).bits : ToF16(value).bits;
    });
    writer.Write(name, std::as_bytes(std::span(part)));
  }
}

}  // namespace lieq
