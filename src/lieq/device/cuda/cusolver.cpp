#include "lieq/device/cuda/cusolver.h"

#include <array>
#include <string>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/device/cuda/libraries.h"

namespace lieq::cuda {
namespace {

// What of cuSOLVER's interface is used, from its documentation (docs.nvidia.com/cuda/cusolver). It
// is the same in the versions of CUDA 12 and 13, whose files have the numbers 11 and 12.
using Handle = void*;
using Status = int;        // 0: success
constexpr int kUpper = 1;  // CUBLAS_FILL_MODE_UPPER
constexpr std::array kNames{"libcusolver.so.12", "libcusolver.so.11", "libcusolver.so"};

void Require(Status status) {
  if (status == 0) return;
  throw Error(
      {.what = "cuSOLVER failed",
       .where = "--device cuda",
       .found = "status " + std::to_string(status),
       .hint = std::string(kLibraryFolders) + "=" + kNoLibrary + " does without it, slower"});
}

}  // namespace

struct Cusolver::Functions {
  Handle handle = nullptr;
  Status (*create)(Handle*) = nullptr;
  Status (*destroy)(Handle) = nullptr;
  Status (*set_stream)(Handle, cudaStream_t) = nullptr;
  Status (*room)(Handle, int fill, int n, double* a, int stride, int* count) = nullptr;
  Status (*cholesky)(Handle, int fill, int n, double* a, int stride, double* room, int count,
                     int* info) = nullptr;
};

std::unique_ptr<Cusolver> Cusolver::Find(Queue& queue) {
  (void)queue.stream();  // the handle is of the GPU that is the thread's
  const Library library(kNames);
  auto functions = std::make_unique<Functions>();
  const bool all = library.Find("cusolverDnCreate", functions->create) &&
                   library.Find("cusolverDnDestroy", functions->destroy) &&
                   library.Find("cusolverDnSetStream", functions->set_stream) &&
                   library.Find("cusolverDnDpotrf_bufferSize", functions->room) &&
                   library.Find("cusolverDnDpotrf", functions->cholesky);
  if (!all || functions->create(&functions->handle) != 0) return nullptr;
  return std::unique_ptr<Cusolver>(new Cusolver(queue, std::move(functions)));
}

Cusolver::Cusolver(Queue& queue, std::unique_ptr<Functions> functions)
    : queue_(queue), functions_(std::move(functions)) {}

Cusolver::~Cusolver() {
  (void)functions_->destroy(functions_->handle);
}

bool Cusolver::Cholesky(double* a, Index n) {
  const Functions& call = *functions_;
  const auto size = static_cast<int>(n);
  Require(call.set_stream(call.handle, queue_.stream()));
  int count = 0;
  // Column by column the lower triangle is the upper one: A = Uᵀ U, and L is Uᵀ.
  Require(call.room(call.handle, kUpper, size, a, size, &count));
  Scratch room(queue_), info(queue_);
  int* failed = info.Get<int>(1);
  Require(
      call.cholesky(call.handle, kUpper, size, a, size, room.Get<double>(count), count, failed));
  int pivot = 0;
  queue_.Download(failed, sizeof pivot, &pivot, sizeof pivot, sizeof pivot, 1);
  return pivot == 0;
}

}  // namespace lieq::cuda
