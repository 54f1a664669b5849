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
[[nodiscard]] float ToFloat(F16 value) noexcept;

/// Round to nearest, ties to even; overflow gives infinity, NaN stays NaN.
[[nodiscard]] Bf16 ToBf16(float value) noexcept;
[[nodiscard]] F16 ToF16(float value) noexcept;
/// What a file of that type, F32, F16 or BF16, holds of the value.
[[nodiscard]] float Stored(float value, DType type) noexcept;

}  // namespace lieq
