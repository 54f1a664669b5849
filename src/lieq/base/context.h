// What every long-running function is handed: threads, messages, progress, and a way to stop.
#pragma once

#include <stop_token>

#include "lieq/base/error.h"
#include "lieq/base/log.h"
#include "lieq/base/progress.h"
#include "lieq/base/thread_pool.h"

namespace lieq {

struct Context {
  ThreadPool& pool;
  const Log& log;
  Progress& progress;
  std::stop_token stop;

  /// To be called where stopping loses nothing. Throws Stopped.
  void ThrowIfStopped() const {
    if (stop.stop_requested()) throw Stopped();
  }
};

}  // namespace lieq
