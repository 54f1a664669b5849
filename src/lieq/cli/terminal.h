// stderr: messages, and progress with rate and time left where it is a terminal.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "lieq/base/log.h"
#include "lieq/base/progress.h"

namespace lieq {

struct TerminalOptions {
  bool quiet = false;
  bool verbose = false;
};

class Terminal {
 public:
  explicit Terminal(const TerminalOptions& options);
  ~Terminal();

  [[nodiscard]] const Log& log() const noexcept { return log_; }
  [[nodiscard]] Progress& progress() noexcept { return *progress_; }
  void Error(std::string_view text);

 private:
  void Write(LogLevel level, std::string_view text);

  TerminalOptions options_;
  bool terminal_ = false;
  bool color_ = false;
  Log log_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace lieq
