// A silent Context with a number of threads.
#pragma once

#include "lieq/base/context.h"

namespace lieq {

struct TestContext {
  explicit TestContext(int threads = 2) : pool(threads), context{pool, log, progress, {}} {}
  ThreadPool pool;
  Log log;
  Progress progress;
  Context context;
};

}  // namespace lieq
