#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "lieq/device/cpu/packed_kernels.h"

#define LIEQ_PACKED_NAMESPACE packed_avx512
#define LIEQ_INLINE static inline __attribute__((always_inline))

namespace lieq::packed_avx512 {
namespace {

using Ints = __m512i;
using Floats = __m512;
constexpr bool kWideCodes = true;   // Dot takes codes up to 255
constexpr int kMostPlanes = 8;      // of sums in registers
constexpr __mmask16 kAll = 0xFFFF;  // g++ warns of what forms without a mask leave undefined

LIEQ_INLINE Ints Zero() {
  return _mm512_setzero_si512();
}
LIEQ_INLINE Floats ZeroFloats() {
  return _mm512_setzero_ps();
}
LIEQ_INLINE Ints LoadInts(const uint8_t* from) {
  return _mm512_loadu_si512(from);
}
LIEQ_INLINE Ints And(Ints v, int byte) {
  return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(byte)));
}
LIEQ_INLINE Ints AndInts(Ints v, int32_t mask) {
  return _mm512_and_si512(v, _mm512_set1_epi32(mask));
}
/// Bits of a where `byte` has them, of b elsewhere.
LIEQ_INLINE Ints Select(int byte, Ints a, Ints b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(byte)), a, b, 0xCA);
}
template <int kCount>
LIEQ_INLINE Ints ShiftRight(Ints v) {
  return _mm512_maskz_srli_epi32(kAll, v, kCount);
}
template <int kCount>
LIEQ_INLINE Ints Halved(Ints v) {
  return _mm512_maskz_srai_epi32(kAll, v, kCount);
}
template <int kCount>
LIEQ_INLINE Ints ShiftLeft(Ints v) {
  return _mm512_maskz_slli_epi32(kAll, v, kCount);
}
LIEQ_INLINE Ints Add(Ints a, Ints b) {
  return _mm512_add_epi32(a, b);
}
LIEQ_INLINE Ints Subtract(Ints a, Ints b) {
  return _mm512_sub_epi32(a, b);
}
LIEQ_INLINE Ints Multiply(Ints a, Ints b) {
  return _mm512_mullo_epi32(a, b);
}
LIEQ_INLINE Ints SplatInt(int32_t value) {
  return _mm512_set1_epi32(value);
}
LIEQ_INLINE Ints LoadBytes(const uint8_t* from) {
  return _mm512_maskz_cvtepu8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
template <bool kWide>
LIEQ_INLINE Ints Dot(Ints sum, Ints codes, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, sizeof four);
  return _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four));
}
LIEQ_INLINE Floats LoadHalves(const uint16_t* from) {
  return _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
LIEQ_INLINE Floats LoadFloats(const float* from) {
  return _mm512_loadu_ps(from);
}
LIEQ_INLINE void StoreFloats(float* to, Floats v) {
  _mm512_storeu_ps(to, v);
}
LIEQ_INLINE Floats SplatFloat(float value) {
  return _mm512_set1_ps(value);
}
LIEQ_INLINE Floats ToFloats(Ints v) {
  return _mm512_maskz_cvtepi32_ps(kAll, v);
}
LIEQ_INLINE Floats AddFloats(Floats a, Floats b) {
  return _mm512_add_ps(a, b);
}
LIEQ_INLINE Floats SubtractFloats(Floats a, Floats b) {
  return _mm512_sub_ps(a, b);
}
LIEQ_INLINE Floats MultiplyFloats(Floats a, Floats b) {
  return _mm512_mul_ps(a, b);
}

}  // namespace
}  // namespace lieq::packed_avx512

#include "lieq/device/cpu/packed_kernels_body.inc"

namespace lieq {

const PackedKernels kAvx512PackedKernels = LIEQ_PACKED_ROW("avx512", [] {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
});

}  // namespace lieq
