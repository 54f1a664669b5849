// In place of the GPU's code, where the build leaves that out.
#include "lieq/base/error.h"
#include "lieq/device/cuda/cuda_device.h"

namespace lieq {

bool HasCudaDevice() noexcept {
  return false;
}

std::unique_ptr<Device> MakeCudaDevice(ThreadPool&, const DeviceOptions&) {
  throw Error({.what = "this program was built without its part for NVIDIA GPUs",
               .where = "--device cuda",
               .hint =
                   "build it with `tools/setup --cuda` and `tools/build cuda` (docs/gpu.md), or "
                   "use --device cpu"});
}

}  // namespace lieq
