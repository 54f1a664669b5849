// K-quants, the types of ggml whose blocks are super-blocks of 256 columns: functions of the rows
// of ggml_blocks.cpp, by the bits of a code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Those of a BlockType (ggml_blocks.h), for Q2_K to Q6_K.
template <int kBits>
bool HoldsSuper(const QMatrix& matrix, Index row, std::span<const std::uint8_t> codes);
template <int kBits>
void EncodeSuper(const QMatrix& matrix, Index row, std::span<const std::uint8_t> codes,
                 std::span<std::byte> out);
template <int kBits>
bool DecodeSuper(std::span<const std::byte> blocks, QMatrix& matrix, Index row,
                 std::span<std::uint8_t> codes);

}  // namespace lieq
