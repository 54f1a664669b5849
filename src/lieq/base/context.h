// What every long-running function is handed: threads, messages, progress, a way to stop, and where
// several processes share the work, its pieces.
#pragma once

#include <stop_token>
#include <string>

#include "lieq/base/error.h"
#include "lieq/base/log.h"
#include "lieq/base/progress.h"
#include "lieq/base/thread_pool.h"
#include "lieq/base/work_pieces.h"

namespace lieq {

struct Context {
  ThreadPool& pool;
  const Log& log;
  Progress& progress;
  std::stop_token stop;
  WorkPieces* pieces = nullptr;  // null: all is computed here
  std::string scope{};           // what keys of pieces begin with: of which model, on which text

  /// To be called where stopping loses nothing. Throws Stopped.
  void ThrowIfStopped() const {
    if (stop.stop_requested()) throw Stopped();
  }
  /// Whether this is a part of a run, whose result is its pieces.
  [[nodiscard]] bool is_part() const { return pieces != nullptr && pieces->computes(); }
  /// Whether results are of all pieces.
  [[nodiscard]] bool whole() const { return pieces == nullptr || pieces->whole(); }
};

/// What is done while it lives is done here whole, as a piece of its own.
class WithoutPieces {
 public:
  explicit WithoutPieces(Context& context) : context_(context), pieces_(context.pieces) {
    context_.pieces = nullptr;
  }
  ~WithoutPieces() { context_.pieces = pieces_; }
  WithoutPieces(const WithoutPieces&) = delete;
  WithoutPieces& operator=(const WithoutPieces&) = delete;

 private:
  Context& context_;
  WorkPieces* pieces_;
};

}  // namespace lieq
