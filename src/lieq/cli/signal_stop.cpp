#include "lieq/cli/signal_stop.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "lieq/base/error.h"

namespace lieq {

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

}  // namespace lieq
