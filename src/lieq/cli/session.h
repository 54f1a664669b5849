// What a command works with: terminal, threads, device, and a way to be stopped by a signal.
#pragma once

#include <memory>
#include <stop_token>

#include "lieq/base/context.h"
#include "lieq/cli/arguments.h"
#include "lieq/cli/terminal.h"
#include "lieq/device/device.h"

namespace lieq {

/// Turns SIGINT and SIGTERM into a stop request; a second signal ends the process at once. One at a
/// time in a process.
class SignalStop {
 public:
  SignalStop();
  ~SignalStop();
  SignalStop(const SignalStop&) = delete;
  SignalStop& operator=(const SignalStop&) = delete;

  [[nodiscard]] std::stop_token token() const noexcept;
  /// The signal that came, 0 for none.
  [[nodiscard]] int signal() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Session {
 public:
  Session(const Arguments& arguments, Terminal& terminal, std::stop_token stop);

  [[nodiscard]] Context& context() noexcept { return context_; }
  [[nodiscard]] ThreadPool& pool() noexcept { return pool_; }
  [[nodiscard]] const Log& log() const noexcept { return terminal_.log(); }
  /// Made on first use, so that commands without arithmetic do not pay for it.
  [[nodiscard]] Device& device();

 private:
  const Arguments& arguments_;
  Terminal& terminal_;
  ThreadPool pool_;
  Context context_;
  std::unique_ptr<Device> device_;
};

/// Highest resident memory of this process so far, file pages included (VmHWM), bytes.
[[nodiscard]] std::int64_t PeakMemoryBytes();
/// Memory that can be had without swapping (MemAvailable), bytes; 0 where unknown.
[[nodiscard]] std::int64_t AvailableMemoryBytes();

}  // namespace lieq
