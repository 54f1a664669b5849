#include "lieq/base/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

/// Looks at `there` for some ten microseconds, and less on processors whose pause is short: a pool
/// that runs one small product after another would sleep and wake longer than it works.
template <class Function>
void LookFor(int looks, const Function& there) {
  for (int i = 0; i < looks && !there(); ++i) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }
}

constexpr int kLooks = 300;

}  // namespace

/// A call of ParallelFor is open from the moment it is written down until its caller closes it. A
/// worker joins while it is open, under the mutex; tasks are taken without.
struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable done;
  const std::function<void(Index, int)>* task = nullptr;  // of the open call; null: none is
  Index count = 0;
  std::exception_ptr error;
  Index error_task = 0;
  std::atomic<Index> next = 0;
  std::atomic<int> active = 0;                // workers that joined and have not left
  std::atomic<std::uint64_t> generation = 0;  // of calls, so that a worker joins each one once
  std::atomic<bool> quit = false;
  std::atomic<bool> busy = false;  // inside ParallelFor
  int looks = 0;
  std::vector<std::thread> threads;

  void Drain(const std::function<void(Index, int)>& run, Index end, int worker) {
    for (Index index = next.fetch_add(1); index < end; index = next.fetch_add(1)) {
      try {
        run(index, worker);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!error || index < error_task) {
          error = std::current_exception();
          error_task = index;
        }
        next = end;
      }
    }
  }

  void Work(int worker) {
    std::uint64_t seen = 0;
    while (true) {
      const auto called = [&] { return quit || generation != seen; };
      LookFor(looks, called);
      std::unique_lock lock(mutex);
      start.wait(lock, called);
      if (quit) return;
      seen = generation;
      if (task == nullptr) continue;  // closed already
      const std::function<void(Index, int)>& run = *task;
      const Index end = count;
      ++active;
      lock.unlock();
      Drain(run, end, worker);
      if (--active > 0) continue;
      lock.lock();  // so that a caller who has just looked is asleep by now, and hears it
      done.notify_all();
    }
  }

  void Run(Index tasks, const std::function<void(Index, int)>& run) {
    if (tasks == 1 || threads.empty()) {
      for (Index index = 0; index < tasks; ++index) run(index, 0);
      return;
    }
    {
      const std::scoped_lock lock(mutex);
      task = &run;
      count = tasks;
      next = 0;
      ++generation;
    }
    start.notify_all();
    Drain(run, tasks, 0);
    {
      const std::scoped_lock lock(mutex);
      task = nullptr;
    }
    const auto left = [&] { return active == 0; };
    LookFor(looks, left);
    std::unique_lock lock(mutex);
    done.wait(lock, left);
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  LIEQ_ASSERT(threads >= 1);
  // Where threads are more than processors, one that looks keeps another from working.
  const bool apart = static_cast<unsigned>(threads) <= std::thread::hardware_concurrency();
  state_->looks = apart ? kLooks : 0;
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
  const bool nested = state_->busy.exchange(true);
  LIEQ_ASSERT(!nested);
  struct Free {
    std::atomic<bool>& busy;
    ~Free() { busy = false; }
  } free{state_->busy};
  state_->Run(count, task);
}

}  // namespace lieq
