#include "lieq/quantize/row_loops.h"

#include <algorithm>

#include "lieq/quantize/instruction_sets.h"

// Vectors are passed to functions that are always inlined: no call has an ABI to change.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace lieq {
namespace {

using Floats [[gnu::vector_size(64)]] = float;
using Bytes [[gnu::vector_size(16)]] = std::uint8_t;
using Ints [[gnu::vector_size(64)]] = std::int32_t;
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds |x| < 2^22 to even

// Rows are aligned to vectors: buffers are, and rows are whole vectors.
[[gnu::always_inline]] inline Floats Load(const float* from) noexcept {
  return *reinterpret_cast<const Floats*>(from);
}
[[gnu::always_inline]] inline void Save(const Floats& value, float* to) noexcept {
  *reinterpret_cast<Floats*>(to) = value;
}
[[gnu::always_inline]] inline Floats LoadCodes(const std::uint8_t* from) noexcept {
  return __builtin_convertvector(
      __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Ints), Floats);
}
[[gnu::always_inline]] inline void SaveCodes(const Floats& codes, std::uint8_t* to) noexcept {
  *reinterpret_cast<Bytes*>(to) =
      __builtin_convertvector(__builtin_convertvector(codes, Ints), Bytes);
}

[[gnu::always_inline]] inline Floats Nearest(const Floats& value, const Floats& inverse,
                                             const Floats& minimum, float top) noexcept {
  const Floats lowest{}, highest = Floats{} + top;
  Floats code = (value - minimum) * inverse;
  code = code > lowest ? code : lowest;  // a NaN is no input: they are checked to be finite
  code = code < highest ? code : highest;
  return (code + kRound) - kRound;
}

/// Four vectors of rows at a time stay in registers while the columns pass by.
[[gnu::always_inline]] inline void Add(const float* from, const float* factors, Index count,
                                       float* to, Index rows) noexcept {
  Index r = 0;
  for (; r + 4 * kLanes <= rows; r += 4 * kLanes) {
    const Floats a = Load(from + r), b = Load(from + r + kLanes), c = Load(from + r + 2 * kLanes),
                 d = Load(from + r + 3 * kLanes);
    for (Index k = 0; k < count; ++k) {
      float* at = to + k * rows + r;
      const float factor = factors[k];
      Save(Load(at) + a * factor, at);
      Save(Load(at + kLanes) + b * factor, at + kLanes);
      Save(Load(at + 2 * kLanes) + c * factor, at + 2 * kLanes);
      Save(Load(at + 3 * kLanes) + d * factor, at + 3 * kLanes);
    }
  }
  for (; r < rows; r += kLanes) {
    const Floats a = Load(from + r);
    for (Index k = 0; k < count; ++k) {
      float* at = to + k * rows + r;
      Save(Load(at) + a * factors[k], at);
    }
  }
}

}  // namespace

LIEQ_FOR_EACH_SET
void AddMultiples(const float* from, const float* factors, Index count, float* to, Index rows) {
  Add(from, factors, count, to, rows);
}

LIEQ_FOR_EACH_SET
void RoundToLines(const float* targets, const GridLines& lines, Index rows, std::uint8_t* codes,
                  float* levels) {
  for (Index r = 0; r < rows; r += kLanes) {
    const Floats minimum = Load(lines.minimum + r);
    const Floats code = Nearest(Load(targets + r), Load(lines.inverse + r), minimum, lines.top);
    SaveCodes(code, codes + r);
    Save(Load(lines.scale + r) * code + minimum, levels + r);
  }
}

LIEQ_FOR_EACH_SET
void LevelsOf(const std::uint8_t* codes, const GridLines& lines, Index rows, float* levels) {
  for (Index r = 0; r < rows; r += kLanes) {
    Save(Load(lines.scale + r) * LoadCodes(codes + r) + Load(lines.minimum + r), levels + r);
  }
}

LIEQ_FOR_EACH_SET
void SolveForward(const float* feedback, Index stride, Index width, float* b, Index rows) {
  for (Index r = 0; r < rows; r += kLanes) {
    for (Index p = 0; p < width; ++p) {
      const float* factors = feedback + p * stride;
      // Two sums, so that one addition need not wait for the other.
      Floats even = Load(b + p * rows + r), odd{};
      Index k = 0;
      for (; k + 2 <= p; k += 2) {
        even -= Load(b + k * rows + r) * factors[k];
        odd -= Load(b + (k + 1) * rows + r) * factors[k + 1];
      }
      if (k < p) even -= Load(b + k * rows + r) * factors[k];
      Save(even + odd, b + p * rows + r);
    }
  }
}

LIEQ_FOR_EACH_SET
void SolveBackward(const float* feedback, Index stride, Index width, float* b, Index rows) {
  for (Index r = 0; r < rows; r += kLanes) {
    for (Index p = width - 1; p > 0; --p) {
      const Floats known = Load(b + p * rows + r);
      const float* factors = feedback + p * stride;
      for (Index k = 0; k < p; ++k) {
        Save(Load(b + k * rows + r) - known * factors[k], b + k * rows + r);
      }
    }
  }
}

LIEQ_FOR_EACH_SET
void MultiplyTransposed(const float* feedback, Index stride, Index width, const float* x,
                        Index rows, float* out) {
  std::copy_n(x, width * rows, out);
  for (Index p = width - 1; p > 0; --p) Add(x + p * rows, feedback + p * stride, p, out, rows);
}

LIEQ_FOR_EACH_SET
void RoundWithFeedback(const float* feedback, Index stride, const float* pivots,
                       const Index* codes_at, const GridLines& lines, Index width, Index rows,
                       float* targets, float* errors, std::uint8_t* codes, float* losses) {
  for (Index r = 0; r < rows; r += kLanes) Save(Floats{}, losses + r);
  for (Index p = width - 1; p >= 0; --p) {
    const float* target = targets + p * rows;
    float* error = errors + p * rows;
    std::uint8_t* to = codes + codes_at[p] * rows;
    const float pivot = pivots[p];
    for (Index r = 0; r < rows; r += kLanes) {
      const Floats minimum = Load(lines.minimum + r), wanted = Load(target + r);
      const Floats code = Nearest(wanted, Load(lines.inverse + r), minimum, lines.top);
      SaveCodes(code, to + r);
      const Floats level = Load(lines.scale + r) * code + minimum;
      const Floats miss = (wanted - level) * pivot;
      Save(Load(losses + r) + miss * miss, losses + r);
      Save(Load(error + r) - level, error + r);
    }
    Add(error, feedback + p * stride, p, targets, rows);
  }
}

LIEQ_FOR_EACH_SET
Index MoveCodes(const float* gradient, float curvature, const GridLines& lines, Index rows,
                std::uint8_t* codes, float* steps, float* gains) {
  constexpr float kSmaller = 1 - 1e-6f;  // a tie stays where it is
  const float inverse = 1 / curvature;
  Ints moved{};
  for (Index r = 0; r < rows; r += kLanes) {
    const Floats minimum = Load(lines.minimum + r), scale = Load(lines.scale + r);
    const Floats code = LoadCodes(codes + r), slope = Load(gradient + r);
    const Floats level = scale * code + minimum, wanted = slope * inverse;
    const Floats best = Nearest(level + wanted, Load(lines.inverse + r), minimum, lines.top);
    const Floats step = (scale * best + minimum) - level, left = wanted - step;
    // |wanted - step| < |wanted|: the loss falls.
    const Ints moves = (left * left < wanted * wanted * kSmaller) & (best != code);
    const Floats none{};
    const Floats taken = moves ? step : none;
    SaveCodes(moves ? best : code, codes + r);
    Save(taken, steps + r);
    Save(Load(gains + r) + taken * (slope + slope - taken * curvature), gains + r);
    moved -= moves;  // a comparison that holds is -1
  }
  Index count = 0;
  for (Index lane = 0; lane < kLanes; ++lane) count += moved[lane];
  return count;
}

}  // namespace lieq
