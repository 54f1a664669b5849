// The devices there are: a table of rows, one for each.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

struct DeviceRow {
  std::string_view name;         // "cpu"
  std::string_view description;  // one line, for the help
  bool (*available)();           // on this machine
  bool (*has_bf16)();            // where it is available
  bool (*has_fast_bf16)();       // several times as fast as float32: on a matrix unit
  bool several;                  // "cuda:1" is the second of them
  bool own_bytes;                // what it quantizes differs from what a processor does
  Index pieces;                  // of a DeviceTeam of them, or of one
  /// The pool, for what stays on the processor, outlives the device. Throws Error for options that
  /// do not exist or that this machine has not got.
  std::unique_ptr<Device> (*make)(ThreadPool& pool, const DeviceOptions& options);
};

/// In the order in which they are listed; the first is available everywhere.
[[nodiscard]] std::span<const DeviceRow> Devices() noexcept;

/// The last row that is available, in place of a name.
inline constexpr std::string_view kAutoDevice = "auto";

struct FoundDevice {
  const DeviceRow& row;
  std::vector<int> indices;  // of several, which: one at least, each once
};
/// Of the name of a row, one with a number or several behind it ("cuda:0,1"), or kAutoDevice;
/// whether it is available is left open. Throws Error naming what there is.
[[nodiscard]] FoundDevice FindDevice(std::string_view name);

/// The device of a name as FindDevice takes it, of several the first; its index becomes that of the
/// options. Throws Error where it is not on this machine.
[[nodiscard]] std::unique_ptr<Device> MakeDevice(std::string_view name, ThreadPool& pool,
                                                 const DeviceOptions& options = {});

}  // namespace lieq
