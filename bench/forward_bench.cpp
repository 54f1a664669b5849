// Seconds of `lieq evaluate` over seconds of the same arithmetic as plain OpenBLAS products.
//
//   forward_bench MODEL TEXT [WINDOWS=8] [THREADS=all]
//
// Both run in this process on the same windows, one after the other, three times; medians are
// printed. The products are those of every linear on all rows of a batch, of the head on all
// scored rows, and of attention's scores and sums (in the causal blocks of 128 queries that the
// program computes), as single sgemm calls with OpenBLAS's own threads, on float32 operands that
// lie ready. Everything else (widening weights, norms, rotary angles, softmax, SwiGLU, NLL) is what
// the program adds.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/linalg/blas.h"
#include "lieq/linalg/linalg.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/windows.h"

namespace lieq {
namespace {

double Seconds(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Multiplies in place of one evaluation; buffers are as large as the largest operand.
class Products {
 public:
  explicit Products(const ModelConfig& config, Index length) : config_(config), length_(length) {
    const Index widest = std::max({config.hidden, config.intermediate, config.In(Site::kO)});
    x_ = Matrix<float>(kRows, widest);
    w_ = Matrix<float>(std::max(config.vocab, widest), widest);
    y_ = Matrix<float>(std::max<Index>(kRows, 128), std::max(config.vocab, widest));
    for (Index i = 0; i < x_.size(); ++i) x_.data()[i] = static_cast<float>(i % 17) * 0.1f;
    for (Index i = 0; i < w_.size(); ++i) w_.data()[i] = static_cast<float>(i % 13) * 0.1f;
  }

  double Run(Index windows) {
    const auto begin = std::chrono::steady_clock::now();
    const Index rows = windows * length_;
    for (Index layer = 0; layer < config_.layers; ++layer) {
      for (const Site site : kAllSites) Multiply(rows, config_.Out(site), config_.In(site));
      for (Index task = 0; task < windows * config_.heads; ++task) {
        for (Index at = 0; at < length_; at += 128) {
          const Index queries = std::min<Index>(128, length_ - at);
          Multiply(queries, at + queries, config_.head_dim);
          Multiply(queries, config_.head_dim, at + queries);
        }
      }
    }
    Multiply(windows * (length_ - 1), config_.vocab, config_.hidden);
    return Seconds(begin);
  }

 private:
  static constexpr Index kRows = 1024;  // larger products are cut: their outputs would not fit

  void Multiply(Index rows, Index out, Index in) {
    for (Index at = 0; at < rows; at += kRows) {
      const Index count = std::min(kRows, rows - at);
      Gemm(1.0f, View<const float, 2>(x_.data(), count, in), Transpose::kNo,
           View<const float, 2>(w_.data(), out, in), Transpose::kYes, 0.0f,
           View<float, 2>(y_.data(), count, out));
    }
  }

  const ModelConfig& config_;
  Index length_;
  Matrix<float> x_, w_, y_;
};

int Run(int count, char** words) {
  if (count < 3) {
    std::fprintf(stderr, "forward_bench MODEL TEXT [WINDOWS=8] [THREADS=all]\n");
    return 2;
  }
  const int threads =
      count > 4 ? std::atoi(words[4]) : static_cast<int>(std::thread::hardware_concurrency());
  const ModelFolder model = OpenModel(words[1]);
  const Tokenizer tokenizer = Tokenizer::Open(model.path / "tokenizer.json");
  const Windows windows = CutWindows(tokenizer.Encode(ReadText(words[2])), 1024,
                                     count > 3 ? std::atoi(words[3]) : 8, words[2]);
  ThreadPool pool(threads);
  const Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  const auto device = MakeCpuDevice(pool);
  Products products(model.weights.config, windows.length);
  std::vector<double> ours, blas, ratios;
  for (int round = 0; round < 3; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    (void)MeasurePerplexity(model.weights, *device, windows.view(), context);
    ours.push_back(Seconds(begin));
    openblas_set_num_threads(threads);
    blas.push_back(products.Run(windows.count));
    openblas_set_num_threads(1);
    ratios.push_back(ours.back() / blas.back());
  }
  std::printf("%s, %d threads, %s, %ld windows of 1,024\n", words[1], threads,
              device->description().c_str(), static_cast<long>(windows.count));
  std::printf("evaluate %.2f s, OpenBLAS products %.2f s, ratio %.2f (medians of 3)\n",
              Median(ours), Median(blas), Median(ratios));
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  return lieq::Run(count, words);
}
