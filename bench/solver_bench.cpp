// What quantizing a layer costs beside its forward passes, against the same multiply-adds as plain
// products, and `best` against `gptq`.
//
//   solver_bench [SHAPE=qwen2.5-0.5b] [WINDOWS=16] [BITS=2] [THREADS=all]
//
// SHAPE: a row of kShapes. One layer of random weights, windows of 1,024 random tokens. Seconds
// outside the forward passes are those of LayerQuantizer::Quantize less those of Skip, which runs
// the same passes on the codes that came out; products are sgemm on tiles of one size, a thread
// each. Peak memory is the process's while a method quantizes.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/rng.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/linalg/linalg.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/layer_quantizer.h"

namespace lieq {
namespace {

struct Shape {
  const char* name;
  Index hidden, intermediate, heads, kv_heads, head_dim;
};
constexpr Shape kShapes[]{
    {"qwen2.5-0.5b", 896, 4864, 14, 2, 64},
    {"qwen3-0.6b", 1024, 3072, 16, 8, 128},
    {"qwen3-4b", 2560, 9728, 32, 8, 128},
};

class Clock {
 public:
  [[nodiscard]] double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// A model of one layer, whose matrices it owns.
struct RandomModel {
  Weights weights;
  std::vector<Matrix<Bf16>> matrices;

  explicit RandomModel(const Shape& shape) {
    ModelConfig& config = weights.config;
    config = {.architecture = "Qwen3ForCausalLM",
              .layers = 1,
              .hidden = shape.hidden,
              .intermediate = shape.intermediate,
              .heads = shape.heads,
              .kv_heads = shape.kv_heads,
              .head_dim = shape.head_dim,
              .vocab = 512,
              .max_positions = 1024,
              .tied = true,
              .qk_norm = true};
    weights.embedding = weights.head = Draw(config.vocab, config.hidden, 1.0);
    weights.final_norm.assign(Size(config.hidden), 1.0f);
    LayerWeights& layer = weights.layers.emplace_back();
    for (const Site site : kAllSites) {
      layer.At(site).weight = Draw(config.Out(site), config.In(site),
                                   1 / std::sqrt(static_cast<double>(config.In(site))));
    }
    layer.attention_norm = layer.mlp_norm = weights.final_norm;
    layer.q_norm.assign(Size(config.head_dim), 1.0f);
    layer.k_norm = layer.q_norm;
  }

  AnyMatrix Draw(Index rows, Index cols, double deviation) {
    Matrix<Bf16>& matrix = matrices.emplace_back(rows, cols);
    Rng rng(matrices.size());
    for (Index i = 0; i < matrix.size(); ++i) {
      matrix.data()[i] = ToBf16(static_cast<float>(deviation * rng.Normal()));
    }
    return View<const Bf16, 2>(matrix.view());
  }
};

void ForgetPeak() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

double PeakMegabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::atof(line.c_str() + 6) * 1024e-6;  // from KiB
  }
  return 0;
}

/// Multiply-adds of one layer outside its forward passes, those of products and triangles alone,
/// and of all four rounds of refinement, also where rows stop earlier.
double Work(const ModelConfig& config, double tokens, const QuantOptions& options) {
  double sum = 0;
  const double held_out = options.judges() ? tokens / 8 : 0, fitted = tokens - held_out;
  for (const Unit unit : kAllUnits) {
    const auto n = static_cast<double>(config.In(SitesOf(unit).front()));
    const auto hidden = static_cast<double>(config.hidden);
    const bool adds = unit == Unit::kO || unit == Unit::kDown;
    const bool by_tokens = JudgedByTokens(static_cast<Index>(held_out), static_cast<Index>(n), adds,
                                          options.corrects());
    sum += fitted * n * n / 2 + n * n * n / 6;
    if (!by_tokens) sum += held_out * n * n;
    if (options.corrects()) {
      // W (x - u), and what is missing by u; else the drift by u.
      sum += adds ? (tokens + (by_tokens ? fitted : tokens)) * n * hidden : tokens * n * n;
    }
    for (const Site site : SitesOf(unit)) {
      const double row = static_cast<double>(config.Out(site)) * n, pass = row * n;
      sum += 1.5 * pass;  // two passes of feedback, and the signal
      if (options.corrects()) sum += (adds ? 1 : 2) * pass;          // two triangles, and W D
      if (*options.rounds > 0) sum += (1 + *options.rounds) * pass;  // gradient, blocks
      if (held_out == 0) continue;
      sum += by_tokens ? 2 * row * held_out : (options.corrects() && !adds ? 3 : 2) * pass;
    }
  }
  return sum;
}

/// Multiply-adds a second of all threads on products of 256 x 256 x 512.
double PlainSpeed(ThreadPool& pool) {
  constexpr Index kTasks = 64, kSide = 256, kDepth = 512;
  const auto threads = static_cast<std::size_t>(pool.size());
  std::vector<Matrix<float>> a(threads), b(threads), c(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    a[i] = Matrix<float>(kSide, kDepth);
    b[i] = Matrix<float>(kDepth, kSide);
    c[i] = Matrix<float>(kSide, kSide);
  }
  double best = 1e30;
  for (int time = 0; time < 5; ++time) {
    const Clock clock;
    pool.ParallelFor(kTasks, [&](Index, int worker) {
      const auto w = static_cast<std::size_t>(worker);
      Gemm(1.0f, a[w].view(), Transpose::kNo, b[w].view(), Transpose::kNo, 0.0f, c[w].view());
    });
    best = std::min(best, clock.Seconds());
  }
  return static_cast<double>(kTasks * kSide * kSide * kDepth) / best;
}

void RunMethod(const std::string& method, const RandomModel& model, int bits, Index windows,
               Context& context, double speed) {
  Matrix<TokenId> tokens(windows, 1024);
  Rng rng(7);
  for (Index i = 0; i < tokens.size(); ++i) tokens.data()[i] = static_cast<TokenId>(rng.Below(512));
  const auto device = MakeCpuDevice(context.pool);
  const QuantOptions options = WithDefaults({.method = method});
  std::array<Grid, kSites> grids;
  grids.fill({.bits = bits, .group_size = 64});
  ForgetPeak();
  std::optional<LayerQuantizer> quantizer(std::in_place, model.weights, *device, options,
                                          tokens.view(), context);
  const Clock whole;
  const QuantizedLayer layer = quantizer->Quantize(grids);
  const double seconds = whole.Seconds(), peak = PeakMegabytes();
  quantizer.reset();
  LayerQuantizer again(model.weights, *device, options, tokens.view(), context);
  const Clock passing;
  again.Skip(layer);
  const double passes = passing.Seconds();
  double error = 0;
  for (const LinearReport& report : layer.reports) error += report.error / report.signal / kSites;
  const double products =
      Work(model.weights.config, static_cast<double>(tokens.size()), options) / speed;
  std::printf("%-6s %8.2f %8.2f %8.2f %8.2f %8.2f %8.0f %9.5f\n", method.c_str(), seconds, passes,
              seconds - passes, products, (seconds - passes) / products, peak, error);
  std::fflush(stdout);
}

/// Blocked Cholesky on one thread and on all.
void RunFactor(Index n, int threads) {
  Matrix<float> h(n, n);
  Rng rng(3);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < i; ++j) h(i, j) = static_cast<float>(0.01 * rng.Normal());
    h(i, i) = 4;
  }
  double seconds[2];
  for (int i = 0; i < 2; ++i) {
    ThreadPool pool(i == 0 ? 1 : threads);
    const Clock clock;
    const GptqFactor factor = FactorGram(std::as_const(h).view(), {}, {}, &pool);
    seconds[i] = clock.Seconds();
    if (factor.order.empty()) std::puts("not positive definite");
  }
  std::printf("FactorGram n = %ld: %.2f s on 1 thread, %.2f s on %d: %.2f times\n",
              static_cast<long>(n), seconds[0], seconds[1], threads, seconds[0] / seconds[1]);
}

int Run(int count, char** words) {
  const std::string name = count > 1 ? words[1] : "qwen2.5-0.5b";
  const Index windows = count > 2 ? std::atoi(words[2]) : 16;
  const int bits = count > 3 ? std::atoi(words[3]) : 2;
  const int threads =
      count > 4 ? std::atoi(words[4]) : static_cast<int>(std::thread::hardware_concurrency());
  if (name == "factor") {
    RunFactor(count > 2 ? std::atoi(words[2]) : 8192, threads);
    return 0;
  }
  const auto* shape = std::ranges::find_if(kShapes, [&](const Shape& s) { return name == s.name; });
  if (shape == std::end(kShapes)) {
    std::fprintf(stderr, "solver_bench SHAPE [WINDOWS] [BITS] [THREADS], or factor [N]; shapes:");
    for (const Shape& each : kShapes) std::fprintf(stderr, " %s", each.name);
    std::fputc('\n', stderr);
    return 2;
  }
  ThreadPool pool(threads);
  const Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  const double speed = PlainSpeed(pool);
  const RandomModel model(*shape);
  std::printf("%s, %ld windows of 1,024, %d bits, %d threads, plain products %.0f GF/s\n",
              shape->name, static_cast<long>(windows), bits, threads, 2e-9 * speed);
  std::printf("%-6s %8s %8s %8s %8s %8s %8s %9s\n", "method", "s", "passes", "outside", "plain",
              "factor", "peak MB", "error");
  for (const char* method : {"best", "gptq"}) {
    RunMethod(method, model, bits, windows, context, speed);
  }
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  return lieq::Run(count, words);
}
