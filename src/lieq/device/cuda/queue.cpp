#include "lieq/device/cuda/queue.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq::cuda {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{16} << 20;
constexpr std::size_t kArgumentBytes = std::size_t{1} << 20;
constexpr std::size_t kResultBytes = std::size_t{1} << 20;
constexpr std::size_t kAligned = 256;  // of arguments and results within their blocks
constexpr int kLeastMajor = 8;         // compute capability: bf16 tensor cores

constexpr std::size_t RoundUp(std::size_t bytes) {
  return (bytes + kAligned - 1) / kAligned * kAligned;
}

/// "13.0" of 13000
std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string GiB(std::size_t bytes) {
  const auto tenths = (bytes * 10 + (std::size_t{1} << 29)) >> 30;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GiB";
}

constexpr const char* kOnProcessor = "--device cpu needs no GPU";

[[noreturn]] void FailOfDriver() {
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  const std::string needed = "a driver for CUDA " + VersionText(CUDART_VERSION) + " or newer";
  if (driver == 0) {
    throw Error({.what = "there is no NVIDIA driver on this machine",
                 .where = "--device cuda",
                 .expected = needed,
                 .hint = std::string("install it, or ") + kOnProcessor});
  }
  throw Error({.what = "the NVIDIA driver is too old",
               .where = "--device cuda",
               .expected = needed,
               .found = "one for CUDA " + VersionText(driver),
               .hint = std::string("update it, or ") + kOnProcessor});
}

/// The number of GPUs; throws Error where there are none.
int RequireGpus() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) FailOfDriver();
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    throw Error(
        {.what = "there is no NVIDIA GPU that this process may use",
         .where = "--device cuda",
         .hint = std::string("look at nvidia-smi and CUDA_VISIBLE_DEVICES; ") + kOnProcessor});
  }
  Check(status, "finding the GPUs");
  return count;
}

Index Asked(cudaMemPool_t memory, cudaMemPoolAttr what) {
  std::uint64_t bytes = 0;
  Check(cudaMemPoolGetAttribute(memory, what, &bytes), "asking for memory");
  return static_cast<Index>(bytes);
}

}  // namespace

void Check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // where it can be, it is taken back: what follows says its own
  const bool memory = status == cudaErrorMemoryAllocation;
  throw Error({.what = "the GPU failed at " + std::string(what),
               .where = "--device cuda",
               .found = std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status),
               .hint = memory ? "the GPU's memory is full: shorter windows (--context) or another "
                                "GPU (--device cuda:N) may do; --device cpu needs none"
                              : "give the same command again: what was finished is kept; where it "
                                "stays, --device cpu needs no GPU"});
}

int GpuCount() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

Pinned TakePinned(std::size_t bytes) {
  void* block = nullptr;
  Check(cudaHostAlloc(&block, bytes, cudaHostAllocPortable | cudaHostAllocMapped),
        "taking memory of the host that it can reach");
  return Pinned(static_cast<std::byte*>(block));
}

Queue::Queue(int index, Index bound, ThreadPool& pool) : index_(index), bound_(bound), pool_(pool) {
  const int count = RequireGpus();
  if (index >= count) {
    throw Error({.what = "there is no GPU of this number",
                 .where = "--device",
                 .expected = count == 1 ? std::string("cuda:0")
                                        : "cuda:0 to cuda:" + std::to_string(count - 1),
                 .found = "cuda:" + std::to_string(index)});
  }
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, index), "asking what it is");
  const std::string compute =
      std::to_string(properties.major) + "." + std::to_string(properties.minor);
  if (properties.major < kLeastMajor) {
    throw Error({.what = "this GPU is too old",
                 .where = "--device cuda:" + std::to_string(index),
                 .expected = "compute capability 8.0 or later (Ampere)",
                 .found = std::string(properties.name) + ", " + compute,
                 .hint = kOnProcessor});
  }
  multiprocessors_ = properties.multiProcessorCount;
  runs_packed_ = properties.major >= 9;
  int driver = 0;
  Check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  gpu_ = std::string(properties.name) + " (compute " + compute + "), driver for CUDA " +
         VersionText(driver);
  Check(cudaSetDevice(index), "starting");
  Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "starting");
  // What is given back stays ours: taking it again is a matter of microseconds.
  std::uint64_t all = UINT64_MAX;
  cudaMemPoolProps kind{};
  kind.allocType = cudaMemAllocationTypePinned;
  kind.location = {cudaMemLocationTypeDevice, index};
#if CUDART_VERSION >= 12020
  kind.maxSize = Size(bound);
#else
  if (bound > 0) {
    throw Error({.what = "a bound on the GPU's memory is not there in this build",
                 .where = "--device-memory",
                 .expected = "a program that was built with CUDA 12.2 or newer"});
  }
#endif
  Check(cudaMemPoolCreate(&memory_, &kind), "starting");
  Check(cudaMemPoolSetAttribute(memory_, cudaMemPoolAttrReleaseThreshold, &all), "starting");
  for (Staging& staging : staging_) {
    staging.memory = TakePinned(kStagingBytes);
    Check(cudaEventCreateWithFlags(&staging.passed, cudaEventDisableTiming), "starting");
  }
}

Queue::~Queue() {
  (void)cudaSetDevice(index_);
  (void)cudaStreamSynchronize(stream_);
  Give(argument_device_);
  for (const Staging& staging : staging_) (void)cudaEventDestroy(staging.passed);
  (void)cudaStreamDestroy(stream_);
  (void)cudaMemPoolDestroy(memory_);
}

Index Queue::Peak() const {
  return Asked(memory_, cudaMemPoolAttrReservedMemHigh);
}

Index Queue::Used() const {
  return Asked(memory_, cudaMemPoolAttrUsedMemCurrent);
}

Index Queue::Held() const {
  return Asked(memory_, cudaMemPoolAttrReservedMemCurrent);
}

cudaStream_t Queue::stream() const {
  Check(cudaSetDevice(index_), "taking up work");
  return stream_;
}

void* Queue::Take(std::size_t bytes) {
  void* block = nullptr;
  const auto take = [&] {
    return cudaMallocFromPoolAsync(&block, std::max<std::size_t>(bytes, 1), memory_, stream());
  };
  cudaError_t status = take();
  if (status == cudaErrorMemoryAllocation) {  // what was given back may lie in pieces too small
    (void)cudaGetLastError();
    Wait();
    Check(cudaMemPoolTrimTo(memory_, 0), "giving memory back");
    status = take();
  }
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    if (bound_ > 0) {
      throw Error({.what = "the bound on the GPU's memory is too low",
                   .where = "--device-memory",
                   .expected = GiB(bytes) + " more",
                   .found = GiB(Size(bound_)) + " in all",
                   .hint = "a higher bound or shorter windows (--context) do"});
    }
    std::size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    throw Error({.what = "the GPU's memory is full",
                 .where = gpu_,
                 .expected = GiB(bytes) + " more",
                 .found = GiB(free) + " free of " + GiB(total),
                 .hint = "end what else runs on it (nvidia-smi), or take shorter windows "
                         "(--context), another GPU (--device cuda:N) or --device cpu"});
  }
  Check(status, "taking memory");
  return block;
}

void Queue::Give(void* block) noexcept {
  if (block == nullptr) return;
  ++given_;
  (void)cudaSetDevice(index_);
  (void)cudaFreeAsync(block, stream_);
}

void Queue::CopyRows(const std::byte* from, std::size_t from_stride, std::byte* to,
                     std::size_t to_stride, std::size_t row_bytes, Index rows) {
  if (from_stride == row_bytes && to_stride == row_bytes) {  // one long row
    row_bytes *= Size(rows);
    rows = 1;
  }
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  const Index pieces = CeilDiv(static_cast<Index>(row_bytes), kPiece);
  const Index rows_of_task = std::max<Index>(1, static_cast<Index>(kPiece / (row_bytes + 1)));
  const Index tasks = CeilDiv(rows, rows_of_task) * pieces;
  const auto run = [&](Index task, int) {
    const Index first = task / pieces * rows_of_task, last = std::min(rows, first + rows_of_task);
    const std::size_t at = Size(task % pieces) * kPiece, bytes = std::min(kPiece, row_bytes - at);
    for (Index r = first; r < last; ++r) {
      std::memcpy(to + Size(r) * to_stride + at, from + Size(r) * from_stride + at, bytes);
    }
  };
  if (tasks == 1) return run(0, 0);
  pool_.ParallelFor(tasks, run);
}

void Queue::Upload(const void* from, std::size_t from_stride, void* to, std::size_t to_stride,
                   std::size_t row_bytes, Index rows) {
  if (row_bytes == 0 || rows == 0) return;
  const cudaStream_t queue = stream();
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  if (from_stride == row_bytes && to_stride == row_bytes) {  // no gaps: any cut will do
    const std::size_t all = row_bytes * Size(rows);
    row_bytes = from_stride = to_stride = std::min(all, kStagingBytes);
    rows = static_cast<Index>(all / row_bytes);
    const std::size_t rest = all - Size(rows) * row_bytes;
    if (rest > 0) Upload(source + (all - rest), rest, target + (all - rest), rest, rest, 1);
  }
  if (row_bytes > kStagingBytes) {  // rows too long for it, one by one
    for (Index r = 0; r < rows; ++r) {
      Upload(source + Size(r) * from_stride, row_bytes, target + Size(r) * to_stride, row_bytes,
             row_bytes, 1);
    }
    return;
  }
  const auto most = static_cast<Index>(kStagingBytes / row_bytes);
  for (Index first = 0; first < rows; first += most) {
    const Index count = std::min(most, rows - first);
    Staging& staging = staging_[std::exchange(next_staging_, 1 - next_staging_)];
    Check(cudaEventSynchronize(staging.passed), "copying to it");
    CopyRows(source + Size(first) * from_stride, from_stride, staging.memory.get(), row_bytes,
             row_bytes, count);
    Check(cudaMemcpy2DAsync(target + Size(first) * to_stride, to_stride, staging.memory.get(),
                            row_bytes, row_bytes, Size(count), cudaMemcpyHostToDevice, queue),
          "copying to it");
    Check(cudaEventRecord(staging.passed, queue), "copying to it");
  }
}

void Queue::Download(
    const void* from, std::size_t from_stride, std::size_t row_bytes, Index rows,
    const std::function<void(const std::byte* piece, Index first, Index count)>& take) {
  if (row_bytes == 0 || rows == 0) return Wait();
  LIEQ_ASSERT(row_bytes <= kStagingBytes);
  const cudaStream_t queue = stream();
  const auto* source = static_cast<const std::byte*>(from);
  const auto most = static_cast<Index>(kStagingBytes / row_bytes);
  const auto start = [&](Index first, Staging& staging) {
    Check(cudaMemcpy2DAsync(staging.memory.get(), row_bytes, source + Size(first) * from_stride,
                            from_stride, row_bytes, Size(std::min(most, rows - first)),
                            cudaMemcpyDeviceToHost, queue),
          "copying from it");
    Check(cudaEventRecord(staging.passed, queue), "copying from it");
  };
  for (const Staging& staging : staging_) Check(cudaEventSynchronize(staging.passed), "waiting");
  start(0, staging_[0]);
  int turn = 0;
  for (Index first = 0; first < rows; first += most, turn = 1 - turn) {  // one is under way ahead
    if (first + most < rows) start(first + most, staging_[1 - turn]);
    Check(cudaEventSynchronize(staging_[turn].passed), "copying from it");
    take(staging_[turn].memory.get(), first, std::min(most, rows - first));
  }
}

void Queue::Download(const void* from, std::size_t from_stride, void* to, std::size_t to_stride,
                     std::size_t row_bytes, Index rows) {
  auto* target = static_cast<std::byte*>(to);
  if (row_bytes > kStagingBytes) {  // rows too long for it, one by one and cut
    const auto* source = static_cast<const std::byte*>(from);
    for (Index r = 0; r < rows; ++r) {
      for (std::size_t at = 0; at < row_bytes; at += kStagingBytes) {
        const std::size_t bytes = std::min(kStagingBytes, row_bytes - at);
        Download(source + Size(r) * from_stride + at, bytes, target + Size(r) * to_stride + at,
                 bytes, bytes, 1);
      }
    }
    return;
  }
  Download(
      from, from_stride, row_bytes, rows, [&](const std::byte* piece, Index first, Index count) {
        CopyRows(piece, row_bytes, target + Size(first) * to_stride, to_stride, row_bytes, count);
      });
}

void Queue::Reach(Queue& other) {
  if (other.index_ == index_ || std::ranges::find(reached_, &other) != reached_.end()) return;
  reached_.push_back(&other);
  int can = 0;
  if (cudaDeviceCanAccessPeer(&can, index_, other.index_) == cudaSuccess && can != 0) {
    cudaMemAccessDesc access{};
    access.location = {cudaMemLocationTypeDevice, index_};
    access.flags = cudaMemAccessFlagsProtReadWrite;
    (void)cudaMemPoolSetAccess(other.memory_, &access, 1);
  }
  (void)cudaGetLastError();  // copies find another way
}

void Queue::CopyFrom(Queue& other, const void* from, void* to, std::size_t bytes) {
  other.Wait();
  Reach(other);
  const cudaStream_t queue = stream();
  if (cudaMemcpyPeerAsync(to, index_, from, other.index_, bytes, queue) == cudaSuccess) {
    return Wait();
  }
  (void)cudaGetLastError();
  std::vector<std::byte> host(std::min(bytes, kStagingBytes));
  for (std::size_t at = 0; at < bytes; at += host.size()) {
    const std::size_t some = std::min(host.size(), bytes - at);
    other.Download(static_cast<const std::byte*>(from) + at, some, host.data(), some, some, 1);
    Upload(host.data(), some, static_cast<std::byte*>(to) + at, some, some, 1);
  }
}

const void* Queue::Argument(const void* values, std::size_t bytes) {
  const cudaStream_t queue = stream();
  const std::size_t room = RoundUp(std::max<std::size_t>(bytes, 1));
  if (argument_used_ + room > argument_bytes_) {  // begin again at the front
    Check(cudaStreamSynchronize(queue), "waiting");
    argument_used_ = 0;
    if (room > argument_bytes_) {
      Give(std::exchange(argument_device_, nullptr));
      argument_host_.reset();
      argument_bytes_ = std::max(kArgumentBytes, 2 * room);
      argument_host_ = TakePinned(argument_bytes_);
      argument_device_ = static_cast<std::byte*>(Take(argument_bytes_));
    }
  }
  std::byte* host = argument_host_.get() + argument_used_;
  std::byte* device = argument_device_ + argument_used_;
  argument_used_ += room;
  std::memcpy(host, values, bytes);
  Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, queue), "copying to it");
  return device;
}

void* Queue::ResultRoom(std::size_t bytes) {
  const std::size_t room = RoundUp(std::max<std::size_t>(bytes, 1));
  if (result_blocks_.empty() || result_blocks_.back().used + room > result_blocks_.back().bytes) {
    const std::size_t size = std::max(kResultBytes, room);
    result_blocks_.push_back({TakePinned(size), size, 0});
  }
  ResultBlock& block = result_blocks_.back();
  return block.memory.get() + std::exchange(block.used, block.used + room);
}

void Queue::Wait() {
  Check(cudaStreamSynchronize(stream()), "computing");
}

void Queue::Sync() {
  Wait();
  const auto deliveries = std::exchange(deliveries_, {});
  for (const auto& deliver : deliveries) deliver();
  if (result_blocks_.size() > 1) result_blocks_.resize(1);
  if (!result_blocks_.empty()) result_blocks_.front().used = 0;
}

}  // namespace lieq::cuda
