#include <array>
#include <string>

#include "lieq/base/error.h"
#include "lieq/device/cpu/kernels.h"

namespace lieq {
namespace {

constexpr std::array<const KernelSet*,
#if defined(__x86_64__)
                     3>
    kRows{&kAvx512Kernels, &kAvx2Kernels, &kScalarKernels};
#else
                     1>
    kRows{&kScalarKernels};
#endif

}  // namespace

std::span<const KernelSet* const> KernelSets() noexcept {
  return kRows;
}

const KernelSet& ChooseKernels(std::string_view name) {
  std::string names;
  for (const KernelSet* row : kRows) {
    names += (names.empty() ? "" : ", ") + std::string(row->name);
    if (!name.empty() && row->name != name) continue;
    if (row->supported()) return *row;
    if (!name.empty()) {
      throw Error({.what = "this processor cannot run the kernel row '" + std::string(name) + "'",
                   .where = "--kernels"});
    }
  }
  throw Error({.what = "no such kernel row",
               .where = "--kernels",
               .expected = names,
               .found = std::string(name)});
}

}  // namespace lieq
