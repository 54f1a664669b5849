#include <array>

#include "lieq/device/cpu/kernel_choice.h"
#include "lieq/device/cpu/packed_kernels.h"

namespace lieq {
namespace {

constexpr std::array<const PackedKernels*,
#if defined(__x86_64__)
                     5>
    kRows{&kAmxPackedKernels, &kAvx512PackedKernels, &kAvxVnniPackedKernels, &kAvx2PackedKernels,
          &kScalarPackedKernels};
#elif defined(__aarch64__)
                     4>
    kRows{&kI8mmPackedKernels, &kDotProdPackedKernels, &kNeonPackedKernels, &kScalarPackedKernels};
#else
                     1>
    kRows{&kScalarPackedKernels};
#endif

}  // namespace

std::span<const PackedKernels* const> PackedKernelSets() noexcept {
  return kRows;
}

const PackedKernels& ChoosePackedKernels(std::string_view name) {
  return ChooseRow<PackedKernels>(kRows, name, "packed-", "");
}

}  // namespace lieq
