// Milliseconds of a token of a quantized model over those of its source.
//
//   decode_bench SOURCE QUANTIZED [TOKENS=200] [THREADS=all]
//   decode_bench products [THREADS=all] [ROWS=1]
//
// Both models decode in this process, token after token in turns, behind a prompt of 16 tokens;
// each token is timed, and medians are printed. `products`: rows times matrices of the shapes of
// Qwen3-0.6B, in microseconds on one thread and on all, for each form of weights; the fastest of
// 300.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/decoder.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int Threads(int count, char** words, int at) {
  return count > at ? std::atoi(words[at]) : static_cast<int>(std::thread::hardware_concurrency());
}

int Decode(int count, char** words) {
  constexpr Index kPrompt = 16;
  const Index tokens = count > 3 ? std::atoi(words[3]) : 200;
  ThreadPool pool(Threads(count, words, 4));
  const auto device = MakeCpuDevice(pool);
  const std::array models{OpenModel(words[1]), OpenModel(words[2])};
  const Index vocab = models[0].weights.config.vocab;
  Rng rng(0);
  Matrix<TokenId> text(1, kPrompt + tokens);
  for (Index i = 0; i < text.size(); ++i) {
    text(0, i) = static_cast<TokenId>(rng.Below(static_cast<std::uint32_t>(vocab)));
  }
  Matrix<float> logits(1, vocab);
  std::deque<Decoder> decoders;  // which do not move
  for (const ModelFolder& model : models) {
    decoders.emplace_back(model.weights, *device, 1, kPrompt + tokens);
    decoders.back().Append(text.view().Cols(0, kPrompt), logits.view());
  }
  std::array<std::vector<double>, 2> times;
  std::vector<double> ratios;
  for (Index t = 0; t < tokens; ++t) {
    for (std::size_t m = 0; m < 2; ++m) {
      const auto begin = Clock::now();
      decoders[m].Append(text.view().Cols(kPrompt + t, 1), logits.view());
      times[m].push_back(Milliseconds(begin));
    }
    ratios.push_back(times[1].back() / times[0].back());
  }
  std::printf("%d threads, %s\n", pool.size(), device->description().c_str());
  std::printf("source %.3f ms a token, quantized %.3f ms, ratio %.2f (medians of %ld tokens)\n",
              Median(times[0]), Median(times[1]), Median(ratios), static_cast<long>(tokens));
  return 0;
}

/// Random codes; scales, zeros and minima as they come do not change the time.
AnyMatrix Packed(Index outs, Index ins, const Grid& grid) {
  QMatrix matrix(outs, ins, grid);
  Rng rng(1);
  for (std::uint32_t& word : matrix.words()) word = rng.Below(0xFFFFFFFFu);
  if (!grid.k_quant) std::ranges::fill_n(matrix.scales().data(), matrix.scales().size(), 0.01f);
  return std::make_shared<const QMatrix>(std::move(matrix));
}

double ProductMicroseconds(int threads, Index rows, const AnyMatrix& w) {
  constexpr int kRounds = 300;
  ThreadPool pool(threads);
  const auto device = MakeCpuDevice(pool);
  const DeviceMatrix x = device->Alloc(rows, Cols(w)), y = device->Alloc(rows, Rows(w));
  const Matrix<float> zeros(rows, Cols(w));
  device->Upload(zeros.view(), x.view());
  const Prepared prepared = device->Prepare(w);
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    device->Matmul(x.view(), *prepared, {}, y.view(), false);
    device->Sync();
    times.push_back(1e3 * Milliseconds(begin));
  }
  return std::ranges::min(times);
}

int Products(int count, char** words) {
  const int threads = Threads(count, words, 2);
  const Index rows = count > 3 ? std::atoi(words[3]) : 1;
  std::printf("%ld rows, microseconds on 1 and on %d threads\n%-12s", static_cast<long>(rows),
              threads, "out x in");
  const std::array<const char*, 6> names{"bf16", "2 bits", "3 bits", "4 bits", "8 bits", "q4_k"};
  for (const char* name : names) std::printf(" %16s", name);
  for (const auto& [outs, ins] : {std::pair<Index, Index>{2048, 1024},
                                  {1024, 1024},
                                  {1024, 2048},
                                  {3072, 1024},
                                  {1024, 3072}}) {
    std::printf("\n%5ld x %4ld", static_cast<long>(outs), static_cast<long>(ins));
    const Matrix<Bf16> plain(outs, ins);
    std::vector<AnyMatrix> forms{plain.view()};
    for (const int bits : {2, 3, 4, 8}) {
      forms.push_back(Packed(outs, ins, {.bits = bits, .group_size = 64}));
    }
    forms.push_back(Packed(outs, ins, FindKQuant("q4_k")->grid));
    for (const AnyMatrix& form : forms) {
      std::printf("  %6.1f / %6.1f", ProductMicroseconds(1, rows, form),
                  ProductMicroseconds(threads, rows, form));
    }
  }
  std::printf("\n");
  return 0;
}

int Run(int count, char** words) {
  if (count > 1 && std::string_view(words[1]) == "products") return Products(count, words);
  if (count > 2) return Decode(count, words);
  std::fprintf(stderr,
               "decode_bench SOURCE QUANTIZED [TOKENS=200] [THREADS=all]\n"
               "decode_bench products [THREADS=all] [ROWS=1]\n");
  return 2;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  return lieq::Run(count, words);
}
