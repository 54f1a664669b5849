#include "lieq/device/tuning_ops.h"

namespace lieq {

TuningOps* TuningOf(Device& device) noexcept {
  return dynamic_cast<TuningOps*>(device.gradients());
}

}  // namespace lieq
