#include "lieq/device/cpu/kernels.h"
#include "lieq/linalg/linalg.h"
#include "lieq/pipeline/version.h"

namespace lieq {

std::string VersionText() {
  return "lieq " + std::string(kVersion) + " (" + std::string(kCommit) + "), kernels " +
         std::string(ChooseKernels("").name) + ", " + BlasDescription() + "\n";
}

}  // namespace lieq
