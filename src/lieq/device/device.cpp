#include "lieq/device/device.h"

#include "lieq/base/error.h"
#include "lieq/device/mixer_ops.h"

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

MixerOps& RequireMixers(Device& device, std::string_view needed_by) {
  if (device.mixers() != nullptr) return *device.mixers();
  throw Error({.what = "this device has not all operations of a " + std::string(needed_by),
               .where = device.description(),
               .hint = "--device cpu has them all"});
}

}  // namespace lieq
