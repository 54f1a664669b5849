// A device that does all that device.h allows and a CPU does not do.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/device/device.h"

namespace lieq {

/// Memory that can be touched only while it is open: pages of its own.
class GuardedMemory {
 public:
  GuardedMemory();
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  [[nodiscard]] std::byte* Take(std::size_t bytes);
  void GiveBack(std::byte* block);
  void Open();
  void Close();

 private:
  std::byte* base_;
  std::size_t used_ = 0;                         // from base_ on
  std::map<std::byte*, std::size_t> sizes_;      // of blocks
  std::multimap<std::size_t, std::byte*> free_;  // by size
};

/// The CPU's operations, and so its bytes; but
/// - its memory, weights included, cannot be touched by the host: that ends the process;
/// - new memory holds NaN;
/// - what an operation writes to host memory comes with the next Sync or Download. Until then NaN
///   (-1 for tokens) is there;
/// - nothing is added to sums that were asked for.
class StrictDevice final : public Device, public CalibrationOps, public GradientOps {
 public:
  explicit StrictDevice(ThreadPool& pool);
  ~StrictDevice() override;

  /// Syncs so far that brought something.
  [[nodiscard]] int syncs() const noexcept { return syncs_; }
  /// Floats that were allocated so far.
  [[nodiscard]] Index allocated() const noexcept { return allocated_; }
  /// As if one of them, counted from 0, had been left out: what it would have brought never comes.
  void LeaveOut(int sync) noexcept { left_out_ = sync; }

  std::string description() const override;
  CalibrationOps* calibration() noexcept override { return this; }
  GradientOps* gradients() noexcept override { return this; }
  DeviceMatrix Alloc(Index rows, Index cols) override;
  View<const float, 2> ReadOutside(DeviceView<const float> x) override;
  void Upload(View<const float, 2> from, DeviceView<float> to) override;
  void Download(DeviceView<const float> from, View<float, 2> to) override;
  void Copy(DeviceView<const float> from, DeviceView<float> to) override;
  Prepared Prepare(const AnyMatrix& matrix) override;
  std::unique_ptr<RowCache> AllocCache(Index rows, Index kv_heads, Index head_dim) override;
  void Store(DeviceView<const float> from, RowCache& cache, Index row) override;
  void Sync() override;

  void Products(DeviceView<const float> x, std::span<const Product> products, bool add) override;
  void RmsNorm(DeviceView<const float> x, DeviceView<const float> weight, double eps,
               DeviceView<float> y) override;
  void Rope(DeviceView<float> x, const RopeTable& table, std::span<const AttentionSpan> spans,
            Index head_dim) override;
  void Attention(DeviceView<const float> q, DeviceView<const float> k, DeviceView<const float> v,
                 const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                 DeviceView<float> out) override;
  void CachedAttention(DeviceView<const float> q, const RowCache& k, const RowCache& v,
                       const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                       DeviceView<float> out) override;
  void Scale(DeviceView<float> x, float factor) override;
  void SwiGlu(DeviceView<float> gate, DeviceView<const float> up) override;
  void EmbedRows(const PreparedMatrix& table, std::span<const TokenId> tokens,
                 DeviceView<float> out) override;
  void LogSoftmaxNll(DeviceView<float> logits, std::span<const TokenId> targets,
                     std::span<double> nll) override;
  void LogProbabilities(DeviceView<const float> logits, std::span<const TokenPick> picks,
                        std::span<double> log_probabilities) override;
  void SoftmaxKl(DeviceView<const float> reference, DeviceView<const float> logits,
                 std::span<double> kl) override;
  void TopColumns(DeviceView<const float> x, View<TokenId, 2> columns) override;

  void RoundRows(DeviceView<float> x, Index group, int bits) override;
  std::unique_ptr<PlacedSums<double>> MakeGram(Index n) override;
  std::unique_ptr<PlacedSums<float>> MakeCross(Index rows, Index cols) override;
  void GramUpdate(DeviceView<const float> x, PlacedSums<double>& gram) override;
  void CrossGramUpdate(DeviceView<const float> a, DeviceView<const float> b,
                       PlacedSums<float>& cross) override;
  void RowSquares(DeviceView<const float> x, std::span<double> sums) override;
  void ColumnSquares(DeviceView<const float> x, std::span<double> sums) override;
  void Subtract(DeviceView<const float> a, DeviceView<const float> b, float times,
                DeviceView<float> out) override;

  void MatmulGradient(DeviceView<const float> dy, const PreparedMatrix& w, DeviceView<float> dx,
                      bool add) override;
  void ProductsGradient(DeviceView<const float> x, std::span<const ProductGradient> products,
                        DeviceView<float> dx, bool add) override;
  void RmsNormGradient(DeviceView<const float> x, DeviceView<const float> weight, double eps,
                       DeviceView<const float> dy, DeviceView<float> dx, bool add) override;
  void AttentionGradient(DeviceView<const float> q, DeviceView<const float> k,
                         DeviceView<const float> v, DeviceView<const float> dout,
                         const AttentionShape& shape, DeviceView<float> dq, DeviceView<float> dk,
                         DeviceView<float> dv) override;
  void SwiGluGradient(DeviceView<float> gate, DeviceView<float> up,
                      DeviceView<const float> d) override;
  void NllGradient(DeviceView<float> logits, std::span<const TokenId> targets,
                   std::span<double> nll) override;
  void KlGradient(DeviceView<float> logits, DeviceView<float> reference,
                  std::span<double> kl) override;

 private:
  class Held;
  template <class T>
  class HeldSums;
  struct Result {  // of host memory: rows of bytes
    std::size_t row_bytes, stride_bytes;
    std::vector<std::byte> values;  // without gaps
  };
  /// The memory is open while one of these lives.
  class Opened {
   public:
    explicit Opened(GuardedMemory& memory) : memory_(memory) { memory_.Open(); }
    ~Opened() { memory_.Close(); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

   private:
    GuardedMemory& memory_;
  };

  /// What stands for `to` until it is delivered, with what is there already; `to` is spoilt.
  template <class T>
  [[nodiscard]] View<T, 2> Later(View<T, 2> to);
  template <class T>
  [[nodiscard]] std::span<T> Later(std::span<T> to);
  void Deliver();

  std::unique_ptr<Device> cpu_;
  GuardedMemory memory_;
  Matrix<float> read_;                    // what ReadOutside gave last
  std::map<std::byte*, Result> results_;  // by where they go
  int syncs_ = 0, left_out_ = -1;
  Index allocated_ = 0;
};

}  // namespace lieq
