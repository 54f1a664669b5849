// NVIDIA's library of factorisations, cuSOLVER, where the machine has it.
#pragma once

#include <memory>

#include "lieq/base/types.h"
#include "lieq/device/cuda/queue.h"

namespace lieq::cuda {

class Cusolver {
 public:
  /// Null where the library is nowhere, or not wanted.
  [[nodiscard]] static std::unique_ptr<Cusolver> Find(Queue& queue);
  ~Cusolver();
  Cusolver(const Cusolver&) = delete;
  Cusolver& operator=(const Cusolver&) = delete;

  /// a = L of a = L Lᵀ, in its lower triangle; a [n, n] without gaps. False: not positive definite.
  [[nodiscard]] bool Cholesky(double* a, Index n);

 private:
  struct Functions;
  Cusolver(Queue& queue, std::unique_ptr<Functions> functions);

  Queue& queue_;
  std::unique_ptr<Functions> functions_;
};

}  // namespace lieq::cuda
