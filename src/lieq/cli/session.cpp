#include "lieq/cli/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <string>
#include <thread>

#include "lieq/base/error.h"
#include "lieq/device/cpu/bf16_gain.h"
#include "lieq/device/devices.h"

namespace lieq {
namespace {

/// Value of a line such as "VmHWM:   12345 kB", in bytes; 0 where there is none.
std::int64_t KilobyteLine(const char* file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(key)) return std::atoll(line.c_str() + key.size()) * 1024;
  }
  return 0;
}

void SayTo(const Log& log, LogLevel level, std::string_view text) {
  if (level == LogLevel::kDebug) {
    log.Debug(text);
  } else if (level == LogLevel::kInfo) {
    log.Info(text);
  } else {
    log.Warning(text);
  }
}

int ThreadCount(const Arguments& arguments) {
  if (arguments.threads > 0) return arguments.threads;
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

struct SignalStop::State {
  std::stop_source source;
  std::atomic<int> signal{0};
  int pipe[2] = {-1, -1};
  std::thread waiter;
};

namespace {

// A handler, and not sigwait with blocked signals: libraries such as OpenBLAS start threads before
// main, where nothing is blocked. A handler can reach static storage alone.
std::atomic<int> g_signal_pipe{-1};

void OnSignal(int signal) {
  const auto byte = static_cast<unsigned char>(signal);
  const int saved = errno;
  (void)!::write(g_signal_pipe, &byte, 1);
  errno = saved;
}

}  // namespace

SignalStop::SignalStop() : state_(std::make_unique<State>()) {
  if (::pipe2(state_->pipe, O_CLOEXEC) != 0) {
    throw Error({.what = "cannot make a pipe for signals"});
  }
  g_signal_pipe = state_->pipe[1];
  struct sigaction action{};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  state_->waiter = std::thread([state = state_.get()] {
    unsigned char received = 0;
    while (::read(state->pipe[0], &received, 1) == 1 && received != 0) {
      if (state->signal.exchange(received) != 0) ::_exit(128 + received);
      state->source.request_stop();
    }
  });
}

SignalStop::~SignalStop() {
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  OnSignal(0);  // ends the waiter
  state_->waiter.join();
  ::close(state_->pipe[0]);
  ::close(state_->pipe[1]);
}

std::stop_token SignalStop::token() const noexcept {
  return state_->source.get_token();
}
int SignalStop::signal() const noexcept {
  return state_->signal;
}

Session::Session(const Arguments& arguments, Outputs outputs, std::stop_token stop)
    : arguments_(arguments),
      outputs_(std::move(outputs)),
      log_([this](LogLevel level, std::string_view text) {
        {
          const std::lock_guard lock(said_mutex_);
          if (!said_.emplace(text).second) return;
        }
        SayTo(outputs_.log, level, text);
      }),
      pool_(ThreadCount(arguments)),
      context_{pool_, log_, outputs_.progress, std::move(stop)} {}

Device& Session::device() {
  if (!device_) {
    arithmetic_ = arguments_.arithmetic;
    if (arguments_.probes_arithmetic) {
      const double gain = Bf16Gain(pool_, arguments_.kernels);
      arithmetic_ = gain > 1 ? Arithmetic::kBf16 : Arithmetic::kFloat32;
      log().Info(gain == 0 ? "products in float32: this processor has no bf16 arithmetic"
                           : fmt::format("products in {}: bf16 is {:.2f} times as fast here",
                                         Name(arithmetic_), gain));
    }
    device_ = MakeDevice(arguments_.device, pool_,
                         {.kernels = arguments_.kernels, .arithmetic = arithmetic_});
    log().Debug(device_->description() + ", " + std::to_string(pool_.size()) + " threads");
  }
  return *device_;
}

std::int64_t PeakMemoryBytes() {
  return KilobyteLine("/proc/self/status", "VmHWM:");
}
std::int64_t AvailableMemoryBytes() {
  return KilobyteLine("/proc/meminfo", "MemAvailable:");
}

}  // namespace lieq
