#include "lieq/device/device.h"

#include "lieq/base/error.h"

namespace lieq {
namespace {

template <class Part>
Part& Require(Part* part, const Device& device, const char* what) {
  if (part != nullptr) return *part;
  throw Error(
      {.what = std::string("this device only runs models: it has no operations for ") + what,
       .where = device.description(),
       .hint = "--device cpu has them all"});
}

}  // namespace

CalibrationOps& RequireCalibration(Device& device) {
  return Require(device.calibration(), device, "calibration");
}

GradientOps& RequireGradients(Device& device) {
  return Require(device.gradients(), device, "gradients");
}

}  // namespace lieq
