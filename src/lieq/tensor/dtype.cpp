#include "lieq/tensor/dtype.h"

#include <array>
#include <cmath>

namespace lieq {
namespace {

struct Row {
  DType type;
  std::string_view name;
  std::size_t size;
};
constexpr std::array kRows{
    Row{DType::kF64, "F64", 8},   Row{DType::kF32, "F32", 4}, Row{DType::kF16, "F16", 2},
    Row{DType::kBF16, "BF16", 2}, Row{DType::kI64, "I64", 8}, Row{DType::kI32, "I32", 4},
    Row{DType::kI16, "I16", 2},   Row{DType::kI8, "I8", 1},   Row{DType::kU64, "U64", 8},
    Row{DType::kU32, "U32", 4},   Row{DType::kU16, "U16", 2}, Row{DType::kU8, "U8", 1},
    Row{DType::kBool, "BOOL", 1}};

}  // namespace

std::size_t ItemSize(DType type) noexcept {
  return kRows[static_cast<std::size_t>(type)].size;
}

std::string_view Name(DType type) noexcept {
  return kRows[static_cast<std::size_t>(type)].name;
}

std::optional<DType> DTypeFromName(std::string_view name) noexcept {
  for (const Row& row : kRows) {
    if (row.name == name) return row.type;
  }
  return std::nullopt;
}

float ToFloat(F16 value) noexcept {
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

Bf16 ToBf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

F16 ToF16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u)};
  if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};  // >= 65520
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24, rounded to even by nearbyint
    const float steps = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1.0p24f);
    return {static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(steps))};
  }
  const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

float Stored(float value, DType type) noexcept {
  if (type == DType::kBF16) return ToFloat(ToBf16(value));
  if (type == DType::kF16) return ToFloat(ToF16(value));
  return value;
}

}  // namespace lieq
