// The portable row: vectors of g++ and clang, which the compiler splits to what the processor has.
#include <stddef.h>
#include <stdint.h>

#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/tensor/dtype.h"

#define LIEQ_PACKED_NAMESPACE packed_scalar
#define LIEQ_INLINE static inline __attribute__((always_inline))
#define LIEQ_UNROLLED  // the compiler would take minutes to put split vectors into registers

namespace lieq::packed_scalar {
namespace {

typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef int8_t SignedBytes __attribute__((vector_size(16)));
constexpr bool kWideCodes = false;
constexpr int kMostPlanes = 2;

LIEQ_INLINE Ints Zero() {
  return Ints{};
}
LIEQ_INLINE Floats ZeroFloats() {
  return Floats{};
}
LIEQ_INLINE Ints LoadInts(const uint8_t* from) {
  Ints v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
LIEQ_INLINE Ints And(Ints v, int byte) {
  return v & (byte * 0x01010101);
}
LIEQ_INLINE Ints AndInts(Ints v, int32_t mask) {
  return v & mask;
}
LIEQ_INLINE Ints Select(int byte, Ints a, Ints b) {
  return (a & (byte * 0x01010101)) | (b & ~(byte * 0x01010101));
}
template <int kCount>
LIEQ_INLINE Ints ShiftRight(Ints v) {
  return __builtin_bit_cast(Ints, __builtin_bit_cast(Words, v) >> kCount);
}
template <int kCount>
LIEQ_INLINE Ints Halved(Ints v) {
  return v >> kCount;
}
template <int kCount>
LIEQ_INLINE Ints ShiftLeft(Ints v) {
  return v * (1 << kCount);
}
LIEQ_INLINE Ints Add(Ints a, Ints b) {
  return a + b;
}
LIEQ_INLINE Ints Subtract(Ints a, Ints b) {
  return a - b;
}
LIEQ_INLINE Ints Multiply(Ints a, Ints b) {
  return a * b;
}
LIEQ_INLINE Ints SplatInt(int32_t value) {
  return Ints{} + value;
}
LIEQ_INLINE Ints LoadBytes(const uint8_t* from) {
  Bytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Ints);
}
LIEQ_INLINE Ints LoadSignedBytes(const int8_t* from) {
  SignedBytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Ints);
}
template <bool kWide>
static __attribute__((noinline)) Ints Dot(Ints sum, Ints codes, const int8_t* x) {
  return sum + (codes & 0xFF) * x[0] + (ShiftRight<8>(codes) & 0xFF) * x[1] +
         (ShiftRight<16>(codes) & 0xFF) * x[2] + ShiftRight<24>(codes) * x[3];
}
LIEQ_INLINE Floats LoadHalves(const uint16_t* from) {
  Floats v;
  for (int i = 0; i < 16; ++i) v[i] = ToFloat(F16{from[i]});
  return v;
}
LIEQ_INLINE Floats LoadFloats(const float* from) {
  Floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
LIEQ_INLINE void StoreFloats(float* to, Floats v) {
  __builtin_memcpy(to, &v, sizeof v);
}
LIEQ_INLINE Floats SplatFloat(float value) {
  return Floats{} + value;
}
LIEQ_INLINE Floats ToFloats(Ints v) {
  return __builtin_convertvector(v, Floats);
}
LIEQ_INLINE Floats AddFloats(Floats a, Floats b) {
  return a + b;
}
LIEQ_INLINE Floats SubtractFloats(Floats a, Floats b) {
  return a - b;
}
LIEQ_INLINE Floats MultiplyFloats(Floats a, Floats b) {
  return a * b;
}
/// Rounded once, as by an instruction, which a call stands in for.
static __attribute__((noinline)) Floats MultiplyAdd(Floats a, Floats b, Floats c) {
  for (int i = 0; i < 16; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}

}  // namespace
}  // namespace lieq::packed_scalar

#include "lieq/device/cpu/packed_kernels_body.inc"

namespace lieq {

const PackedKernels kScalarPackedKernels = LIEQ_PACKED_ROW("scalar", [] { return true; });

}  // namespace lieq
