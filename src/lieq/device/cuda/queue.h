// One GPU, one stream of work on it, its memory, and the ways between it and the host.
//
// Everything here is in the order of the stream: memory that is given back is used again by what is
// queued later, and host memory that was read from or will be written to is pinned memory of ours.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/base/types.h"

namespace lieq::cuda {

/// Throws Error for all but success: `what` could not be done, why, and what helps.
void Check(cudaError_t status, std::string_view what);

/// How many GPUs this program can use here; 0 where there is no driver either.
[[nodiscard]] int GpuCount() noexcept;

struct FreePinned {
  void operator()(void* block) const noexcept { (void)cudaFreeHost(block); }
};
using Pinned = std::unique_ptr<std::byte, FreePinned>;
[[nodiscard]] Pinned TakePinned(std::size_t bytes);

class Queue {
 public:
  /// bound: bytes of the GPU's memory that it takes at most; 0: what there is. Throws Error where
  /// there is no such GPU, or where it or its driver is too old.
  Queue(int index, Index bound, ThreadPool& pool);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// "NVIDIA H200 (compute 9.0), driver 13.0"
  [[nodiscard]] const std::string& gpu() const noexcept { return gpu_; }
  /// Makes the GPU the calling thread's, which whoever queues something has to ask for first.
  [[nodiscard]] cudaStream_t stream() const;
  [[nodiscard]] ThreadPool& pool() noexcept { return pool_; }
  [[nodiscard]] int multiprocessors() const noexcept { return multiprocessors_; }
  /// Of compute capability 9.0 or later: packed.h.
  [[nodiscard]] bool runs_packed() const noexcept { return runs_packed_; }

  [[nodiscard]] Index bound() const noexcept { return bound_; }
  /// The most bytes that were taken at once so far.
  [[nodiscard]] Index Peak() const;
  /// Bytes that lie in blocks now, and those that it holds: what was given back stays.
  [[nodiscard]] Index Used() const;
  [[nodiscard]] Index Held() const;
  /// Throws Error that says how much was asked for and is free.
  [[nodiscard]] void* Take(std::size_t bytes);
  void Give(void* block) noexcept;
  /// Blocks that were given back so far: what was recorded before one of them may be at it.
  [[nodiscard]] Index given() const noexcept { return given_; }

  /// rows of row_bytes, from the host, which is read before the call returns, to the device.
  void Upload(const void* from, std::size_t from_stride, void* to, std::size_t to_stride,
              std::size_t row_bytes, Index rows);
  /// The other way; waits for all that was queued.
  void Download(const void* from, std::size_t from_stride, void* to, std::size_t to_stride,
                std::size_t row_bytes, Index rows);
  /// The same in pieces that `take` is handed: packed rows first .. first + count - 1.
  void Download(const void* from, std::size_t from_stride, std::size_t row_bytes, Index rows,
                const std::function<void(const std::byte* piece, Index first, Index count)>& take);

  /// From the memory of another GPU, or of this one under another queue, to this one's: directly
  /// where they reach one another, else by way of the host. What was queued there before has run,
  /// and has been read, when the call returns.
  void CopyFrom(Queue& other, const void* from, void* to, std::size_t bytes);

  /// Small arguments of kernels: on the device until what is queued next has run.
  template <class T>
  [[nodiscard]] const T* Argument(std::span<const T> values) {
    return static_cast<const T*>(Argument(values.data(), values.size_bytes()));
  }

  /// Room of the host that a kernel may write to, and what becomes of it once it has run.
  template <class T>
  [[nodiscard]] T* Result(std::size_t count, std::function<void(const T*)> deliver) {
    auto* room = static_cast<T*>(ResultRoom(count * sizeof(T)));
    deliveries_.push_back([room, deliver = std::move(deliver)] { deliver(room); });
    return room;
  }

  /// Waits until all has run, and delivers results in the order of the calls.
  void Sync();

 private:
  struct Staging {  // pinned, and free again once its event has passed
    Pinned memory;
    cudaEvent_t passed = nullptr;
  };
  struct ResultBlock {
    Pinned memory;
    std::size_t bytes = 0, used = 0;
  };
  [[nodiscard]] const void* Argument(const void* values, std::size_t bytes);
  [[nodiscard]] void* ResultRoom(std::size_t bytes);
  void Wait();
  /// Lets this GPU reach the other's memory, where the machine can do that.
  void Reach(Queue& other);
  /// Copies rows between host memories on the threads of the pool.
  void CopyRows(const std::byte* from, std::size_t from_stride, std::byte* to,
                std::size_t to_stride, std::size_t row_bytes, Index rows);

  const int index_;
  const Index bound_;
  ThreadPool& pool_;
  std::string gpu_;
  int multiprocessors_ = 0;
  Index given_ = 0;
  bool runs_packed_ = false;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t memory_{};
  Staging staging_[2];
  int next_staging_ = 0;
  Pinned argument_host_;
  std::byte* argument_device_ = nullptr;
  std::size_t argument_bytes_ = 0, argument_used_ = 0;
  std::vector<ResultBlock> result_blocks_;
  std::vector<std::function<void()>> deliveries_;
  std::vector<const Queue*> reached_;
};

/// Memory of the device that grows to the most that was asked for; its contents last until it is
/// asked again.
class Scratch {
 public:
  explicit Scratch(Queue& queue) : queue_(queue) {}
  ~Scratch() { queue_.Give(block_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  [[nodiscard]] T* Get(Index count) {
    const std::size_t bytes = Size(count) * sizeof(T);
    if (bytes > bytes_) {
      queue_.Give(block_);  // the old one goes first
      block_ = nullptr;
      bytes_ = 0;
      block_ = queue_.Take(bytes);
      bytes_ = bytes;
    }
    return static_cast<T*>(block_);
  }

 private:
  Queue& queue_;
  void* block_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace lieq::cuda
