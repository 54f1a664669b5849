// What bf16 arithmetic gains over float32, and what it changes.
//
//   bf16_bench MODEL TEXT [WINDOWS=8] [THREADS=all]
//
// In this process and in turn, three times each: the products of every linear of the model and of
// its head on 8,192 rows, as the program computes them in either arithmetic; and the evaluation of
// the text's first windows of 1,024 tokens. Prints ratios of medians and the perplexities.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/files.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/windows.h"

namespace lieq {
namespace {

template <class F>
double Seconds(F&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Seconds of y = x wᵀ for each of the devices, in turn.
std::vector<double> Product(const std::vector<Device*>& devices, const AnyMatrix& w, Index rows) {
  std::vector<double> medians;
  std::vector<std::vector<double>> seconds(devices.size());
  Matrix<float> x(rows, Cols(w));
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 17) * 0.1f - 0.8f;
  for (int round = 0; round < 3; ++round) {
    for (std::size_t d = 0; d < devices.size(); ++d) {
      const DeviceMatrix from = devices[d]->Alloc(rows, Cols(w));
      const DeviceMatrix to = devices[d]->Alloc(rows, Rows(w));
      devices[d]->Upload(std::as_const(x).view(), from.view());
      const Prepared prepared = devices[d]->Prepare(w);
      devices[d]->Matmul(from.view(), *prepared, {}, to.view(), false);  // touches all pages
      devices[d]->Sync();
      seconds[d].push_back(Seconds([&] {
        devices[d]->Matmul(from.view(), *prepared, {}, to.view(), false);
        devices[d]->Sync();
      }));
    }
  }
  for (const auto& each : seconds) medians.push_back(Median(each));
  return medians;
}

int Run(int count, char** words) {
  if (count < 3) {
    std::fprintf(stderr, "bf16_bench MODEL TEXT [WINDOWS=8] [THREADS=all]\n");
    return 2;
  }
  const int threads =
      count > 4 ? std::atoi(words[4]) : static_cast<int>(std::thread::hardware_concurrency());
  const ModelFolder model = OpenModel(words[1]);
  const ModelConfig& config = model.weights.config;
  const Tokenizer tokenizer = Tokenizer::Open(model.path / "tokenizer.json");
  const Windows windows = CutWindows(tokenizer.Encode(ReadText(words[2])), 1024,
                                     count > 3 ? std::atoi(words[3]) : 8, words[2]);
  ThreadPool pool(threads);
  const Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  const auto plain = MakeCpuDevice(pool);
  const auto rounded = MakeCpuDevice(pool, {.arithmetic = Arithmetic::kBf16});
  const std::vector<Device*> devices{plain.get(), rounded.get()};
  std::printf("%s, %d threads, %s\n", words[1], threads, rounded->description().c_str());

  std::printf("%-8s %14s %12s %12s %6s\n", "product", "outputs, in", "float32", "bf16", "ratio");
  double sums[2] = {0, 0};
  const auto show = [&](const char* name, const AnyMatrix& w, Index rows, double times) {
    const std::vector<double> seconds = Product(devices, w, rows);
    const double work = 2e-9 * static_cast<double>(rows * Rows(w) * Cols(w));
    std::printf("%-8s %7ld x %5ld %6.0f GF/s %6.0f GF/s %6.2f\n", name, static_cast<long>(Rows(w)),
                static_cast<long>(Cols(w)), work / seconds[0], work / seconds[1],
                seconds[0] / seconds[1]);
    for (int i = 0; i < 2; ++i) sums[i] += times * seconds[static_cast<std::size_t>(i)];
  };
  for (const Site site : kAllSites) {
    show(std::string(Name(site)).c_str(), model.weights.layers.front().At(site).weight, 8192,
         static_cast<double>(config.layers));
  }
  const Index head_rows = std::clamp<Index>((Index{1} << 25) / config.vocab, 1, 1024);
  show("head", model.weights.head, head_rows, 8192.0 / static_cast<double>(head_rows));
  std::printf("all products of 8,192 tokens: ratio %.2f\n", sums[0] / sums[1]);

  std::vector<double> seconds[2];
  double perplexity[2] = {0, 0};
  for (int round = 0; round < 3; ++round) {
    for (std::size_t d = 0; d < 2; ++d) {
      seconds[d].push_back(Seconds([&] {
        perplexity[d] =
            MeasurePerplexity(model.weights, *devices[d], windows.view(), context).perplexity;
      }));
    }
  }
  std::printf("evaluation of %ld windows: %.2f s, %.2f s, ratio %.2f\n",
              static_cast<long>(windows.count), Median(seconds[0]), Median(seconds[1]),
              Median(seconds[0]) / Median(seconds[1]));
  std::printf("perplexity %.5f, %.5f: %.4f %% apart\n", perplexity[0], perplexity[1],
              100 * std::fabs(perplexity[1] / perplexity[0] - 1));
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  return lieq::Run(count, words);
}
