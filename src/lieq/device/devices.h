// The devices there are: a table of rows, one for each.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

struct DeviceRow {
  std::string_view name;         // "cpu"
  std::string_view description;  // one line, for the help
  bool (*available)();           // on this machine
  /// The pool, for what stays on the processor, outlives the device. Throws Error for options that
  /// do not exist or that this machine has not got.
  std::unique_ptr<Device> (*make)(ThreadPool& pool, const DeviceOptions& options);
};

/// In the order in which they are listed; the first is available everywhere.
[[nodiscard]] std::span<const DeviceRow> Devices() noexcept;

/// Throws Error naming the rows there are, or that the named one is not on this machine.
[[nodiscard]] std::unique_ptr<Device> MakeDevice(std::string_view name, ThreadPool& pool,
                                                 const DeviceOptions& options = {});

}  // namespace lieq
