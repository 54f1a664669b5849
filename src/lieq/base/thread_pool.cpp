#include "lieq/base/thread_pool.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"

namespace lieq {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable done;
  const std::function<void(Index, int)>* task = nullptr;
  Index count = 0;
  Index next = 0;
  int active = 0;                // workers inside Drain
  std::uint64_t generation = 0;  // of ParallelFor calls, so that a worker joins each one once
  bool quit = false;
  std::exception_ptr error;
  Index error_task = 0;
  std::vector<std::thread> threads;

  void Drain(int worker, std::unique_lock<std::mutex>& lock) {
    ++active;
    while (next < count) {
      const Index index = next++;
      lock.unlock();
      std::exception_ptr caught;
      try {
        (*task)(index, worker);
      } catch (...) {
        caught = std::current_exception();
      }
      lock.lock();
      if (caught) {
        if (!error || index < error_task) {
          error = caught;
          error_task = index;
        }
        next = count;
      }
    }
    if (--active == 0) done.notify_all();
  }

  void Work(int worker) {
    std::unique_lock lock(mutex);
    std::uint64_t seen = 0;
    while (true) {
      start.wait(lock, [&] { return quit || generation != seen; });
      if (quit) return;
      seen = generation;
      Drain(worker, lock);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  LIEQ_ASSERT(threads >= 1);
  for (int worker = 1; worker < threads; ++worker) {
    state_->threads.emplace_back([state = state_.get(), worker] { state->Work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->quit = true;
  }
  state_->start.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::size() const noexcept {
  return static_cast<int>(state_->threads.size()) + 1;
}

void ThreadPool::ParallelFor(Index count, const std::function<void(Index, int)>& task) {
  if (count <= 0) return;
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  LIEQ_ASSERT(state.task == nullptr);  // no nesting
  state.task = &task;
  state.count = count;
  state.next = 0;
  state.error = nullptr;
  ++state.generation;
  if (count > 1) state.start.notify_all();
  state.Drain(0, lock);
  state.done.wait(lock, [&] { return state.active == 0; });
  state.task = nullptr;
  state.count = 0;
  if (state.error) std::rethrow_exception(std::exchange(state.error, nullptr));
}

}  // namespace lieq
