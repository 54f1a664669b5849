// NVIDIA's library of products, cuBLASLt, where the machine has it: it is looked for when a device
// is made, so that a program needs it neither to be built nor to run.
#pragma once

#include <memory>
#include <string>

#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/queue.h"

namespace lieq::cuda {

enum class Element { kFloat, kBf16 };

/// A factor of a product as it lies in memory: [rows, cols] of a row stride.
struct Operand {
  const void* data;
  Index rows, cols, stride;
  bool transposed;
};

class CublasLt {
 public:
  /// Null where the library is nowhere, or not wanted.
  [[nodiscard]] static std::unique_ptr<CublasLt> Find(Queue& queue);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// "cuBLASLt 13.1.0"
  [[nodiscard]] std::string description() const;
  /// y = a b, or y += a b: both factors of one type, transposed as they say; float sums and result,
  /// and no rounding of float factors (no TF32). False where the library has nothing for these
  /// shapes; then nothing was queued. The same bytes each time.
  [[nodiscard]] bool Multiply(Element type, const Operand& a, const Operand& b, Block<float> y,
                              bool add);

 private:
  struct Functions;
  struct Plans;
  CublasLt(Queue& queue, std::unique_ptr<Functions> functions);

  Queue& queue_;
  std::unique_ptr<Functions> functions_;
  std::unique_ptr<Plans> plans_;
  Scratch workspace_;
};

}  // namespace lieq::cuda
