// Products of packed codes over a plain read of the same bytes by as many threads.
//
//   packed_bench [--benchmark_filter=Qwen3-4B.*/2bits/int8/.*/rows:1$] ...
//
// Each round reads the bytes and then multiplies, in turn, over as many copies of a matrix as are
// beyond a quarter of a GiB, so that few lines are left in a cache from the round before; many rows
// take one copy. Of both
// the fastest round counts: `share` is a read's seconds over a product's, `read` and `GB/s` are
// bytes a second. With many rows `GMAC/s` says more. Groups of 64 columns, scales alone.

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/device/cpu/packed_products.h"

namespace lieq {
namespace {

using Clock = std::chrono::steady_clock;

struct Shape {
  const char* name;
  Index outs, ins;
};
constexpr const char* kInCache = "in-cache";  // one copy: what a product takes beside reading
constexpr std::array kShapes{
    Shape{"Qwen3-0.6B.qkv", 4096, 1024},     Shape{"Qwen3-0.6B.o", 1024, 2048},
    Shape{"Qwen3-0.6B.gate_up", 6144, 1024}, Shape{"Qwen3-0.6B.down", 1024, 3072},
    Shape{"Qwen3-4B.qkv", 6144, 2560},       Shape{"Qwen3-4B.o", 2560, 4096},
    Shape{"Qwen3-4B.gate_up", 19456, 2560},  Shape{"Qwen3-4B.down", 2560, 9728},
    Shape{"Llama-3.2-1B.qkv", 3072, 2048},   Shape{"Llama-3.2-1B.gate_up", 16384, 2048},
    Shape{"Llama-3.2-1B.down", 2048, 8192},  Shape{"Llama-3.1-8B.qkv", 6144, 4096},
    Shape{"Llama-3.1-8B.o", 4096, 4096},     Shape{"Llama-3.1-8B.gate_up", 28672, 4096},
    Shape{"Llama-3.1-8B.down", 4096, 14336}, Shape{kInCache, 512, 2048},
};

struct Case {
  Shape shape;
  int bits;
  Activations activations;
  int threads;
  Index rows;
  const PackedKernels* kernels;
};

QMatrix RandomCodes(Index outs, Index ins, int bits) {
  QMatrix matrix(outs, ins, {.bits = bits, .group_size = 64});
  Rng rng(1);
  for (std::uint32_t& word : matrix.words()) word = rng.Below(0xFFFFFFFFu);
  std::fill_n(matrix.scales().data(), matrix.scales().size(), 0.0078125f);
  return matrix;
}

__attribute__((target("avx512f"))) std::uint64_t Xor(const std::uint8_t* from, std::size_t bytes) {
  __m512i sums[4] = {};  // NOLINT(modernize-avoid-c-arrays): vectors lose their alignment elsewhere
  for (std::size_t i = 0; i + 256 <= bytes; i += 256) {
    for (std::size_t j = 0; j < 4; ++j) {
      sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(from + i + 64 * j));
    }
  }
  const __m512i all =
      _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
  alignas(64) std::array<std::uint64_t, 8> words;
  _mm512_store_si512(words.data(), all);
  return words[0] ^ words[1] ^ words[2] ^ words[3] ^ words[4] ^ words[5] ^ words[6] ^ words[7];
}

/// The bytes of a matrix, in as many parts as its products have.
void Read(const PackedMatrix& w, ThreadPool& pool, std::atomic<std::uint64_t>& sink) {
  const Index step = BlocksOfTask(1, w.blocks(), w.cols());
  const PackedBlocks all = w.From(0);
  const Index codes =
      w.shape().groups * w.shape().group_positions * w.shape().bits * kBlockRows / 8;
  const Index scales = w.shape().groups * kBlockRows * 2;
  pool.ParallelFor(CeilDiv(w.blocks(), step), [&](Index task, int) {
    const Index block = task * step, count = std::min(step, w.blocks() - block);
    sink ^=
        Xor(all.codes + block * codes, Size(count * codes)) ^
        Xor(static_cast<const std::uint8_t*>(all.scales) + block * scales, Size(count * scales));
  });
}

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void Run(benchmark::State& state, const Case& c) {
  ThreadPool pool(c.threads);
  const QMatrix codes = RandomCodes(c.shape.outs, c.shape.ins, c.bits);
  std::vector<PackedMatrix> copies;
  copies.emplace_back(codes, pool);
  const std::int64_t bytes = copies.front().bytes();
  const std::int64_t most = c.rows > 8 || c.shape.name == kInCache ? 0 : std::int64_t{1} << 28;
  while (static_cast<std::int64_t>(copies.size()) * bytes < most) {
    copies.emplace_back(codes, pool);
  }
  PackedProducts products(pool, *c.kernels, c.activations);
  Matrix<float> x(c.rows, c.shape.ins), y(c.rows, c.shape.outs);
  Rng rng(2);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(rng.Normal());
  std::atomic<std::uint64_t> sink = 0;
  double read = 1e9, product = 1e9;
  for (auto _ : state) {
    auto begin = Clock::now();
    for (const PackedMatrix& w : copies) Read(w, pool, sink);
    read = std::min(read, Seconds(begin));
    begin = Clock::now();
    for (const PackedMatrix& w : copies) {
      const PackedWork work{&w, nullptr, y.view()};
      products.Multiply(x.view(), {&work, 1}, false);
    }
    const double seconds = Seconds(begin);
    product = std::min(product, seconds);
    state.SetIterationTime(seconds);
  }
  benchmark::DoNotOptimize(sink.load());
  const auto all = static_cast<double>(bytes) * static_cast<double>(copies.size());
  const double work =
      static_cast<double>(c.shape.outs * c.shape.ins * c.rows) * static_cast<double>(copies.size());
  state.counters["share"] = read / product;
  state.counters["read"] = all / read * 1e-9;
  state.counters["GB/s"] = all / product * 1e-9;
  state.counters["GMAC/s"] = work / product * 1e-9;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  using namespace lieq;
  for (const PackedKernels* kernels : PackedKernelSets()) {
    if (!kernels->supported()) continue;
    for (const Shape& shape : kShapes) {
      for (const int bits : {2, 3, 4, 6, 8}) {
        for (std::size_t a = 0; a < kActivationNames.size(); ++a) {
          for (const int threads : {1, 2}) {
            for (const Index rows : {1, 8, 512}) {
              const auto activations = static_cast<Activations>(a);
              const std::string name =
                  std::string(kernels->name) + "/" + shape.name + "/" + std::to_string(bits) +
                  "bits/" + std::string(Name(activations)) + "/threads:" + std::to_string(threads) +
                  "/rows:" + std::to_string(rows);
              const Case c{shape, bits, activations, threads, rows, kernels};
              benchmark::RegisterBenchmark(name.c_str(),
                                           [c](benchmark::State& state) { Run(state, c); })
                  ->UseManualTime()
                  ->Iterations(rows > 8                 ? 3
                               : shape.name == kInCache ? 500
                                                        : 20)
                  ->Unit(benchmark::kMillisecond);
            }
          }
        }
      }
    }
  }
  benchmark::Initialize(&count, words);
  benchmark::RunSpecifiedBenchmarks();
}
