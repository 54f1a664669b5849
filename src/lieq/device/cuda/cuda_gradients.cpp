#include "lieq/device/cuda/cuda_gradients.h"

#include <algorithm>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/device/cuda/attention_pairs.h"
#include "lieq/device/cuda/block_of.h"
#include "lieq/device/cuda/gradient_kernels.h"
#include "lieq/device/device_access.h"

namespace lieq::cuda {
namespace {

void Started(const char* operation) {
  Check(cudaGetLastError(), operation);
}

/// Where a kernel writes what the span has after the next Sync.
double* Later(Queue& queue, std::span<double> to) {
  return queue.Result<double>(
      to.size(), [to](const double* found) { std::copy_n(found, to.size(), to.begin()); });
}

const double* LogSums(Queue& queue, Scratch& scratch, DeviceView<const float> x) {
  auto* found = scratch.Get<double>(std::max<Index>(x.rows(), 1));
  LogSumExp(BlockOf(x), found, queue.stream());
  return found;
}

}  // namespace

CudaGradients::CudaGradients(Queue& queue, CudaProducts& products, Arithmetic arithmetic)
    : queue_(queue),
      products_(products),
      arithmetic_(arithmetic),
      log_sums_(queue),
      other_log_sums_(queue),
      of_queries_(queue) {}

void CudaGradients::MatmulGradient(DeviceView<const float> dy, const PreparedMatrix& w,
                                   DeviceView<float> dx, bool add) {
  products_.MultiplyBack(BlockOf(dy), w, BlockOf(dx), add);
}

void CudaGradients::ProductsGradient(DeviceView<const float> x,
                                     std::span<const ProductGradient> products,
                                     DeviceView<float> dx, bool add) {
  LIEQ_ASSERT(dx.rows() > 0);
  products_.MultiplyBack(BlockOf(x), products, BlockOf(dx), add);
}

void CudaGradients::RmsNormGradient(DeviceView<const float> x, DeviceView<const float> weight,
                                    double eps, DeviceView<const float> dy, DeviceView<float> dx,
                                    bool add) {
  LIEQ_ASSERT(weight.cols() == x.cols() && dy.rows() == x.rows() && dx.rows() == x.rows());
  cuda::RmsNormGradient(BlockOf(x), DeviceAccess::Pointer(weight), eps, BlockOf(dy), BlockOf(dx),
                        add, queue_.stream());
  Started("RmsNormGradient");
}

void CudaGradients::AttentionGradient(DeviceView<const float> q, DeviceView<const float> k,
                                      DeviceView<const float> v, DeviceView<const float> dout,
                                      const AttentionShape& shape, DeviceView<float> dq,
                                      DeviceView<float> dk, DeviceView<float> dv) {
  if (shape.head_dim > kMostHeadDim) {
    throw Error({.what = "gradients of heads this wide are not there on a GPU",
                 .where = "--device cuda",
                 .expected = "at most " + std::to_string(kMostHeadDim) + " columns",
                 .found = std::to_string(shape.head_dim),
                 .hint = "--device cpu has them"});
  }
  const Index rows = shape.windows * shape.length;
  LIEQ_ASSERT(q.rows() == rows && k.rows() == rows && dq.rows() == rows && dk.rows() == rows);
  const auto narrow = [](Index value) { return static_cast<std::int32_t>(value); };
  const AttentionGradientArguments arguments{
      .q = BlockOf(q),
      .k = BlockOf(k),
      .v = BlockOf(v),
      .dout = BlockOf(dout),
      .dq = BlockOf(dq),
      .dk = BlockOf(dk),
      .dv = BlockOf(dv),
      .windows = narrow(shape.windows),
      .length = narrow(shape.length),
      .heads = narrow(shape.heads),
      .kv_heads = narrow(shape.kv_heads),
      .head_dim = narrow(shape.head_dim),
      .window = narrow(shape.window),
      .rows = of_queries_.Get<float2>(std::max<Index>(1, shape.heads * rows))};
  if (arithmetic_ == Arithmetic::kBf16 && PairColumns(shape.head_dim) > 0) {
    const Index elements = std::max<Index>(1, AttentionGradientElements(arguments));
    AttentionGradientOfPairs(arguments, products_.BetweenProducts<std::uint16_t>(elements),
                             queue_.stream());
  } else {
    cuda::AttentionGradient(arguments, queue_.stream());
  }
  Started("AttentionGradient");
}

void CudaGradients::SwiGluGradient(DeviceView<float> gate, DeviceView<float> up,
                                   DeviceView<const float> d) {
  cuda::SwiGluGradient(BlockOf(gate), BlockOf(up), BlockOf(d), queue_.stream());
  Started("SwiGluGradient");
}

void CudaGradients::NllGradient(DeviceView<float> logits, std::span<const TokenId> targets,
                                std::span<double> nll) {
  LIEQ_ASSERT(targets.size() == Size(logits.rows()) && nll.size() == targets.size());
  const double* sums = LogSums(queue_, log_sums_, logits);
  cuda::NllGradient(BlockOf(logits), queue_.Argument(targets), sums, Later(queue_, nll),
                    queue_.stream());
  Started("NllGradient");
}

void CudaGradients::KlGradient(DeviceView<float> logits, DeviceView<float> reference_,
                               std::span<double> kl) {
  const DeviceView<const float> reference = reference_;
  LIEQ_ASSERT(logits.rows() == reference.rows() && logits.cols() == reference.cols());
  LIEQ_ASSERT(kl.size() == Size(logits.rows()));
  const double* reference_sums = LogSums(queue_, other_log_sums_, reference);
  const double* sums = LogSums(queue_, log_sums_, logits);
  cuda::KlGradient(BlockOf(logits), BlockOf(reference), sums, reference_sums, Later(queue_, kl),
                   queue_.stream());
  Started("KlGradient");
}

}  // namespace lieq::cuda
