// How much of the speed of plain matrix products zero-shot tasks reach.
//
//   tasks_bench MODEL TASKS_FOLDER [LIMIT=all] [THREADS=all] [float32|bf16]
//
// Runs the eight tasks on their first LIMIT questions and prints, for each, the operations of the
// model's linears on the tokens that ran, and of its head on those that were scored, over the
// seconds: tokens that a question shares count once, and there is no padding. Before and after it
// times the same products in this process as single sgemm calls with OpenBLAS's own threads, on
// float32 operands that lie ready. Attention, norms, softmax, encoding are what the program adds.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/evaluate/tasks.h"
#include "lieq/linalg/blas.h"
#include "lieq/linalg/linalg.h"

namespace lieq {
namespace {

double Seconds(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Seconds of x wᵀ for one row, of `rows` at a time.
double SecondsOfRow(Index rows, Index out, Index in) {
  constexpr Index kCut = 1024;  // larger products are cut: their outputs would not fit
  Matrix<float> x(kCut, in), w(out, in), y(kCut, out);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 17) * 0.1f;
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(i % 13) * 0.1f;
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (Index at = 0; at < rows; at += kCut) {
      Gemm(1.0f, std::as_const(x).view(), Transpose::kNo, std::as_const(w).view(), Transpose::kYes,
           0.0f, y.view());
    }
    best = std::min(best, Seconds(begin) / static_cast<double>(rows));
  }
  return best;
}

/// Of a token through all linears, and of one through the head.
struct Costs {
  double linears = 0, head = 0;
};

Costs Measure(const ModelConfig& config, int threads) {
  openblas_set_num_threads(threads);
  Costs costs;
  for (const Site site : kAllSites) {
    costs.linears += SecondsOfRow(kBatchRows, config.Out(site), config.In(site)) *
                     static_cast<double>(config.layers);
  }
  costs.head = SecondsOfRow(2048, config.vocab, config.hidden);
  openblas_set_num_threads(1);
  return costs;
}

int Run(int count, char** words) {
  if (count < 3) {
    std::fprintf(stderr,
                 "tasks_bench MODEL TASKS_FOLDER [LIMIT=all] [THREADS=all] [float32|bf16]\n");
    return 2;
  }
  const Index limit = count > 3 ? std::atoi(words[3]) : 0;
  const int threads =
      count > 4 ? std::atoi(words[4]) : static_cast<int>(std::thread::hardware_concurrency());
  const bool bf16 = count > 5 && std::string_view(words[5]) == "bf16";
  const ModelFolder model = OpenModel(words[1]);
  const ModelConfig& config = model.weights.config;
  const Tokenizer tokenizer = Tokenizer::Open(model.path / "tokenizer.json");
  ThreadPool pool(threads);
  const Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  const auto device =
      MakeCpuDevice(pool, {.arithmetic = bf16 ? Arithmetic::kBf16 : Arithmetic::kFloat32});
  std::printf("%s, %d threads, %s\n", words[1], threads, device->description().c_str());

  const Costs before = Measure(config, threads);
  const double of_token = 2e-9 * static_cast<double>(config.layers * config.LayerWeightCount());
  const double of_head = 2e-9 * static_cast<double>(config.vocab * config.hidden);
  std::printf("sgemm of the same shapes: linears %.1f, head %.1f GFLOP/s\n",
              of_token / before.linears, of_head / before.head);
  std::printf("%-14s %6s %6s %8s %9s %9s %9s %8s %8s %6s\n", "task", "items", "acc", "acc_norm",
              "tokens", "ran", "head", "seconds", "GFLOP/s", "share");
  double seconds = 0, operations = 0, plain = 0;
  for (const TaskDescription& task : Tasks()) {
    if (task.shots > 0) continue;
    const TaskResult result = MeasureTask(model.weights, tokenizer, *device, task,
                                          ReadTask(task, words[2], limit), context);
    const auto rows = static_cast<double>(result.rows),
               heads = static_cast<double>(result.head_rows);
    const double work = rows * of_token + heads * of_head;
    const double product = rows * before.linears + heads * before.head;
    std::printf("%-14s %6ld %6.4f %8.4f %9ld %9ld %9ld %8.1f %8.1f %6.2f\n", task.name.c_str(),
                static_cast<long>(result.items), result.accuracy.mean,
                result.normalized.value_or(Accuracy{}).mean, static_cast<long>(result.tokens),
                static_cast<long>(result.rows), static_cast<long>(result.head_rows), result.seconds,
                work / result.seconds, product / result.seconds);
    std::fflush(stdout);
    seconds += result.seconds;
    operations += work;
    plain += product;
  }
  const Costs after = Measure(config, threads);
  std::printf(
      "all: %.1f s, %.1f GFLOP/s, %.2f of plain products (after the run they took %.2f "
      "times as long)\n",
      seconds, operations / seconds, plain / seconds, after.linears / before.linears);
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  return lieq::Run(count, words);
}
