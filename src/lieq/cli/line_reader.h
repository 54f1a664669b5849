// Lines that a user types, or that come through a pipe.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

namespace lieq {

class LineReader {
 public:
  explicit LineReader(int file = 0) : file_(file) {}

  /// The next line without its newline, or what stands behind the last one; nothing at the end of
  /// the input. Waits, and looks for a stop request meanwhile: throws Stopped.
  [[nodiscard]] std::optional<std::string> Next(const std::stop_token& stop);
  /// Whether somebody types.
  [[nodiscard]] bool interactive() const noexcept;

 private:
  int file_;
  std::string pending_;
  bool ended_ = false;
};

}  // namespace lieq
