// A way for the user to stop a command, which then keeps what it has finished.
#pragma once

#include <memory>
#include <stop_token>

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

}  // namespace lieq
