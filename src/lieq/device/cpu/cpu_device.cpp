#include "lieq/device/cpu/cpu_device.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <optional>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/device/cpu/attention.h"
#include "lieq/device/cpu/bf16_product.h"
#include "lieq/device/cpu/kernels.h"
#include "lieq/device/cpu/mixers.h"
#include "lieq/device/cpu/packed_kernels.h"
#include "lieq/device/cpu/packed_products.h"
#include "lieq/device/cpu/products.h"
#include "lieq/device/cpu/row_cache.h"
#include "lieq/device/cpu/top_columns.h"
#include "lieq/device/device_access.h"
#include "lieq/device/sums.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

View<float, 2> Host(DeviceView<float> v) {
  return DeviceAccess::Shared(v);
}
View<const float, 2> Host(DeviceView<const float> v) {
  return DeviceAccess::Shared(v);
}

class CpuDevice final : public Device, public CalibrationOps, public GradientOps {
 public:
  /// packed: null: weights stay in the form that they are given in.
  CpuDevice(ThreadPool& pool, const KernelSet& kernels, const PackedKernels* packed,
            const DeviceOptions& options)
      : pool_(pool),
        kernels_(kernels),
        arithmetic_(options.arithmetic),
        cache_(options.cache),
        scratch_(pool.size()),
        attention_(pool, kernels, scratch_),
        products_(pool, kernels, scratch_, options.arithmetic,
                  packed == nullptr
                      ? nullptr
                      : &packed_products_.emplace(pool, *packed, options.activations)) {}

  std::string description() const override {
    std::string text = "cpu " + std::string(kernels_.name) + ", " + BlasDescription() +
                       (arithmetic_ == Arithmetic::kBf16 ? ", bf16 products" : "");
    if (packed_products_) {
      text += ", packed " + std::string(packed_products_->kernels().name) + ", " +
              std::string(Name(packed_products_->activations())) + " activations";
    }
    if (cache_ != CacheType::kFloat) text += ", " + std::string(Name(cache_)) + " cache";
    return text;
  }

  CalibrationOps* calibration() noexcept override { return this; }
  GradientOps* gradients() noexcept override { return this; }
  MixerOps* mixers() noexcept override { return &mixers_; }

  DeviceMatrix Alloc(Index rows, Index cols) override {
    const std::size_t bytes = (Size(rows * cols) * sizeof(float) + 63) / 64 * 64;
    auto* pointer = static_cast<float*>(std::aligned_alloc(64, std::max<std::size_t>(bytes, 64)));
    if (pointer == nullptr) throw std::bad_alloc();
    return {pointer, rows, cols, [](float* block) { std::free(block); }};
  }

  void Upload(View<const float, 2> from, DeviceView<float> to) override {
    CopyRows(from, Host(to));
  }
  View<const float, 2> ReadOutside(DeviceView<const float> x) override { return Host(x); }
  void Download(DeviceView<const float> from, View<float, 2> to) override {
    CopyRows(Host(from), to);
  }
  void Copy(DeviceView<const float> from, DeviceView<float> to) override {
    CopyRows(Host(from), Host(to));
  }

  Prepared Prepare(const AnyMatrix& matrix) override {
    if (const auto* laid_out = std::get_if<std::shared_ptr<const LaidOutMatrix>>(&matrix)) {
      LIEQ_ASSERT(packed_products_);  // what opens such a file asks for them first
      return std::make_shared<CpuPrepared>(PackedMatrix(**laid_out, pool_));
    }
    const auto* codes = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    if (packed_products_ && codes != nullptr && PackedMatrix::Holds((*codes)->grid())) {
      return std::make_shared<CpuPrepared>(PackedMatrix(**codes, pool_, pages_));
    }
    return std::make_shared<CpuPrepared>(matrix);
  }

  void Products(DeviceView<const float> x, std::span<const Product> products, bool add) override {
    products_.Multiply(Host(x), products, add);
  }

  void RmsNorm(DeviceView<const float> x_, DeviceView<const float> weight_, double eps,
               DeviceView<float> y_) override {
    const View<const float, 2> x = Host(x_);
    const std::span<const float> weight = Host(weight_).Row(0);
    LIEQ_ASSERT(weight_.cols() == x_.cols());
    const View<float, 2> y = Host(y_);
    ForRows(x.rows(), [&](Index r) {
      kernels_.rms_norm(x.Row(r).data(), weight.data(), eps, y.Row(r).data(), x.cols());
    });
  }

  void Scale(DeviceView<float> x_, float factor) override {
    const View<float, 2> x = Host(x_);
    ForRows(x.rows(), [&](Index r) {
      for (float& value : x.Row(r)) value *= factor;
    });
  }

  void Rope(DeviceView<float> x_, const RopeTable& table, std::span<const AttentionSpan> spans,
            Index head_dim) override {
    const View<float, 2> x = Host(x_);
    const View<const float, 2> cosines = Host(table.cosine), sines = Host(table.sine);
    const Index half = cosines.cols();
    LIEQ_ASSERT(2 * half <= head_dim && half == sines.cols());
    constexpr Index kNone = -1;
    std::vector<Index> positions(Size(x.rows()), kNone);
    for (const AttentionSpan& span : spans) {
      const auto first = positions.begin() + span.begin;
      std::iota(first, first + span.length, span.past);
    }
    ForRows(x.rows(), [&](Index r) {
      if (positions[Size(r)] == kNone) return;
      const float* cosine = cosines.Row(positions[Size(r)]).data();
      const float* sine = sines.Row(positions[Size(r)]).data();
      for (Index h = 0; h < x.cols(); h += head_dim) {
        kernels_.rope(x.Row(r).data() + h, cosine, sine, half);
      }
    });
  }

  void Attention(DeviceView<const float> q, DeviceView<const float> k, DeviceView<const float> v,
                 const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                 DeviceView<float> out) override {
    attention_.Attend(Host(q), Host(k), Host(v), heads, spans, Host(out));
  }

  void CachedAttention(DeviceView<const float> q, const RowCache& k, const RowCache& v,
                       const AttentionHeads& heads, std::span<const AttentionSpan> spans,
                       DeviceView<float> out) override {
    attention_.Attend(Host(q), static_cast<const CpuRowCache&>(k),
                      static_cast<const CpuRowCache&>(v), heads, spans, Host(out));
  }

  std::unique_ptr<RowCache> AllocCache(Index rows, Index kv_heads, Index head_dim) override {
    return std::make_unique<CpuRowCache>(cache_, rows, kv_heads, head_dim);
  }

  void Store(DeviceView<const float> from_, RowCache& cache, Index row) override {
    const View<const float, 2> from = Host(from_);
    auto& held = static_cast<CpuRowCache&>(cache);
    ForRows(from.rows(), [&](Index r) { held.Store(kernels_, from.Row(r), row + r); });
  }

  void SwiGlu(DeviceView<float> gate_, DeviceView<const float> up_) override {
    const View<float, 2> gate = Host(gate_);
    const View<const float, 2> up = Host(up_);
    ForRows(gate.rows(),
            [&](Index r) { kernels_.swiglu(gate.Row(r).data(), up.Row(r).data(), gate.cols()); });
  }

  void EmbedRows(const PreparedMatrix& table, std::span<const TokenId> tokens,
                 DeviceView<float> out_) override {
    const View<float, 2> out = Host(out_);
    const auto& held = static_cast<const CpuPrepared&>(table);
    ForRows(out.rows(), [&](Index r) { held.Widen(tokens[Size(r)], out.Rows(r, 1)); });
  }

  void LogSoftmaxNll(DeviceView<float> logits_, std::span<const TokenId> targets,
                     std::span<double> nll) override {
    const View<float, 2> logits = Host(logits_);
    ForRows(logits.rows(), [&](Index r) {
      const std::span<const float> row = logits.Row(r);
      nll[Size(r)] = kernels_.log_sum_exp(row.data(), logits.cols()) -
                     static_cast<double>(row[Size(targets[Size(r)])]);
    });
  }

  void LogProbabilities(DeviceView<const float> logits_, std::span<const TokenPick> picks,
                        std::span<double> log_probabilities) override {
    const View<const float, 2> logits = Host(logits_);
    LIEQ_ASSERT(picks.size() == log_probabilities.size());
    std::vector<double> sums(Size(logits.rows()));
    ForRows(logits.rows(), [&](Index r) {
      sums[Size(r)] = kernels_.log_sum_exp(logits.Row(r).data(), logits.cols());
    });
    for (std::size_t i = 0; i < picks.size(); ++i) {
      log_probabilities[i] =
          static_cast<double>(logits(picks[i].row, picks[i].token)) - sums[Size(picks[i].row)];
    }
  }

  void SoftmaxKl(DeviceView<const float> reference_, DeviceView<const float> logits_,
                 std::span<double> kl) override {
    const View<const float, 2> reference = Host(reference_), logits = Host(logits_);
    LIEQ_ASSERT(reference.rows() == logits.rows() && reference.cols() == logits.cols());
    ForRows(logits.rows(), [&](Index r) {
      const float *a = reference.Row(r).data(), *b = logits.Row(r).data();
      const Index n = logits.cols();
      kl[Size(r)] =
          kernels_.softmax_kl(a, b, kernels_.log_sum_exp(a, n), kernels_.log_sum_exp(b, n), n);
    });
  }

  void TopColumns(DeviceView<const float> x_, View<TokenId, 2> columns) override {
    const View<const float, 2> x = Host(x_);
    LIEQ_ASSERT(x.rows() == columns.rows());
    ForRows(x.rows(), [&](Index r) { lieq::TopColumns(x.Row(r), columns.Row(r)); });
  }

  void RowSquares(DeviceView<const float> x_, std::span<double> sums) override {
    const View<const float, 2> x = Host(x_);
    LIEQ_ASSERT(x.rows() == static_cast<Index>(sums.size()));
    ForRows(x.rows(),
            [&](Index r) { sums[Size(r)] += kernels_.sum_squares(x.Row(r).data(), x.cols()); });
  }

  void ColumnSquares(DeviceView<const float> x_, std::span<double> sums) override {
    constexpr Index kColumns = 64;  // of a task: some cache lines of a row
    const View<const float, 2> x = Host(x_);
    LIEQ_ASSERT(x.cols() == static_cast<Index>(sums.size()));
    pool_.ParallelFor(CeilDiv(x.cols(), kColumns), [&](Index task, int) {
      const Index begin = task * kColumns, count = std::min(kColumns, x.cols() - begin);
      const std::span<double> part = sums.subspan(Size(begin), Size(count));
      for (Index row = 0; row < x.rows(); ++row) {
        const std::span<const float> values = x.Row(row).subspan(Size(begin), Size(count));
        for (std::size_t i = 0; i < part.size(); ++i) {
          part[i] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
        }
      }
    });
  }

  void MatmulGradient(DeviceView<const float> dy, const PreparedMatrix& w, DeviceView<float> dx,
                      bool add) override {
    products_.MultiplyBack(Host(dy), static_cast<const CpuPrepared&>(w), Host(dx), add);
  }

  void ProductsGradient(DeviceView<const float> x, std::span<const ProductGradient> products,
                        DeviceView<float> dx, bool add) override {
    for (const ProductGradient& each : products) {
      if (PlacedSums<float>* sums = each.of_weights.to) {
        if (!each.of_weights.add) sums->Set(Matrix<float>(sums->rows(), sums->cols()).view());
        CrossGramUpdate(each.dy, x, *sums);
      }
      MatmulGradient(each.dy, each.w, dx, add);
      add = true;
    }
  }

  void RmsNormGradient(DeviceView<const float> x_, DeviceView<const float> weight_, double eps,
                       DeviceView<const float> dy_, DeviceView<float> dx_, bool add) override {
    const View<const float, 2> x = Host(x_), dy = Host(dy_);
    const std::span<const float> weight = Host(weight_).Row(0);
    const View<float, 2> dx = Host(dx_);
    ForRows(x.rows(), [&](Index r) {
      kernels_.rms_norm_gradient(x.Row(r).data(), weight.data(), eps, dy.Row(r).data(),
                                 dx.Row(r).data(), add, x.cols());
    });
  }

  /// A task takes a key head and all query heads that read it, so that no two add to one dk or dv.
  void AttentionGradient(DeviceView<const float> q_, DeviceView<const float> k_,
                         DeviceView<const float> v_, DeviceView<const float> dout_,
                         const AttentionShape& shape, DeviceView<float> dq_, DeviceView<float> dk_,
                         DeviceView<float> dv_) override {
    const View<const float, 2> q = Host(q_), k = Host(k_), v = Host(v_), dout = Host(dout_);
    const View<float, 2> dq = Host(dq_), dk = Host(dk_), dv = Host(dv_);
    const Index length = shape.length, dim = shape.head_dim;
    const Index shared = shape.heads / shape.kv_heads;
    const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));
    pool_.ParallelFor(shape.windows * shape.kv_heads, [&](Index task, int worker) {
      const Index first = task / shape.kv_heads * length, kv_head = task % shape.kv_heads;
      const auto keys = k.Rows(first, length).Cols(kv_head * dim, dim);
      const auto values = v.Rows(first, length).Cols(kv_head * dim, dim);
      const auto dkeys = dk.Rows(first, length).Cols(kv_head * dim, dim);
      const auto dvalues = dv.Rows(first, length).Cols(kv_head * dim, dim);
      bool fresh = true;  // the first block, which sees all keys, writes dk and dv; others add
      for (Index head = kv_head * shared; head < (kv_head + 1) * shared; ++head) {
        for (Index block = CeilDiv(length, kAttentionRows) - 1; block >= 0; --block) {
          const Index begin = block * kAttentionRows;
          const Index rows = std::min(kAttentionRows, length - begin), seen = begin + rows;
          const auto queries = q.Rows(first + begin, rows).Cols(head * dim, dim);
          const auto gradient = dout.Rows(first + begin, rows).Cols(head * dim, dim);
          const View<float, 2> both = Scratch(worker, 2 * rows, seen);
          const View<float, 2> p = both.Rows(0, rows), ds = both.Rows(rows, rows);
          Gemm(1.0f, queries, Transpose::kNo, keys.Rows(0, seen), Transpose::kYes, 0.0f, p);
          Gemm(1.0f, gradient, Transpose::kNo, values.Rows(0, seen), Transpose::kYes, 0.0f, ds);
          for (Index i = 0; i < rows; ++i) {
            float *p_row = p.Row(i).data(), *ds_row = ds.Row(i).data();
            const Index visible = begin + i + 1, hidden = BeyondWindow(visible, shape.window);
            kernels_.softmax(p_row + hidden, scale, visible - hidden);
            kernels_.softmax_gradient(p_row + hidden, ds_row + hidden, scale, visible - hidden);
            for (float* const weights : {p_row, ds_row}) {
              std::fill(weights, weights + hidden, 0.0f);
              std::fill(weights + visible, weights + seen, 0.0f);
            }
          }
          const float kept = fresh ? 0.0f : 1.0f;
          Gemm(1.0f, p, Transpose::kYes, gradient, Transpose::kNo, kept, dvalues.Rows(0, seen));
          Gemm(1.0f, ds, Transpose::kYes, queries, Transpose::kNo, kept, dkeys.Rows(0, seen));
          Gemm(1.0f, ds, Transpose::kNo, keys.Rows(0, seen), Transpose::kNo, 0.0f,
               dq.Rows(first + begin, rows).Cols(head * dim, dim));
          fresh = false;
        }
      }
    });
  }

  void SwiGluGradient(DeviceView<float> gate_, DeviceView<float> up_,
                      DeviceView<const float> d_) override {
    const View<float, 2> gate = Host(gate_), up = Host(up_);
    const View<const float, 2> d = Host(d_);
    ForRows(gate.rows(), [&](Index r) {
      kernels_.swiglu_gradient(gate.Row(r).data(), up.Row(r).data(), d.Row(r).data(), gate.cols());
    });
  }

  void NllGradient(DeviceView<float> logits_, std::span<const TokenId> targets,
                   std::span<double> nll) override {
    const View<float, 2> logits = Host(logits_);
    ForRows(logits.rows(), [&](Index r) {
      const std::span<float> row = logits.Row(r);
      float& target = row[Size(targets[Size(r)])];
      const double log_sum = kernels_.log_sum_exp(row.data(), logits.cols());
      nll[Size(r)] = log_sum - static_cast<double>(target);
      kernels_.probabilities(row.data(), log_sum, logits.cols());
      target -= 1.0f;
    });
  }

  void KlGradient(DeviceView<float> logits_, DeviceView<float> reference_,
                  std::span<double> kl) override {
    const View<float, 2> logits = Host(logits_), reference = Host(reference_);
    LIEQ_ASSERT(logits.rows() == reference.rows() && logits.cols() == reference.cols());
    const Index vocab = logits.cols();
    pool_.ParallelFor(logits.rows(), [&](Index r, int worker) {
      const std::span<float> row = logits.Row(r), q = reference.Row(r);
      const std::span<float> apart = Scratch(worker, 1, vocab).Row(0);
      for (Index i = 0; i < vocab; ++i) apart[Size(i)] = q[Size(i)] - row[Size(i)];
      const double log_sum = kernels_.log_sum_exp(row.data(), vocab);
      const double log_sum_q = kernels_.log_sum_exp(q.data(), vocab);
      kernels_.probabilities(q.data(), log_sum_q, vocab);
      kernels_.probabilities(row.data(), log_sum, vocab);
      double sum = 0;
      for (Index i = 0; i < vocab; ++i) {
        sum += static_cast<double>(q[Size(i)]) * static_cast<double>(apart[Size(i)]);
        row[Size(i)] -= q[Size(i)];
      }
      kl[Size(r)] = sum + log_sum - log_sum_q;
    });
  }

  std::unique_ptr<PlacedSums<double>> MakeGram(Index n) override {
    return std::make_unique<HostSums<double>>(Matrix<double>(n, n));
  }
  std::unique_ptr<PlacedSums<float>> MakeCross(Index rows, Index cols) override {
    return std::make_unique<HostSums<float>>(Matrix<float>(rows, cols));
  }

  void GramUpdate(DeviceView<const float> x, PlacedSums<double>& gram) override {
    LIEQ_ASSERT(gram.rows() == x.cols() && gram.cols() == x.cols());
    AddGram(Host(x), static_cast<HostSums<double>&>(gram).view());
  }

  void CrossGramUpdate(DeviceView<const float> a_, DeviceView<const float> b_,
                       PlacedSums<float>& sums) override {
    const View<float, 2> cross = static_cast<HostSums<float>&>(sums).view();
    LIEQ_ASSERT(a_.rows() == b_.rows() && cross.rows() == a_.cols() && cross.cols() == b_.cols());
    products_.AddCross(Host(a_), Host(b_), cross);
  }

  void RoundRows(DeviceView<float> x_, Index group, int bits) override {
    const View<float, 2> x = Host(x_);
    LIEQ_ASSERT(group >= 1 && bits >= 2 && bits <= 8);
    const auto most = static_cast<float>((1 << (bits - 1)) - 1);
    ForRows(x.rows(), [&](Index r) {
      const std::span<float> row = x.Row(r);
      for (std::size_t begin = 0; begin < row.size(); begin += Size(group)) {
        const std::span<float> part = row.subspan(begin, std::min(Size(group), row.size() - begin));
        float largest = 0;
        for (const float value : part) largest = std::max(largest, std::fabs(value));
        const float scale = largest / most;
        for (float& value : part) {
          value = scale > 0 ? std::nearbyint(value / scale) * scale : value * 0;  // NaN stays
        }
      }
    });
  }

  void Subtract(DeviceView<const float> a_, DeviceView<const float> b_, float times,
                DeviceView<float> out_) override {
    const View<const float, 2> a = Host(a_), b = Host(b_);
    const View<float, 2> out = Host(out_);
    LIEQ_ASSERT(a.rows() == b.rows() && a.cols() == b.cols());
    LIEQ_ASSERT(a.rows() == out.rows() && a.cols() == out.cols());
    ForRows(a.rows(), [&](Index r) {
      const float *from = a.Row(r).data(), *less = b.Row(r).data();
      float* to = out.Row(r).data();
      for (Index c = 0; c < a.cols(); ++c) to[c] = times * (from[c] - less[c]);
    });
  }

  void Sync() override {}

 private:
  /// Calls `row` for 0..rows-1, a few rows to a task.
  template <class Function>
  void ForRows(Index rows, const Function& row) {
    constexpr Index kRows = 32;
    pool_.ParallelFor(CeilDiv(rows, kRows), [&](Index task, int) {
      const Index end = std::min(rows, (task + 1) * kRows);
      for (Index r = task * kRows; r < end; ++r) row(r);
    });
  }

  void CopyRows(View<const float, 2> from, View<float, 2> to) {
    LIEQ_ASSERT(from.rows() == to.rows() && from.cols() == to.cols());
    ForRows(from.rows(), [&](Index r) {
      std::memcpy(to.Row(r).data(), from.Row(r).data(), Size(from.cols()) * sizeof(float));
    });
  }

  /// gram += xᵀ x, the lower triangle tile by tile.
  void AddGram(View<const float, 2> x, View<double, 2> gram) {
    const Index tile = GramTile(x.cols()), down = CeilDiv(x.cols(), tile);
    // Added up in float before they go to double: few, since an error of 1e-6 already makes a Gram
    // matrix of dependent inputs indefinite.
    constexpr Index kMostRows = 512;
    pool_.ParallelFor(down * (down + 1) / 2, [&](Index task, int worker) {
      Index i = 0;
      while ((i + 1) * (i + 2) / 2 <= task) ++i;
      const Index j = task - i * (i + 1) / 2;
      const Index rows = std::min(tile, x.cols() - i * tile);
      const Index cols = std::min(tile, x.cols() - j * tile);
      const View<float, 2> part = Scratch(worker, rows, cols);
      for (Index begin = 0; begin < x.rows(); begin += kMostRows) {
        const View<const float, 2> some = x.Rows(begin, std::min(kMostRows, x.rows() - begin));
        Gemm(1.0f, some.Cols(i * tile, rows), Transpose::kYes, some.Cols(j * tile, cols),
             Transpose::kNo, 0.0f, part);
        for (Index r = 0; r < rows; ++r) {
          const Index row = i * tile + r;
          kernels_.add_to_double(part.Row(r).data(), gram.Row(row).data() + j * tile,
                                 std::min(cols, row - j * tile + 1));
        }
      }
    });
  }

  View<float, 2> Scratch(int worker, Index rows, Index cols) {
    return scratch_.Get(worker, rows, cols);
  }

  ThreadPool& pool_;
  LargePages pages_;  // that packed matrices lie in
  const KernelSet& kernels_;
  const Arithmetic arithmetic_;
  const CacheType cache_;
  WorkerScratch scratch_;
  CpuAttention attention_;
  CpuMixers mixers_{pool_};
  std::optional<PackedProducts> packed_products_;
  CpuProducts products_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(ThreadPool& pool, const DeviceOptions& options) {
  PrepareBlas();
  if (options.arithmetic == Arithmetic::kBf16 && !HasBf16Product()) {
    throw Error({.what = "this processor has no bf16 arithmetic (AVX512_BF16)",
                 .where = "--arithmetic",
                 .hint = "float32 gives the reference's results on any processor"});
  }
  const std::string& kernels = options.kernels.empty() ? options.usual_kernels : options.kernels;
  if (!IsPacked(kernels)) {
    return std::make_unique<CpuDevice>(pool, ChooseKernels(kernels), nullptr, options);
  }
  const std::string row =
      kernels.substr(std::min(kernels.size(), kPackedKernels.size() + 1));  // behind "packed-"
  return std::make_unique<CpuDevice>(pool, ChooseKernels(""), &ChoosePackedKernels(row), options);
}

}  // namespace lieq
