// A fixed set of threads that run numbered tasks.
//
// The split of work into tasks must depend on shapes only, never on size(), so that results are
// the same bytes for any number of threads (see docs/numerics.md).
#pragma once

#include <functional>
#include <memory>

#include "lieq/base/types.h"

namespace lieq {

class ThreadPool {
 public:
  /// threads >= 1; the calling thread is one of them, so threads - 1 are started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const noexcept;

  /// Calls task(i, worker) for i in 0..count-1, worker in 0..size()-1, and returns when all are
  /// done. Tasks are handed out in rising order. Where tasks throw, the exception of the lowest
  /// index that threw is rethrown here after all running tasks ended; tasks not yet begun are
  /// skipped. Not to be called from inside a task.
  void ParallelFor(Index count, const std::function<void(Index task, int worker)>& task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lieq
