#include <array>

#include "lieq/device/cpu/kernel_choice.h"
#include "lieq/device/cpu/kernels.h"

namespace lieq {
namespace {

constexpr std::array<const KernelSet*,
#if defined(__x86_64__)
                     3>
    kRows{&kAvx512Kernels, &kAvx2Kernels, &kScalarKernels};
#elif defined(__aarch64__)
                     2>
    kRows{&kNeonKernels, &kScalarKernels};
#else
                     1>
    kRows{&kScalarKernels};
#endif

}  // namespace

std::span<const KernelSet* const> KernelSets() noexcept {
  return kRows;
}

const KernelSet& ChooseKernels(std::string_view name) {
  return ChooseRow<KernelSet>(kRows, name, "", ", packed");
}

}  // namespace lieq
