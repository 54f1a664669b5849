#include "tests/support/strict_device.h"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include "lieq/base/assert.h"
#include "lieq/device/cpu/cpu_device.h"

namespace lieq {
namespace {

constexpr std::size_t kPage = 4096, kReserved = std::size_t{1} << 32;
constexpr int kNan = 0xFF;  // every byte: NaN of float and double, -1 of integers

void Protect(std::byte* from, std::size_t bytes, int access) {
  if (bytes > 0 && mprotect(from, bytes, access) != 0) throw std::bad_alloc();
}

}  // namespace

GuardedMemory::GuardedMemory() {
  void* pages =
      mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<std::byte*>(pages);
}

GuardedMemory::~GuardedMemory() {
  munmap(base_, kReserved);
}

std::byte* GuardedMemory::Take(std::size_t bytes) {
  const std::size_t size = std::max(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (const auto found = free_.find(size); found != free_.end()) {
    std::byte* block = found->second;
    free_.erase(found);
    return block;
  }
  if (used_ + size > kReserved) throw std::bad_alloc();
  std::byte* block = base_ + used_;
  used_ += size;
  sizes_[block] = size;
  return block;
}

void GuardedMemory::GiveBack(std::byte* block) {
  free_.emplace(sizes_.at(block), block);
}

void GuardedMemory::Open() {
  Protect(base_, used_, PROT_READ | PROT_WRITE);
}

void GuardedMemory::Close() {
  Protect(base_, used_, PROT_NONE);
}

/// A matrix of the CPU's, whose floats were copied into the device's memory.
class StrictDevice::Held final : public PreparedMatrix {
 public:
  Held(Prepared inner, GuardedMemory& memory, std::byte* copy)
      : inner_(std::move(inner)), memory_(memory), copy_(copy) {}
  ~Held() override {
    if (copy_ != nullptr) memory_.GiveBack(copy_);
  }
  [[nodiscard]] Index rows() const noexcept override { return inner_->rows(); }
  [[nodiscard]] Index cols() const noexcept override { return inner_->cols(); }

  static const PreparedMatrix& Inner(const PreparedMatrix& held) {
    return *static_cast<const Held&>(held).inner_;
  }

 private:
  Prepared inner_;
  GuardedMemory& memory_;
  std::byte* copy_;
};

StrictDevice::StrictDevice(ThreadPool& pool) : cpu_(MakeCpuDevice(pool)) {}

StrictDevice::~StrictDevice() = default;

template <class T>
View<T, 2> StrictDevice::Later(View<T, 2> to) {
  if (to.size() == 0) return to;
  auto* where = reinterpret_cast<std::byte*>(to.data());
  const auto [entry, fresh] = results_.try_emplace(where);
  Result& result = entry->second;
  const std::size_t row_bytes = Size(to.cols()) * sizeof(T);
  if (fresh) {
    result = {row_bytes, Size(to.stride()) * sizeof(T),
              std::vector<std::byte>(Size(to.rows()) * row_bytes)};
    for (Index r = 0; r < to.rows(); ++r) {
      std::memcpy(result.values.data() + Size(r) * row_bytes, to.Row(r).data(), row_bytes);
      std::memset(to.Row(r).data(), kNan, row_bytes);
    }
  }
  LIEQ_ASSERT(result.row_bytes == row_bytes);
  LIEQ_ASSERT(result.values.size() == Size(to.rows()) * row_bytes);
  return {reinterpret_cast<T*>(result.values.data()), to.rows(), to.cols()};
}

template <class T>
std::span<T> StrictDevice::Later(std::span<T> to) {
  const View<T, 2> later = Later(View<T, 2>(to.data(), 1, static_cast<Index>(to.size())));
  return {later.data(), to.size()};
}

void StrictDevice::Deliver() {
  for (const auto& [where, result] : results_) {
    for (std::size_t r = 0; r * result.row_bytes < result.values.size(); ++r) {
      std::memcpy(where + r * result.stride_bytes, result.values.data() + r * result.row_bytes,
                  result.row_bytes);
    }
  }
  results_.clear();
}

void StrictDevice::Sync() {
  if (results_.empty()) return;
  if (syncs_++ == left_out_) {
    results_.clear();
  } else {
    Deliver();
  }
}

std::string StrictDevice::description() const {
  return "strict " + cpu_->description();
}

DeviceMatrix StrictDevice::Alloc(Index rows, Index cols) {
  allocated_ += rows * cols;
  const std::size_t bytes = Size(rows * cols) * sizeof(float);
  std::byte* block = memory_.Take(bytes);
  const Opened opened(memory_);
  std::memset(block, kNan, bytes);
  return {reinterpret_cast<float*>(block), rows, cols,
          [this](float* pointer) { memory_.GiveBack(reinterpret_cast<std::byte*>(pointer)); }};
}

void StrictDevice::Upload(View<const float, 2> from, DeviceView<float> to) {
  const Opened opened(memory_);
  cpu_->Upload(from, to);
}

View<const float, 2> StrictDevice::ReadOutside(DeviceView<const float> x) {
  read_ = Matrix<float>(x.rows(), x.cols());
  Download(x, read_.view());
  return read_.view();
}

void StrictDevice::Download(DeviceView<const float> from, View<float, 2> to) {
  Deliver();
  const Opened opened(memory_);
  cpu_->Download(from, to);
}

void StrictDevice::Copy(DeviceView<const float> from, DeviceView<float> to) {
  const Opened opened(memory_);
  cpu_->Copy(from, to);
}

Prepared StrictDevice::Prepare(const AnyMatrix& matrix) {
  return std::visit(
      [&](const auto& held) -> Prepared {
        if constexpr (requires { held->rows(); }) {
          return std::make_shared<Held>(cpu_->Prepare(held), memory_, nullptr);
        } else {
          using T = std::remove_cvref_t<decltype(*held.data())>;
          const std::size_t row_bytes = Size(held.cols()) * sizeof(T);
          std::byte* block = memory_.Take(Size(held.rows()) * row_bytes);
          const Opened opened(memory_);
          for (Index r = 0; r < held.rows(); ++r) {
            std::memcpy(block + Size(r) * row_bytes, held.Row(r).data(), row_bytes);
          }
          const View<const T, 2> copy(reinterpret_cast<const T*>(block), held.rows(), held.cols());
          return std::make_shared<Held>(cpu_->Prepare(copy), memory_, block);
        }
      },
      matrix);
}

void StrictDevice::Products(DeviceView<const float> x, std::span<const Product> products,
                            bool add) {
  std::vector<Product> inner;
  for (const Product& product : products) {
    inner.push_back({Held::Inner(product.w), product.bias, product.y});
  }
  const Opened opened(memory_);
  cpu_->Products(x, inner, add);
}

void StrictDevice::RmsNorm(DeviceView<const float> x, DeviceView<const float> weight, double eps,
                           DeviceView<float> y) {
  const Opened opened(memory_);
  cpu_->RmsNorm(x, weight, eps, y);
}

void StrictDevice::Rope(DeviceView<float> x, const RopeTable& table,
                        std::span<const AttentionSpan> spans, Index head_dim) {
  const Opened opened(memory_);
  cpu_->Rope(x, table, spans, head_dim);
}

void StrictDevice::Attention(DeviceView<const float> q, DeviceView<const float> k,
                             DeviceView<const float> v, const AttentionHeads& heads,
                             std::span<const AttentionSpan> spans, DeviceView<float> out) {
  const Opened opened(memory_);
  cpu_->Attention(q, k, v, heads, spans, out);
}

std::unique_ptr<RowCache> StrictDevice::AllocCache(Index rows, Index kv_heads, Index head_dim) {
  return cpu_->AllocCache(rows, kv_heads, head_dim);
}

void StrictDevice::Store(DeviceView<const float> from, RowCache& cache, Index row) {
  const Opened opened(memory_);
  cpu_->Store(from, cache, row);
}

void StrictDevice::CachedAttention(DeviceView<const float> q, const RowCache& k, const RowCache& v,
                                   const AttentionHeads& heads,
                                   std::span<const AttentionSpan> spans, DeviceView<float> out) {
  const Opened opened(memory_);
  cpu_->CachedAttention(q, k, v, heads, spans, out);
}

void StrictDevice::RoundRows(DeviceView<float> x, Index group, int bits) {
  const Opened opened(memory_);
  cpu_->calibration()->RoundRows(x, group, bits);
}

void StrictDevice::Scale(DeviceView<float> x, float factor) {
  const Opened opened(memory_);
  cpu_->Scale(x, factor);
}

void StrictDevice::SwiGlu(DeviceView<float> gate, DeviceView<const float> up) {
  const Opened opened(memory_);
  cpu_->SwiGlu(gate, up);
}

void StrictDevice::EmbedRows(const PreparedMatrix& table, std::span<const TokenId> tokens,
                             DeviceView<float> out) {
  const Opened opened(memory_);
  cpu_->EmbedRows(Held::Inner(table), tokens, out);
}

void StrictDevice::LogSoftmaxNll(DeviceView<float> logits, std::span<const TokenId> targets,
                                 std::span<double> nll) {
  const Opened opened(memory_);
  cpu_->LogSoftmaxNll(logits, targets, Later(nll));
}

void StrictDevice::LogProbabilities(DeviceView<const float> logits,
                                    std::span<const TokenPick> picks,
                                    std::span<double> log_probabilities) {
  const Opened opened(memory_);
  cpu_->LogProbabilities(logits, picks, Later(log_probabilities));
}

void StrictDevice::SoftmaxKl(DeviceView<const float> reference, DeviceView<const float> logits,
                             std::span<double> kl) {
  const Opened opened(memory_);
  cpu_->SoftmaxKl(reference, logits, Later(kl));
}

void StrictDevice::TopColumns(DeviceView<const float> x, View<TokenId, 2> columns) {
  const Opened opened(memory_);
  cpu_->TopColumns(x, Later(columns));
}

/// The CPU's, which are over once somebody has asked.
template <class T>
class StrictDevice::HeldSums final : public PlacedSums<T> {
 public:
  explicit HeldSums(std::unique_ptr<PlacedSums<T>> inner) : inner_(std::move(inner)) {}
  [[nodiscard]] Index rows() const noexcept override { return inner_->rows(); }
  [[nodiscard]] Index cols() const noexcept override { return inner_->cols(); }
  [[nodiscard]] const Matrix<T>& Host() override { return Asked().Host(); }
  [[nodiscard]] Matrix<T> Take() override { return Asked().Take(); }
  void Diagonal(std::span<T> to) override { Asked().Diagonal(to); }
  void Set(View<const T, 2> values) override { inner_->Set(values); }
  void Add(PlacedSums<T>& others) override {
    Inner(*this).Add(static_cast<HeldSums&>(others).Asked());
  }
  void Copy(PlacedSums<T>& others) override {
    Inner(*this).Copy(static_cast<HeldSums&>(others).Asked());
  }

  /// To add to.
  static PlacedSums<T>& Inner(PlacedSums<T>& held) {
    auto& sums = static_cast<HeldSums&>(held);
    if (sums.asked_) throw std::logic_error("sums were asked for before all was added");
    return *sums.inner_;
  }

 private:
  PlacedSums<T>& Asked() {
    asked_ = true;
    return *inner_;
  }
  std::unique_ptr<PlacedSums<T>> inner_;
  bool asked_ = false;
};

std::unique_ptr<PlacedSums<double>> StrictDevice::MakeGram(Index n) {
  return std::make_unique<HeldSums<double>>(cpu_->calibration()->MakeGram(n));
}

std::unique_ptr<PlacedSums<float>> StrictDevice::MakeCross(Index rows, Index cols) {
  return std::make_unique<HeldSums<float>>(cpu_->calibration()->MakeCross(rows, cols));
}

void StrictDevice::GramUpdate(DeviceView<const float> x, PlacedSums<double>& gram) {
  const Opened opened(memory_);
  cpu_->calibration()->GramUpdate(x, HeldSums<double>::Inner(gram));
}

void StrictDevice::CrossGramUpdate(DeviceView<const float> a, DeviceView<const float> b,
                                   PlacedSums<float>& cross) {
  const Opened opened(memory_);
  cpu_->calibration()->CrossGramUpdate(a, b, HeldSums<float>::Inner(cross));
}

void StrictDevice::RowSquares(DeviceView<const float> x, std::span<double> sums) {
  const Opened opened(memory_);
  cpu_->calibration()->RowSquares(x, Later(sums));
}

void StrictDevice::ColumnSquares(DeviceView<const float> x, std::span<double> sums) {
  const Opened opened(memory_);
  cpu_->calibration()->ColumnSquares(x, Later(sums));
}

void StrictDevice::Subtract(DeviceView<const float> a, DeviceView<const float> b, float times,
                            DeviceView<float> out) {
  const Opened opened(memory_);
  cpu_->calibration()->Subtract(a, b, times, out);
}

void StrictDevice::MatmulGradient(DeviceView<const float> dy, const PreparedMatrix& w,
                                  DeviceView<float> dx, bool add) {
  const Opened opened(memory_);
  cpu_->gradients()->MatmulGradient(dy, Held::Inner(w), dx, add);
}

void StrictDevice::ProductsGradient(DeviceView<const float> x,
                                    std::span<const ProductGradient> products, DeviceView<float> dx,
                                    bool add) {
  const Opened opened(memory_);
  std::vector<ProductGradient> inner;
  for (const ProductGradient& each : products) {
    ProductGradient& held = inner.emplace_back(
        ProductGradient{.w = Held::Inner(each.w), .dy = each.dy, .of_weights = each.of_weights});
    if (held.of_weights.to != nullptr) {
      held.of_weights.to = &HeldSums<float>::Inner(*each.of_weights.to);
    }
  }
  cpu_->gradients()->ProductsGradient(x, inner, dx, add);
}

void StrictDevice::RmsNormGradient(DeviceView<const float> x, DeviceView<const float> weight,
                                   double eps, DeviceView<const float> dy, DeviceView<float> dx,
                                   bool add) {
  const Opened opened(memory_);
  cpu_->gradients()->RmsNormGradient(x, weight, eps, dy, dx, add);
}

void StrictDevice::AttentionGradient(DeviceView<const float> q, DeviceView<const float> k,
                                     DeviceView<const float> v, DeviceView<const float> dout,
                                     const AttentionShape& shape, DeviceView<float> dq,
                                     DeviceView<float> dk, DeviceView<float> dv) {
  const Opened opened(memory_);
  cpu_->gradients()->AttentionGradient(q, k, v, dout, shape, dq, dk, dv);
}

void StrictDevice::SwiGluGradient(DeviceView<float> gate, DeviceView<float> up,
                                  DeviceView<const float> d) {
  const Opened opened(memory_);
  cpu_->gradients()->SwiGluGradient(gate, up, d);
}

void StrictDevice::NllGradient(DeviceView<float> logits, std::span<const TokenId> targets,
                               std::span<double> nll) {
  const Opened opened(memory_);
  cpu_->gradients()->NllGradient(logits, targets, Later(nll));
}

void StrictDevice::KlGradient(DeviceView<float> logits, DeviceView<float> reference,
                              std::span<double> kl) {
  const Opened opened(memory_);
  cpu_->gradients()->KlGradient(logits, reference, Later(kl));
}

}  // namespace lieq
