// Quantized matrices whose codes and numbers lie in a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "lieq/base/files.h"
#include "lieq/tensor/dtype.h"
#include "lieq/tensor/qmatrix.h"
#include "tests/support/temp_folder.h"

namespace lieq {

/// The same matrix, its words, scales and minima in `path`; the latter of a type of 16 bits that
/// holds them.
[[nodiscard]] inline QMatrix StoredInFile(const QMatrix& from, DType type,
                                          const std::filesystem::path& path) {
  std::string bytes(reinterpret_cast<const char*>(from.words().data()), from.words().size_bytes());
  const auto add = [&](View<const float, 2> numbers) {
    for (Index i = 0; i < numbers.size(); ++i) {
      const float value = numbers.data()[i];
      const std::uint16_t bits = type == DType::kF16 ? ToF16(value).bits : ToBf16(value).bits;
      bytes.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
    }
  };
  add(from.scales());
  if (from.has_minima()) add(from.minima());
  WriteText(path, bytes);
  const auto map = std::make_shared<const FileMap>(path);
  const std::span<const std::uint32_t> words(
      reinterpret_cast<const std::uint32_t*>(map->bytes().data()), from.words().size());
  const std::span<const std::uint16_t> items(
      reinterpret_cast<const std::uint16_t*>(map->bytes().data() + words.size_bytes()),
      (map->bytes().size() - words.size_bytes()) / 2);
  const std::size_t numbers = Size(from.rows() * from.groups());
  const StoredNumbers scales{type, items.first(numbers), map};
  StoredNumbers minima;
  if (from.has_minima()) minima = {type, items.last(numbers), map};
  QMatrix stored(from.rows(), from.cols(), from.grid(), words, map, scales, std::move(minima));
  if (from.grid().offset == Offset::kInteger) {
    for (Index row = 0; row < from.rows(); ++row) {
      for (Index g = 0; g < from.groups(); ++g) stored.zeros()(row, g) = from.zeros()(row, g);
    }
  }
  return stored;
}

}  // namespace lieq
