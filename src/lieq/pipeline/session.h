// What the pipeline works with: where its messages go, threads, device, and a way to be stopped.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/context.h"
#include "lieq/base/other_parts.h"
#include "lieq/device/device.h"
#include "lieq/device/device_team.h"
#include "lieq/pipeline/requests.h"

namespace lieq {

class Session {
 public:
  /// `progress` outlives the session. Where `machine` names a device or kernels that are not here,
  /// the first use of the device throws Error.
  Session(MachineRequest machine, Log log, Progress& progress, std::stop_token stop = {});

  [[nodiscard]] Context& context() noexcept { return context_; }
  [[nodiscard]] ThreadPool& pool() noexcept { return pool_; }
  /// Says a thing once: what was said of an input that is read again, was said.
  [[nodiscard]] const Log& log() const noexcept { return log_; }
  /// From now on long work is done in pieces, which outlive the session; others: who shares them.
  void Share(WorkPieces& pieces, OtherParts& others) {
    context_.pieces = &pieces;
    others_ = &others;
  }
  /// Only where work is in pieces.
  [[nodiscard]] OtherParts& others() const {
    LIEQ_ASSERT(others_ != nullptr);
    return *others_;
  }
  /// What results were computed by: device().description(), or where nothing is computed, that of
  /// the pieces.
  [[nodiscard]] std::string device_description();
  /// "float32", likewise.
  [[nodiscard]] std::string arithmetic_name();
  /// Of the device's products.
  [[nodiscard]] Arithmetic arithmetic() {
    (void)device();
    return arithmetic_;
  }
  /// Where what can be made again is kept.
  [[nodiscard]] std::filesystem::path cache() const;
  /// Made on first use, so that work without arithmetic does not pay for it. An arithmetic to be
  /// probed is what a short run finds faster then, and is said.
  [[nodiscard]] Device& device() { return team().first(); }
  /// All that were named, made likewise: what shares work among them says so.
  [[nodiscard]] const DeviceTeam& team();
  /// From now on bf16 where a matrix unit makes it several times as fast. Training rounds anyway,
  /// and the processor alone decides, so that results can be had again. No device is in use.
  void TakeFastArithmetic();
  /// Whether the device is the processor, by packed kernels. Makes no device.
  [[nodiscard]] bool runs_packed() const;
  /// As DeviceRow::own_bytes. Makes no device.
  [[nodiscard]] bool device_has_own_bytes() const;

 private:
  MachineRequest machine_;
  std::mutex said_mutex_;
  std::set<std::string, std::less<>> said_;
  Log log_;
  ThreadPool pool_;
  Context context_;
  OtherParts* others_ = nullptr;
  std::vector<std::unique_ptr<ThreadPool>> pools_;  // of several devices
  std::vector<std::unique_ptr<Device>> devices_;
  std::optional<DeviceTeam> team_;
  Arithmetic arithmetic_ = Arithmetic::kFloat32;
};

/// Highest resident memory of this process so far, file pages included (VmHWM), bytes.
[[nodiscard]] std::int64_t PeakMemoryBytes();
/// Memory that can be had without swapping (MemAvailable), bytes; 0 where unknown.
[[nodiscard]] std::int64_t AvailableMemoryBytes();

}  // namespace lieq
