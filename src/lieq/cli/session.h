// What a command works with: where its messages go, threads, device, and a way to be stopped.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>

#include "lieq/base/context.h"
#include "lieq/cli/arguments.h"
#include "lieq/device/device.h"
#include "lieq/io/json.h"

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

/// Where what a command says goes: the terminal, or the caller in a process that runs commands of
/// its own. What is referred to must outlive the command.
struct Outputs {
  const Log& log;
  Progress& progress;
  std::function<void(const Record&)> record;  // the result, under --json
};

class Session {
 public:
  Session(const Arguments& arguments, Outputs outputs, std::stop_token stop);

  [[nodiscard]] Context& context() noexcept { return context_; }
  [[nodiscard]] ThreadPool& pool() noexcept { return pool_; }
  /// Says a thing once: what a command says of an input that it reads again, it has said.
  [[nodiscard]] const Log& log() const noexcept { return log_; }
  /// Of the device's products.
  [[nodiscard]] Arithmetic arithmetic() {
    (void)device();
    return arithmetic_;
  }
  /// Gives the result of a command under --json.
  void Answer(const Record& record) const { outputs_.record(record); }
  /// Made on first use, so that commands without arithmetic do not pay for it. --arithmetic auto
  /// is what a short probe finds faster then, and is said.
  [[nodiscard]] Device& device();

 private:
  const Arguments& arguments_;
  Outputs outputs_;
  std::mutex said_mutex_;
  std::set<std::string, std::less<>> said_;
  Log log_;
  ThreadPool pool_;
  Context context_;
  std::unique_ptr<Device> device_;
  Arithmetic arithmetic_ = Arithmetic::kFloat32;
};

/// Highest resident memory of this process so far, file pages included (VmHWM), bytes.
[[nodiscard]] std::int64_t PeakMemoryBytes();
/// Memory that can be had without swapping (MemAvailable), bytes; 0 where unknown.
[[nodiscard]] std::int64_t AvailableMemoryBytes();

}  // namespace lieq
