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

Bf16 ToBf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

float Stored(float value, DType type) noexcept {
  if (type == DType::kBF16) return ToFloat(ToBf16(value));
  if (type == DType::kF16) return ToFloat(ToF16(value));
  return value;
}

}  // namespace lieq
