// Steps that come again and again (Device::Repeat): what they queue is written down once, joined
// where one kernel does the work of several, and kept as a CUDA graph. What changes from step to
// step, tokens and spans, lies in a block of the device's memory that the graph's kernels read.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <span>
#include <variant>
#include <vector>

#include "lieq/device/cuda/cuda_products.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

inline constexpr Index kMostRecorded = 16;  // tokens of a step

/// What differs between two steps.
struct StepInputs {
  std::int32_t tokens[kMostRecorded];
  std::int32_t positions[kMostRecorded];
  Span spans[kMostRecorded];
  QueryTile tiles[kMostRecorded];  // one of each span
};
/// to = inputs, which are read before the call returns (steps_of_graph.cu).
void SetStep(const StepInputs& inputs, StepInputs* to, cudaStream_t stream);
/// Row spans[span].keys of the cache = from [1, n].
void StoreToken(Block<const float> from, void* cache, bool half, Index stride, const Span* spans,
                Index span, cudaStream_t stream);

/// Keys or values of a layer.
struct RecordedCache {
  void* rows = nullptr;
  Index count = 0, stride = 0;
  bool half = false;  // f16, else float
};

// The operations, with the arguments of Device's.
struct RecordedNorm {
  Block<const float> x;
  const float* weight;
  double eps;
  Block<float> y;
};
struct RecordedProducts {
  Block<const float> x;
  std::vector<Product> products;
  bool add;
};
struct RecordedRope {
  Block<float> x;
  Block<const float> cosine, sine;
  Index head_dim;
};
struct RecordedStore {
  Block<const float> from;
  RecordedCache cache;
  Index span;
};
struct RecordedAttention {
  Block<const float> q;
  RecordedCache keys, values;
  AttentionHeads heads;
  Block<float> out;
};
struct RecordedSwiGlu {
  Block<float> gate;
  Block<const float> up;
};
struct RecordedOther {  // embeddings and factors
  std::function<void()> queue;
};
using RecordedOperation = std::variant<RecordedNorm, RecordedProducts, RecordedRope, RecordedStore,
                                       RecordedAttention, RecordedSwiGlu, RecordedOther>;

class Recording final : public RepeatedStep {
 public:
  /// Of steps of so many tokens, kMostRecorded at most.
  Recording(Index tokens, Queue& queue);
  ~Recording() override;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// Whether a step is one that is recorded: a token of each span, all behind their pasts.
  [[nodiscard]] static bool Takes(std::span<const TokenId> tokens,
                                  std::span<const AttentionSpan> spans) noexcept;

  /// Forgets what it has, for a step that is added anew. Its block of the device's memory stays: to
  /// give it back would make every other recording one that is made again.
  void Restart(Index tokens);
  void Add(RecordedOperation operation) { operations_.push_back(std::move(operation)); }
  /// Of the step at hand, on the device.
  [[nodiscard]] const StepInputs& inputs() const noexcept { return *inputs_; }
  /// The span whose token stands there in a cache, of those that are being recorded.
  [[nodiscard]] static Index SpanAt(std::span<const AttentionSpan> spans, Index row);

  /// Makes the graph of what was added. Nothing runs yet.
  void Finish(CudaProducts& products);
  /// Whether what it reads and writes is still there, for a step of so many tokens.
  [[nodiscard]] bool Holds(Index tokens) const noexcept;
  void Run(std::span<const TokenId> tokens, std::span<const AttentionSpan> spans);

 private:
  void QueueAll(CudaProducts& products);
  /// Queues operations from `at` on as one kernel where there is one for them; the first behind
  /// them, or `at`.
  [[nodiscard]] std::size_t QueueJoined(std::size_t at, CudaProducts& products);
  [[nodiscard]] std::size_t QueueTokenAttention(std::size_t at);
  void QueueOne(const RecordedOperation& operation, CudaProducts& products);
  /// Whether an operation from `at` on reads what lies there before it is written again.
  [[nodiscard]] bool IsReadFrom(std::size_t at, const float* data) const;

  Queue& queue_;
  Index tokens_;
  std::vector<RecordedOperation> operations_;
  StepInputs* inputs_;
  cudaGraphExec_t graph_ = nullptr;
  Index given_ = 0;  // blocks that the queue had been given back when it was made
};

}  // namespace lieq::cuda
