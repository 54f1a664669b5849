// What must hold of whatever a reader gives for an input that it did not refuse.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

inline void Require(bool good, std::string_view what) {
  if (good) return;
  std::fprintf(stderr, "broken promise: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

/// A message says what is wrong and where. It is printed where the variable LIEQ_FUZZ_SHOW is set.
inline void CheckRefusal(const Error& error) {
  static const bool show = std::getenv("LIEQ_FUZZ_SHOW") != nullptr;
  if (show) std::fprintf(stderr, "%s\n", error.what());
  Require(!error.problem().what.empty() && !error.problem().where.empty(),
          "a refusal says what and where");
}

/// Reads the first byte and the last one, which must be there.
inline void Touch(std::span<const std::byte> bytes) {
  [[maybe_unused]] static volatile unsigned sink = 0;  // the reads must not be optimized away
  if (bytes.empty()) return;
  sink = std::to_integer<unsigned>(bytes.front()) + std::to_integer<unsigned>(bytes.back());
}

/// Codes, scales and offsets are those of the grid, and all of it can be made float.
inline void CheckMatrix(const QMatrix& matrix) {
  const Grid& grid = matrix.grid();
  Matrix<float> wide(matrix.rows(), matrix.cols());
  matrix.Dequantize(0, wide.view());
  std::vector<std::uint8_t> codes(Size(matrix.cols()));
  for (Index row = 0; row < matrix.rows(); ++row) {
    matrix.GetRow(row, codes);
    for (const std::uint8_t code : codes) Require(code < grid.levels(), "codes fit their bits");
    for (const float value : matrix.scales().Row(row)) {
      Require(std::isfinite(value), "scales are finite");
    }
    if (grid.offset == Offset::kInteger) {
      for (const std::uint8_t zero : matrix.zeros().Row(row)) {
        Require(zero < grid.levels(), "zero-points fit their bits");
      }
    }
    if (grid.offset == Offset::kFloat) {
      for (const float minimum : matrix.minima().Row(row)) {
        Require(std::isfinite(minimum), "minima are finite");
      }
    }
  }
}

}  // namespace lieq
