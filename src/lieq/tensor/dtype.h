// Element types of tensors in files, and the two 16-bit floats.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace lieq {

/// As named in safetensors headers.
enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool
};

[[nodiscard]] std::size_t ItemSize(DType type) noexcept;
[[nodiscard]] std::string_view Name(DType type) noexcept;  // "BF16"
[[nodiscard]] std::optional<DType> DTypeFromName(std::string_view name) noexcept;

/// The upper half of a float. Bits only: arithmetic is done in float.
struct Bf16 {
  std::uint16_t bits = 0;
};
/// IEEE binary16.
struct F16 {
  std::uint16_t bits = 0;
};
static_assert(sizeof(Bf16) == 2 && sizeof(F16) == 2);

[[nodiscard]] constexpr float ToFloat(float value) noexcept {
  return value;
}
[[nodiscard]] constexpr float ToFloat(Bf16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
// Here, to be compiled into loops over scales: a 4B model has sixty million.
[[nodiscard]] constexpr float ToFloat(F16 value) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1Fu;
  const std::uint32_t mantissa = value.bits & 0x3FFu;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

/// Round to nearest, ties to even; overflow gives infinity, NaN stays NaN.
[[nodiscard]] Bf16 ToBf16(float value) noexcept;
[[nodiscard]] constexpr F16 ToF16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u)};
  if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};  // >= 65520
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24, which adding 0.5 rounds to
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;  // even; a step is its last bit
    return {static_cast<std::uint16_t>(
        sign | (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f)))};
  }
  const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}
/// What a file of that type, F32, F16 or BF16, holds of the value.
[[nodiscard]] float Stored(float value, DType type) noexcept;

}  // namespace lieq
