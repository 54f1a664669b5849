#include "lieq/device/devices.h"

#include <array>
#include <string>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/device/cpu/cpu_device.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    DeviceRow{.name = "cpu",
              .description = "this processor: kernel rows for what it has, OpenBLAS for the rest",
              .available = [] { return true; },
              .make = MakeCpuDevice},
};

}  // namespace

std::span<const DeviceRow> Devices() noexcept {
  return kRows;
}

std::unique_ptr<Device> MakeDevice(std::string_view name, ThreadPool& pool,
                                   const DeviceOptions& options) {
  const DeviceRow& row = FindRow(Devices(), name, "no such device", "--device");
  if (!row.available()) {
    throw Error({.what = "the device '" + std::string(name) + "' is not on this machine",
                 .where = "--device",
                 .hint = "--device cpu is on every one"});
  }
  return row.make(pool, options);
}

}  // namespace lieq
