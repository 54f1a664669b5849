#include "lieq/device/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/device/cuda/attention_pairs.h"
#include "lieq/device/cuda/cuda_products.h"
#include "lieq/device/cuda/cuda_rounding.h"
#include "lieq/device/cuda/cuda_sums.h"
#include "lieq/device/cuda/cuda_tuning.h"
#include "lieq/device/cuda/gradient_kernels.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/prepared.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/cuda/recording.h"
#include "lieq/device/device_access.h"

namespace lieq {
namespace {

using cuda::Block;

template <class T>
Block<T> BlockOf(DeviceView<T> view) {
  return {DeviceAccess::Pointer(view), view.rows(), view.cols(), view.stride()};
}

/// Rows of floats, or of the bits of f16.
class CudaRowCache final : public RowCache {
 public:
  CudaRowCache(cuda::Queue& queue, CacheType of, Index count, Index width)
      : type(of),
        rows(count),
        cols(width),
        queue_(queue),
        block_(queue.Take(Size(count * width) *
                          (of == CacheType::kF16 ? sizeof(std::uint16_t) : sizeof(float)))) {}
  ~CudaRowCache() override { queue_.Give(block_); }
  CudaRowCache(const CudaRowCache&) = delete;
  CudaRowCache& operator=(const CudaRowCache&) = delete;

  template <class T>
  [[nodiscard]] Block<T> As() const {
    return {static_cast<T*>(block_), rows, cols, cols};
  }

  [[nodiscard]] cuda::RecordedCache Recorded() const {
    return {block_, rows, cols, type == CacheType::kF16};
  }

  const CacheType type;
  const Index rows, cols;

 private:
  cuda::Queue& queue_;
  void* block_;
};

/// Whether codes are laid out for the kernels of packed.h. Throws Error where that was asked for by
/// name and the GPU does not run them.
bool PacksWith(const DeviceOptions& options, const cuda::Queue& queue) {
  if (options.kernels.empty()) return IsPacked(options.usual_kernels) && queue.runs_packed();
  if (options.kernels != kPackedKernels) {
    throw Error({.what = "kernel rows are of the processor",
                 .where = "--kernels",
                 .expected = "packed, or nothing: a GPU then multiplies codes where they lie",
                 .found = options.kernels});
  }
  if (!queue.runs_packed()) {
    throw Error({.what = "this GPU is too old for packed kernels",
                 .where = "--kernels packed",
                 .expected = "compute capability 9.0 or later (Hopper)",
                 .found = queue.gpu(),
                 .hint = "leave --kernels out: codes are multiplied where they lie"});
  }
  return true;
}

class CudaDevice final : public Device, public CalibrationOps, public RoundingOps {
 public:
  CudaDevice(ThreadPool& pool, const DeviceOptions& options)
      : arithmetic_(options.arithmetic),
        queue_(options.index, options.memory_bytes, pool),
        products_(queue_, options.arithmetic, PacksWith(options, queue_)),
        training_(queue_, products_, options.arithmetic),
        cache_(options.cache),
        solver_(cuda::Cusolver::Find(queue_)),
        log_sums_(queue_),
        other_log_sums_(queue_),
        sums_(queue_) {}

  std::string description() const override {
    return "cuda " + queue_.gpu() + products_.description() +
           (cache_ == CacheType::kFloat ? "" : ", " + std::string(Name(cache_)) + " cache");
  }
  CalibrationOps* calibration() noexcept override { return this; }
  GradientOps* gradients() noexcept override { return &training_; }
  RoundingOps* rounding() noexcept override { return this; }

  Index memory_bound() const noexcept override { return queue_.bound(); }
  Index peak_memory() const override { return queue_.Peak(); }

  DeviceMatrix Alloc(Index rows, Index cols) override {
    auto* block = static_cast<float*>(queue_.Take(Size(rows * cols) * sizeof(float)));
    return {block, rows, cols, [this](float* owned) { queue_.Give(owned); }};
  }
  DeviceMatrix AllocOutside(Index rows, Index cols) override {
    // The host's memory has one address here and there.
    cuda::Pinned block = cuda::TakePinned(std::max<std::size_t>(1, Bytes(rows * cols)));
    auto* floats = reinterpret_cast<float*>(block.release());
    return {floats, rows, cols, [this](float* owned) {
              (void)cudaStreamSynchronize(queue_.stream());  // what is queued may be at it
              cuda::FreePinned()(owned);
            }};
  }
  View<const float, 2> ReadOutside(DeviceView<const float> x) override {
    Sync();
    return DeviceAccess::Shared(x);
  }
  void Upload(View<const float, 2> from, DeviceView<float> to) override {
    LIEQ_ASSERT(from.rows() == to.rows() && from.cols() == to.cols());
    queue_.Upload(from.data(), Bytes(from.stride()), DeviceAccess::Pointer(to), Bytes(to.stride()),
                  Bytes(from.cols()), from.rows());
  }
  void Download(DeviceView<const float> from, View<float, 2> to) override {
    LIEQ_ASSERT(from.rows() == to.rows() && from.cols() == to.cols());
    queue_.Download(DeviceAccess::Pointer(from), Bytes(from.stride()), to.data(),
                    Bytes(to.stride()), Bytes(from.cols()), from.rows());
    Sync();
  }
  void Copy(DeviceView<const float> from, DeviceView<float> to) override {
    LIEQ_ASSERT(from.rows() == to.rows() && from.cols() == to.cols());
    if (from.empty()) return;
    if (from.stride() == from.cols() && to.stride() == to.cols()) {  // twice as fast
      cuda::Check(
          cudaMemcpyAsync(DeviceAccess::Pointer(to), DeviceAccess::Pointer(from),
                          Bytes(from.rows() * from.cols()), cudaMemcpyDefault, queue_.stream()),
          "copying on it");
      return;
    }
    cuda::Check(
        cudaMemcpy2DAsync(DeviceAccess::Pointer(to), Bytes(to.stride()),
                          DeviceAccess::Pointer(from), Bytes(from.stride()), Bytes(from.cols()),
                          Size(from.rows()), cudaMemcpyDefault, queue_.stream()),
        "copying on it");
  }
  Prepared Prepare(const AnyMatrix& matrix) override {
    if (Prepared held = training_.Find(matrix)) return held;
    return std::make_shared<cuda::CudaPrepared>(matrix, products_.packs(), queue_);
  }
  void Sync() override { queue_.Sync(); }

  void Repeat(std::unique_ptr<RepeatedStep>& kept, std::span<const TokenId> tokens,
              std::span<const AttentionSpan> spans, DeviceView<const float> result,
              const std::function<void()>& step) override {
    LIEQ_ASSERT(!result.empty() && recording_ == nullptr);
    if (!cuda::Recording::Takes(tokens, spans)) return step();
    auto* held = static_cast<cuda::Recording*>(kept.get());
    const auto count = static_cast<Index>(tokens.size());
    if (held == nullptr) {
      auto made = std::make_unique<cuda::Recording>(count, queue_);
      held = made.get();
      kept = std::move(made);
    }
    if (!held->Holds(count)) {
      held->Restart(count);
      {
        const Recorder recorder(*this, *held, spans);
        step();
      }
      held->Finish(products_);
    }
    held->Run(tokens, spans);
  }

  void Products(DeviceView<const float> x, std::span<const Product> products, bool add) override {
    if (recording_ != nullptr) {
      return recording_->Add(
          cuda::RecordedProducts{BlockOf(x), {products.begin(), products.end()}, add});
    }
    products_.Multiply(BlockOf(x), products, add);
  }

  void RmsNorm(DeviceView<const float> x, DeviceView<const float> weight, double eps,
               DeviceView<float> y) override {
    LIEQ_ASSERT(weight.cols() == x.cols());
    if (recording_ != nullptr) {
      return recording_->Add(
          cuda::RecordedNorm{BlockOf(x), DeviceAccess::Pointer(weight), eps, BlockOf(y)});
    }
    cuda::RmsNorm(BlockOf(x), DeviceAccess::Pointer(weight), eps, BlockOf(y), queue_.stream());
    Started("RmsNorm");
  }

  void Rope(DeviceView<float> x, const RopeTable& table, std::span<const AttentionSpan> spans,
            Index head_dim) override {
    LIEQ_ASSERT(2 * table.cosine.cols() <= head_dim && table.cosine.cols() == table.sine.cols());
    if (recording_ != nullptr) {
      return recording_->Add(
          cuda::RecordedRope{BlockOf(x), BlockOf(table.cosine), BlockOf(table.sine), head_dim});
    }
    std::vector<std::int32_t> positions(Size(x.rows()), -1);
    for (const AttentionSpan& span : spans) {
      const auto first = positions.begin() + span.begin;
      std::iota(first, first + span.length, static_cast<std::int32_t>(span.past));
    }
    cuda::Rope(BlockOf(x), BlockOf(table.cosine), BlockOf(table.sine),
               queue_.Argument(std::span<const std::int32_t>(positions)), head_dim,
               queue_.stream());
    Started("Rope");
  }

  void Attention(DeviceView<const float> q, DeviceView<const float> k, DeviceView<const float> v,
                 const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                 DeviceView<float> out) override {
    Attend(q, BlockOf(k), BlockOf(v), heads, spans, out);
  }

  std::unique_ptr<RowCache> AllocCache(Index rows, Index kv_heads, Index head_dim) override {
    if (cache_ == CacheType::kInt8) {
      throw Error({.what = "caches of 8 bits are not there on a GPU",
                   .where = "--kv-cache",
                   .expected = "f16 or float",
                   .found = std::string(Name(cache_))});
    }
    return std::make_unique<CudaRowCache>(queue_, cache_, rows, kv_heads * head_dim);
  }
  void Store(DeviceView<const float> from, RowCache& cache, Index row) override {
    auto& held = static_cast<CudaRowCache&>(cache);
    LIEQ_ASSERT(row >= 0 && row + from.rows() <= held.rows && from.cols() == held.cols);
    if (from.empty()) return;
    if (recording_ != nullptr) {
      LIEQ_ASSERT(from.rows() == 1);
      return recording_->Add(cuda::RecordedStore{BlockOf(from), held.Recorded(),
                                                 cuda::Recording::SpanAt(recorded_spans_, row)});
    }
    if (held.type == CacheType::kF16) {
      const Block<std::uint16_t> all = held.As<std::uint16_t>();
      cuda::RoundToF16(BlockOf(from),
                       {all.data + row * all.stride, from.rows(), all.cols, all.stride},
                       queue_.stream());
      return Started("Store");
    }
    cuda::Check(
        cudaMemcpy2DAsync(held.As<float>().data + row * held.cols, Bytes(held.cols),
                          DeviceAccess::Pointer(from), Bytes(from.stride()), Bytes(from.cols()),
                          Size(from.rows()), cudaMemcpyDeviceToDevice, queue_.stream()),
        "Store");
  }
  void CachedAttention(DeviceView<const float> q, const RowCache& k_, const RowCache& v_,
                       const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                       DeviceView<float> out) override {
    const auto &k = static_cast<const CudaRowCache&>(k_), &v = static_cast<const CudaRowCache&>(v_);
    CheckHeads(heads);
    if (recording_ != nullptr) {
      return recording_->Add(cuda::RecordedAttention{
          BlockOf(DeviceView<const float>(q)), k.Recorded(), v.Recorded(), heads, BlockOf(out)});
    }
    if (k.type == CacheType::kF16) {
      return Attend<std::uint16_t>(q, k.As<const std::uint16_t>(), v.As<const std::uint16_t>(),
                                   heads, spans, out);
    }
    Attend<float>(q, k.As<const float>(), v.As<const float>(), heads, spans, out);
  }

  void Scale(DeviceView<float> x, float factor) override {
    if (recording_ != nullptr) {
      return recording_->Add(cuda::RecordedOther{
          [this, x, factor] { cuda::Scale(BlockOf(x), factor, queue_.stream()); }});
    }
    cuda::Scale(BlockOf(x), factor, queue_.stream());
    Started("Scale");
  }
  void SwiGlu(DeviceView<float> gate, DeviceView<const float> up) override {
    if (recording_ != nullptr) {
      return recording_->Add(cuda::RecordedSwiGlu{BlockOf(gate), BlockOf(up)});
    }
    cuda::SwiGlu(BlockOf(gate), BlockOf(up), queue_.stream());
    Started("SwiGlu");
  }
  void SwiGluInto(DeviceView<const float> gate, DeviceView<const float> up,
                  DeviceView<float> out) override {
    LIEQ_ASSERT(recording_ == nullptr && gate.rows() == out.rows() && gate.cols() == out.cols());
    cuda::SwiGluInto(BlockOf(gate), BlockOf(up), BlockOf(out), queue_.stream());
    Started("SwiGlu");
  }
  void EmbedRows(const PreparedMatrix& table, std::span<const TokenId> tokens,
                 DeviceView<float> out) override {
    LIEQ_ASSERT(out.rows() == static_cast<Index>(tokens.size()) && out.cols() == table.cols());
    if (recording_ != nullptr) {
      const std::int32_t* placed = recording_->inputs().tokens;
      return recording_->Add(cuda::RecordedOther{[this, &table, placed, out] {
        cuda::GatherRows(cuda::SourceOf(table), placed, BlockOf(out), queue_.stream());
      }});
    }
    cuda::GatherRows(cuda::SourceOf(table), queue_.Argument(tokens), BlockOf(out), queue_.stream());
    Started("EmbedRows");
  }

  void LogSoftmaxNll(DeviceView<float> logits_, std::span<const TokenId> targets,
                     std::span<double> nll) override {
    const DeviceView<const float> logits = logits_;
    LIEQ_ASSERT(targets.size() == Size(logits.rows()) && nll.size() == targets.size());
    cuda::Nll(BlockOf(logits), queue_.Argument(targets), LogSums(log_sums_, logits), Later(nll),
              queue_.stream());
    Started("LogSoftmaxNll");
  }
  void LogProbabilities(DeviceView<const float> logits, std::span<const TokenPick> picks,
                        std::span<double> log_probabilities) override {
    LIEQ_ASSERT(picks.size() == log_probabilities.size());
    std::vector<cuda::Pick> narrow(picks.size());
    std::ranges::transform(picks, narrow.begin(), [](const TokenPick& pick) {
      return cuda::Pick{static_cast<std::int32_t>(pick.row), pick.token};
    });
    cuda::PickLogProbabilities(BlockOf(logits),
                               queue_.Argument(std::span<const cuda::Pick>(narrow)),
                               static_cast<Index>(picks.size()), LogSums(log_sums_, logits),
                               Later(log_probabilities), queue_.stream());
    Started("LogProbabilities");
  }
  void SoftmaxKl(DeviceView<const float> reference, DeviceView<const float> logits,
                 std::span<double> kl) override {
    LIEQ_ASSERT(reference.rows() == logits.rows() && reference.cols() == logits.cols());
    const double* reference_sums = LogSums(other_log_sums_, reference);
    cuda::SoftmaxKl(BlockOf(reference), BlockOf(logits), reference_sums, LogSums(log_sums_, logits),
                    Later(kl), queue_.stream());
    Started("SoftmaxKl");
  }
  void TopColumns(DeviceView<const float> x, View<TokenId, 2> columns) override {
    LIEQ_ASSERT(x.rows() == columns.rows());
    TokenId* room = queue_.Result<TokenId>(Size(columns.size()), [columns](const TokenId* found) {
      for (Index r = 0; r < columns.rows(); ++r) {
        std::copy_n(found + r * columns.cols(), columns.cols(), columns.Row(r).data());
      }
    });
    cuda::TopColumns(BlockOf(x), columns.cols(), room, queue_.stream());
    Started("TopColumns");
  }

  std::unique_ptr<PlacedSums<double>> MakeGram(Index n) override {
    return std::make_unique<cuda::CudaSums<double>>(queue_, n, n);
  }
  std::unique_ptr<PlacedSums<float>> MakeCross(Index rows, Index cols) override {
    return std::make_unique<cuda::CudaSums<float>>(queue_, rows, cols);
  }
  void GramUpdate(DeviceView<const float> x, PlacedSums<double>& gram) override {
    LIEQ_ASSERT(gram.rows() == x.cols() && gram.cols() == x.cols());
    const Index in = x.cols();
    double* sums = cuda::DataOf(gram);
    const Block<float> part{sums_.Get<float>(in * in), in, in, in};
    // Added up in float before they go to double: as few as on a CPU, since an error of 1e-6
    // already makes a Gram matrix of dependent inputs indefinite. Products of bf16 are exact, and
    // tensor cores add more of them with an error that is far below the rounding of the inputs.
    constexpr Index kMostRows = 512, kMostRoundedRows = 4096;
    const Index most = arithmetic_ == Arithmetic::kBf16 ? kMostRoundedRows : kMostRows;
    for (Index begin = 0; begin < x.rows(); begin += most) {
      const auto some = BlockOf(x.Rows(begin, std::min(most, x.rows() - begin)));
      if (!products_.SquareInBf16(some, part)) {
        products_.MultiplyTransposed(some, some, part, false);
      }
      cuda::AddLower({part.data, in, in, in}, sums, queue_.stream());
    }
    Started("GramUpdate");
  }
  void CrossGramUpdate(DeviceView<const float> a, DeviceView<const float> b,
                       PlacedSums<float>& cross) override {
    LIEQ_ASSERT(a.rows() == b.rows() && cross.rows() == a.cols() && cross.cols() == b.cols());
    if (a.rows() == 0) return;
    const Block<float> sums{cuda::DataOf(cross), cross.rows(), cross.cols(), cross.cols()};
    products_.MultiplyCross(BlockOf(a), BlockOf(b), sums, true);
  }
  void RowSquares(DeviceView<const float> x, std::span<double> sums) override {
    LIEQ_ASSERT(x.rows() == static_cast<Index>(sums.size()));
    double* room = queue_.Result<double>(sums.size(), [sums](const double* found) {
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += found[i];
    });
    cuda::RowSquares(BlockOf(x), room, queue_.stream());
    Started("RowSquares");
  }
  void ColumnSquares(DeviceView<const float> x, std::span<double> sums) override {
    LIEQ_ASSERT(x.cols() == static_cast<Index>(sums.size()));
    double* room = queue_.Result<double>(sums.size(), [sums](const double* found) {
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += found[i];
    });
    const Index scratch = cuda::ColumnSquaresScratch(x.rows(), x.cols());
    auto* parts = sums_.Get<double>(scratch + x.cols());
    double* found = parts + scratch;
    cuda::Check(cudaMemsetAsync(found, 0, sums.size_bytes(), queue_.stream()), "ColumnSquares");
    cuda::ColumnSquares(BlockOf(x), parts, found, queue_.stream());
    cuda::Check(
        cudaMemcpyAsync(room, found, sums.size_bytes(), cudaMemcpyDeviceToHost, queue_.stream()),
        "ColumnSquares");
    Started("ColumnSquares");
  }
  void RoundRows(DeviceView<float> x, Index group, int bits) override {
    LIEQ_ASSERT(group >= 1 && bits >= 2 && bits <= 8);
    cuda::RoundRows(BlockOf(x), group, bits, queue_.stream());
    Started("RoundRows");
  }
  void Subtract(DeviceView<const float> a, DeviceView<const float> b, float times,
                DeviceView<float> out) override {
    LIEQ_ASSERT(a.rows() == b.rows() && a.cols() == b.cols());
    LIEQ_ASSERT(a.rows() == out.rows() && a.cols() == out.cols());
    cuda::Subtract(BlockOf(a), BlockOf(b), times, BlockOf(out), queue_.stream());
    Started("Subtract");
  }

  bool factorizes() const noexcept override { return solver_ != nullptr; }
  PlacedGptqFactor Factorize(const PlacedSums<double>& gram, std::span<const double> diagonal,
                             std::span<const Index> order, bool refines) override {
    return cuda::Factorize(cuda::DataOf(gram), diagonal, order, refines, *solver_, queue_);
  }
  PlacedGptqFactor Place(View<const float, 2> feedback, std::span<const float> pivots,
                         std::span<const Index> order, View<const float, 2> h) override {
    return cuda::PlaceFactor(feedback, pivots, order, h, queue_);
  }
  float LargestSize(const PreparedMatrix& matrix) override {
    auto* found = sums_.Get<float>(1);
    cuda::LargestSize(cuda::SourceOf(matrix), found, queue_.stream());
    Started("LargestSize");
    float largest = 0;
    queue_.Download(found, sizeof largest, &largest, sizeof largest, sizeof largest, 1);
    return largest;
  }
  void Blocks(const GptqFactorOnDevice& factor, View<float, 2> blocks) override {
    cuda::DownloadBlocks(factor, blocks, queue_);
  }
  void Round(const RoundingWork& work, const RoundingResult& result) override {
    cuda::RoundMatrix(work, result, products_, queue_);
  }

 private:
  static std::size_t Bytes(Index floats) { return Size(floats) * sizeof(float); }
  static void Started(const char* operation) { cuda::Check(cudaGetLastError(), operation); }

  /// While one lives, operations are recorded.
  class Recorder {
   public:
    Recorder(CudaDevice& device, cuda::Recording& to, std::span<const AttentionSpan> spans)
        : device_(device) {
      device.recording_ = &to;
      device.recorded_spans_ = spans;
    }
    ~Recorder() { device_.recording_ = nullptr; }
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;

   private:
    CudaDevice& device_;
  };

  void CheckHeads(const AttentionHeads& heads) const {
    if (heads.head_dim > cuda::kMostHeadDim) {
      throw Error({.what = "attention of heads this wide is not there on a GPU",
                   .where = description(),
                   .expected = "at most " + std::to_string(cuda::kMostHeadDim) + " columns",
                   .found = std::to_string(heads.head_dim),
                   .hint = "--device cpu has it"});
    }
  }

  template <class Key>
  void Attend(DeviceView<const float> q, Block<const Key> k, Block<const Key> v,
              const AttentionHeads& heads, std::span<const AttentionSpan> spans,
              DeviceView<float> out) {
    CheckHeads(heads);
    constexpr Index kShort = 4;  // spans of a token or a few: a query to a block of threads
    const bool by_query =
        std::ranges::all_of(spans, [](const auto& span) { return span.length <= kShort; });
    const bool in_pairs =
        arithmetic_ == Arithmetic::kBf16 && !by_query && cuda::PairColumns(heads.head_dim) > 0;
    const Index step = in_pairs ? cuda::kPairRows : cuda::QueriesOfTile(heads.head_dim, by_query);
    const auto narrow = [](Index value) { return static_cast<std::int32_t>(value); };
    std::vector<cuda::Span> placed;
    std::vector<cuda::QueryTile> tiles;
    Index pair_tiles = 0, most_tokens = 0;  // of all spans; of one, those before it included
    for (const AttentionSpan& span : spans) {
      // The longest tiles of a span come first: they see the most keys.
      for (Index tile = CeilDiv(span.length, step) - 1; tile >= 0; --tile) {
        tiles.push_back({narrow(static_cast<Index>(placed.size())), narrow(tile * step)});
      }
      placed.push_back({narrow(span.begin), narrow(span.length), narrow(span.keys),
                        narrow(span.past), narrow(span.past_keys), narrow(pair_tiles)});
      pair_tiles += CeilDiv(span.past + span.length, cuda::kPairRows);
      most_tokens = std::max(most_tokens, span.past + span.length);
    }
    const cuda::AttentionArguments<Key> arguments{
        .q = BlockOf(q),
        .k = k,
        .v = v,
        .out = BlockOf(out),
        .heads = narrow(heads.heads),
        .kv_heads = narrow(heads.kv_heads),
        .head_dim = narrow(heads.head_dim),
        .window = narrow(heads.window),
        .spans = queue_.Argument(std::span<const cuda::Span>(placed)),
        .tiles = queue_.Argument(std::span<const cuda::QueryTile>(tiles)),
        .tile_count = static_cast<Index>(tiles.size())};
    if (in_pairs) {
      AttendInPairs(arguments, pair_tiles,
                    {arguments.spans, static_cast<Index>(placed.size()), most_tokens});
    } else {
      cuda::Attention(arguments, by_query, queue_.stream());
    }
    Started("Attention");
  }

  template <class Key>
  void AttendInPairs(const cuda::AttentionArguments<Key>& arguments, Index tiles,
                     const cuda::PairRows& rows) {
    const Index size = cuda::PairElements(tiles, arguments.kv_heads, 2, arguments.head_dim);
    auto* at = products_.BetweenProducts<std::uint16_t>(std::max<Index>(1, 2 * size));
    const cuda::PairTiles keys{at, arguments.kv_heads, 2}, values{at + size, arguments.kv_heads, 2};
    const cuda::PairSource<Key> sources[] = {{arguments.k, 1.0f, keys},
                                             {arguments.v, 1.0f, values}};
    cuda::MakePairs(std::span<const cuda::PairSource<Key>>(sources), arguments.head_dim, rows,
                    queue_.stream());
    cuda::AttentionOfPairs(arguments, keys, values, queue_.stream());
  }

  /// Where a kernel writes what the span has after the next Sync.
  double* Later(std::span<double> to) {
    return queue_.Result<double>(
        to.size(), [to](const double* found) { std::copy_n(found, to.size(), to.begin()); });
  }

  /// Log of the sum of exponentials of each row, in the scratch.
  const double* LogSums(cuda::Scratch& scratch, DeviceView<const float> x) {
    auto* found = scratch.Get<double>(std::max<Index>(x.rows(), 1));
    cuda::LogSumExp(BlockOf(x), found, queue_.stream());
    return found;
  }

  const Arithmetic arithmetic_;
  cuda::Queue queue_;
  cuda::CudaProducts products_;
  cuda::CudaTuning training_;
  const CacheType cache_;
  const std::unique_ptr<cuda::Cusolver> solver_;  // null: the processor factorises
  cuda::Scratch log_sums_, other_log_sums_, sums_;
  cuda::Recording* recording_ = nullptr;  // what operations go to while there is one
  std::span<const AttentionSpan> recorded_spans_;
};

}  // namespace

bool HasCudaDevice() noexcept {
  return cuda::GpuCount() > 0;
}

std::unique_ptr<Device> MakeCudaDevice(ThreadPool& pool, const DeviceOptions& options) {
  return std::make_unique<CudaDevice>(pool, options);
}

}  // namespace lieq
