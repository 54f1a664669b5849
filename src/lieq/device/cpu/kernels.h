// Kernel rows of the CPU: one body (kernels_body.inc) compiled for several instruction sets.
//
// The body works on fixed vectors of 16 floats and never fuses or reorders, so every row gives the
// same bits; only speed differs. Matrix products of many rows are BLAS (linalg/), not rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lieq {

/// Rows of x [rows, in] that are multiplied with rows of a matrix w [outs, in]: y [rows, outs] = x
/// wᵀ, or y += where `add`, and then + bias, [outs] or null. Strides in elements.
struct FewRows {
  const float* x;
  std::ptrdiff_t x_stride;
  std::ptrdiff_t rows;
  std::ptrdiff_t in;
  std::ptrdiff_t outs;
  float* y;
  std::ptrdiff_t y_stride;
  const float* bias;
  bool add;
};

/// Rows of codes as a QMatrix holds them: the first row is row 0 of all of these. A weight is
/// scale * (code - zero) + minimum in float, each step rounded: what QMatrix::Dequantize gives.
struct PackedRows {
  const std::uint32_t* words;  // [rows, words_per_row]
  const float* scales;         // [rows, groups]
  const std::uint8_t* zeros;   // [rows, groups] or null: `zero` is that of all
  const float* minima;         // [rows, groups] or null: there are none
  std::ptrdiff_t words_per_row;
  std::ptrdiff_t groups;
  std::ptrdiff_t group_columns;  // a multiple of 16, or all columns
  float zero;
  int bits;  // 2, 3, 4 or 8
};

/// All pointers may be unaligned; n >= 0 elements. Nothing is read or written past n.
struct KernelSet {
  std::string_view name;
  bool (*supported)();  // by this processor

  /// to[i] = from[i], bf16 bits to float.
  void (*widen_bf16)(const std::uint16_t* from, float* to, std::ptrdiff_t n);
  /// f16 bits to float, exactly.
  void (*widen_f16)(const std::uint16_t* from, float* to, std::ptrdiff_t n);
  /// float to the nearest f16, of two the even one; beyond its range its largest. Infinity and NaN
  /// stay what they are, the latter up to its payload.
  void (*narrow_f16)(const float* from, std::uint16_t* to, std::ptrdiff_t n);
  /// to[i] = scale * from[i]
  void (*widen_int8)(const std::int8_t* from, float scale, float* to, std::ptrdiff_t n);
  /// The scale, a 127th of the largest magnitude, and to[i]: the nearest integer to from[i] /
  /// scale. NaN, and codes of 0, where a number is not finite.
  float (*round_int8)(const float* from, std::int8_t* to, std::ptrdiff_t n);
  /// y = x / sqrt(mean(x²) + eps) * weight; squares are summed in double. x and y may be the same.
  void (*rms_norm)(const float* x, const float* weight, double eps, float* y, std::ptrdiff_t n);
  /// Rotates (x[i], x[i + half]) by the angle i: half = number of angles.
  void (*rope)(float* x, const float* cosine, const float* sine, std::ptrdiff_t half);
  /// x = exp(scale * (x - max x)) / sum of the same. n >= 1.
  void (*softmax)(float* x, float scale, std::ptrdiff_t n);
  /// log(sum(exp(x))) with the sum in double; n >= 1. NaN or +infinity in x gives NaN or infinity.
  double (*log_sum_exp)(const float* x, std::ptrdiff_t n);
  /// sum(exp(a - log_sum_a) * ((a - b) - (log_sum_a - log_sum_b))), the sum in double: the
  /// Kullback-Leibler divergence of softmax(b) from softmax(a) where log_sum_* are their
  /// log_sum_exp. The differences are taken before anything large is multiplied, so that
  /// divergences of 1e-6 come out. n >= 1; NaN or infinity anywhere gives NaN or infinity.
  double (*softmax_kl)(const float* a, const float* b, double log_sum_a, double log_sum_b,
                       std::ptrdiff_t n);
  /// gate = gate / (1 + exp(-gate)) * up
  void (*swiglu)(float* gate, const float* up, std::ptrdiff_t n);
  /// x = exp(x - log_sum): softmax where log_sum is log_sum_exp of x.
  void (*probabilities)(float* x, double log_sum, std::ptrdiff_t n);
  /// Sum of x², in double.
  double (*sum_squares)(const float* x, std::ptrdiff_t n);
  /// Gradient of rms_norm: dx = s weight dy - x s³ / n sum(x weight dy), s = 1 / sqrt(mean(x²) +
  /// eps), both sums in double; dx += the same where `add`. dx and dy may be the same.
  void (*rms_norm_gradient)(const float* x, const float* weight, double eps, const float* dy,
                            float* dx, bool add, std::ptrdiff_t n);
  /// Gradient of softmax with its scale: d = scale p (d - sum(p d)), the sum in double. p: what
  /// softmax gave.
  void (*softmax_gradient)(const float* p, float* d, float scale, std::ptrdiff_t n);
  /// Gradient of swiglu, in place of its factors: gate = d up silu'(gate), up = d silu(gate).
  void (*swiglu_gradient)(float* gate, float* up, const float* d, std::ptrdiff_t n);
  /// to[i] += from[i]
  void (*add)(const float* from, float* to, std::ptrdiff_t n);
  /// Products of few rows, straight from what the weights are held in. Each sum runs over the
  /// columns in one order, so that its bits depend neither on the other rows nor on the tile.
  void (*multiply_packed)(const FewRows& product, const PackedRows& w);
  void (*multiply_bf16)(const FewRows& product, const std::uint16_t* w, std::ptrdiff_t w_stride);
  void (*multiply_float)(const FewRows& product, const float* w, std::ptrdiff_t w_stride);
  /// to[i] += from[i], float to double.
  void (*add_to_double)(const float* from, double* to, std::ptrdiff_t n);
};

/// Rows this build has, best first, scalar last.
[[nodiscard]] std::span<const KernelSet* const> KernelSets() noexcept;
/// The row of that name, or the best supported one for an empty name. Throws Error naming the rows
/// there are, or why the named one cannot run here.
[[nodiscard]] const KernelSet& ChooseKernels(std::string_view name);

extern const KernelSet kScalarKernels;
extern const KernelSet kAvx2Kernels;
extern const KernelSet kAvx512Kernels;
extern const KernelSet kNeonKernels;

}  // namespace lieq
