// What a GPU makes of packed codes: products beside cuBLASLt's and a copy, and tokens a second.
//
//   cuda_bench products [SHAPE [BITS [ROWS [LINEAR]]]]   SHAPE: a row of kShapes, or all; BITS,
//   ROWS:
//                                                        2,4; LINEAR: gate+up
//   cuda_bench generate SHAPE BITS BATCH CONTEXT [plain] [LAYERS]
//
// products: microseconds of each fused linear in a chain of launches, each of which waits for the
// one before it, over as many matrices as fill 400 MB; the median of 5 replays of the chain. Beside
// it the bytes of the codes over that time as a share of what a copy reads and writes, and the time
// of cuBLASLt in bf16 (rounding of x included) over it. generate: a random model of the shape,
// groups of 64, embedding and head of 4 bits; the median of 5 runs of 64 tokens.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/thread_pool.h"
#include "lieq/device/cuda/cuda_device.h"
#include "lieq/model/decoder.h"
#include "tests/support/random_weights.h"

namespace lieq {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

struct Shape {
  std::string_view name;
  Index layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  bool qk_norm, tied;
};
constexpr std::array kShapes{
    Shape{"Qwen3-0.6B", 28, 1024, 3072, 16, 8, 128, 151936, true, true},
    Shape{"Qwen3-4B", 36, 2560, 9728, 32, 8, 128, 151936, true, true},
    Shape{"Llama-3.1-8B", 32, 4096, 14336, 32, 8, 128, 128256, false, false},
};

const Shape& Find(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name == name) return shape;
  }
  throw Error({.what = "no such shape", .where = "cuda_bench", .found = std::string(name)});
}

struct Linear {
  std::string_view name;
  std::vector<Index> out;
  Index in;
};
std::vector<Linear> LinearsOf(const Shape& s) {
  const Index q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  return {{"qkv", {q, kv, kv}, s.hidden},
          {"o", {s.hidden}, q},
          {"gate+up", {s.intermediate, s.intermediate}, s.hidden},
          {"down", {s.hidden}, s.intermediate}};
}

/// Seconds of a product in a chain of them, which one graph holds.
class Chain {
 public:
  Chain(Device& device, const Linear& linear, Index rows, const auto& weight_of, double bytes)
      : device_(device), x_(device.Alloc(rows, linear.in)) {
    Matrix<float> x(rows, linear.in);
    Rng rng(5);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(rng.Normal());
    device.Upload(x.view(), x_.view());
    matrices_ = std::clamp<Index>(static_cast<Index>(400e6 / bytes), 4, kLength);
    for (Index i = 0; i < matrices_; ++i) {
      for (const Index out : linear.out) weights_.push_back(device.Prepare(weight_of(out)));
    }
    for (const Index out : linear.out) y_.push_back(device.Alloc(rows, out));
    Run();  // scratch is taken
    device.Sync();
  }

  double Measure() {
    const TokenId token = 0;
    const AttentionSpan span{.length = 1};
    std::unique_ptr<RepeatedStep> kept;
    std::vector<double> seconds;
    constexpr int kRuns = 6;
    for (int run = 0; run < kRuns; ++run) {
      const auto begin = Clock::now();
      for (int i = 0; i < 4; ++i) {
        device_.Repeat(kept, {&token, 1}, {&span, 1}, y_.front().view(), [&] { Run(); });
      }
      device_.Sync();
      if (run > 0) seconds.push_back(Seconds(begin) / static_cast<double>(4 * kLength));
    }
    return Median(seconds);
  }

 private:
  static constexpr Index kLength = 200;  // products of a chain

  void Run() {
    for (Index i = 0; i < kLength; ++i) {
      std::vector<Product> products;
      for (std::size_t part = 0; part < y_.size(); ++part) {
        products.push_back(
            {*weights_[Size(i % matrices_) * y_.size() + part], {}, y_[part].view()});
      }
      device_.Products(x_.view(), products, false);
    }
  }

  Device& device_;
  DeviceMatrix x_;
  Index matrices_ = 0;
  std::vector<Prepared> weights_;
  std::vector<DeviceMatrix> y_;
};

double CopyBytesPerSecond(Device& device) {
  constexpr Index kSide = Index{1} << 14, kFloats = kSide * kSide;
  const DeviceMatrix from = device.Alloc(kSide, kSide), to = device.Alloc(kSide, kSide);
  device.Scale(from.view(), 0);
  std::vector<double> seconds;
  for (int run = 0; run < 6; ++run) {
    device.Sync();
    const auto begin = Clock::now();
    for (int i = 0; i < 10; ++i) device.Copy(from.view(), to.view());
    device.Sync();
    if (run > 0) seconds.push_back(Seconds(begin) / 10);
  }
  return 2 * static_cast<double>(kFloats) * sizeof(float) / Median(seconds);
}

/// "2,4" as numbers.
std::vector<Index> Numbers(std::string_view words) {
  std::vector<Index> numbers;
  while (!words.empty()) {
    const std::size_t comma = std::min(words.find(','), words.size());
    numbers.push_back(std::atoi(std::string(words.substr(0, comma)).c_str()));
    words.remove_prefix(std::min(comma + 1, words.size()));
  }
  return numbers;
}

void Products(ThreadPool& pool, std::span<const std::string_view> words) {
  std::vector<const Shape*> shapes;
  if (words.empty() || words[0] == "all") {
    for (const Shape& shape : kShapes) shapes.push_back(&shape);
  } else {
    shapes.push_back(&Find(words[0]));
  }
  const std::vector<Index> widths = Numbers(words.size() > 1 ? words[1] : "2,4");
  const std::vector<Index> rows = Numbers(words.size() > 2 ? words[2] : "1,4,8,16,32,64,512,2048");
  const auto packed = MakeCudaDevice(
      pool, {.kernels = std::string(kPackedKernels), .arithmetic = Arithmetic::kBf16});
  const double copied = CopyBytesPerSecond(*packed);
  std::printf("%s\ncopy %.0f GB/s\n", packed->description().c_str(), copied / 1e9);
  for (const Shape* shape : shapes) {
    for (const Linear& linear : LinearsOf(*shape)) {
      if (words.size() > 3 && words[3] != linear.name) continue;
      Index outs = 0;
      for (const Index out : linear.out) outs += out;
      std::vector<double> reference(rows.size());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        // cuBLASLt takes more than 16 rows here, and as long for 17 as for one.
        const auto floats = MakeCudaDevice(pool, {.arithmetic = Arithmetic::kBf16});
        Matrix<Bf16> wide(std::ranges::max(linear.out), linear.in);
        std::uint32_t state = 1;
        for (Index k = 0; k < wide.size(); ++k) {
          state = state * 1664525 + 1013904223;
          wide.data()[k] =
              ToBf16(static_cast<float>(static_cast<int>(state >> 16) - 32768) * 1e-6f);
        }
        if (i > 0 && rows[i] <= 16 && rows[0] <= 16) {
          reference[i] = reference[0];
          continue;
        }
        Chain chain(
            *floats, linear, std::max<Index>(rows[i], 17),
            [&](Index out) {
              return AnyMatrix(View<const Bf16, 2>(std::as_const(wide).view()).Rows(0, out));
            },
            static_cast<double>(outs * linear.in * 2));
        reference[i] = chain.Measure();
      }
      for (const Index width : widths) {
        const int bits = static_cast<int>(width);
        const Grid grid{.bits = bits, .group_size = 64};
        const double bytes = static_cast<double>(outs * linear.in) * (bits + 0.25) / 8;
        std::array<std::shared_ptr<const QMatrix>, 2> made{
            RandomCodes(linear.out.front(), linear.in, grid, 1),
            RandomCodes(linear.out.back(), linear.in, grid, 2)};
        std::printf("%-13s %-8s %d bits %5.1f MB:", std::string(shape->name).c_str(),
                    std::string(linear.name).c_str(), bits, bytes / 1e6);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          Chain chain(
              *packed, linear, rows[i],
              [&](Index out) { return AnyMatrix(made[0]->rows() == out ? made[0] : made[1]); },
              bytes);
          const double seconds = chain.Measure();
          std::printf("  %td: %.2f us", rows[i], seconds * 1e6);
          if (rows[i] == 1) std::printf(" (%.0f %% of copy)", 100 * bytes / seconds / copied);
          std::printf(" %.2fx", reference[i] / seconds);
        }
        std::printf("\n");
        std::fflush(stdout);
      }
    }
  }
}

void Generate(ThreadPool& pool, std::span<const std::string_view> words) {
  const auto number = [&](std::size_t i) {
    return static_cast<Index>(std::atoi(std::string(words[i]).c_str()));
  };
  const Shape& shape = Find(words[0]);
  const Index batch = number(2), context = number(3);
  const bool plain = words.size() > 4 && words[4] == "plain";
  ModelConfig config;
  config.layers = words.size() > 5 ? number(5) : shape.layers;
  config.hidden = shape.hidden, config.intermediate = shape.intermediate;
  config.heads = shape.heads, config.kv_heads = shape.kv_heads, config.head_dim = shape.head_dim;
  config.vocab = shape.vocab, config.qk_norm = shape.qk_norm, config.tied = shape.tied;
  const int bits = static_cast<int>(number(1));
  Weights weights = RandomWeights(config, {.bits = bits, .group_size = 64},
                                  {.bits = 4, .group_size = 64}, /*alike=*/true);
  double bytes = static_cast<double>(config.vocab * config.hidden) * 4.25 / 8;
  bytes += static_cast<double>(config.LayerWeightCount()) * static_cast<double>(config.layers) *
           (bits + 0.25) / 8;
  const auto device = MakeCudaDevice(
      pool, {.kernels = plain ? "" : std::string(kPackedKernels), .cache = CacheType::kF16});
  const double copied = CopyBytesPerSecond(*device);
  constexpr Index kNew = 64;
  constexpr int kRuns = 5;
  Decoder decoder(std::move(weights), *device, batch, context + (kRuns + 2) * kNew);
  Matrix<float> logits(batch, config.vocab);
  Matrix<TokenId> prompt(batch, context), one(batch, 1);
  Rng rng(9);
  for (Index i = 0; i < prompt.size(); ++i) {
    prompt.data()[i] = static_cast<TokenId>(rng.Below(static_cast<std::uint32_t>(config.vocab)));
  }
  decoder.Append(prompt.view(), logits.view());
  std::vector<double> seconds;
  for (int run = 0; run <= kRuns; ++run) {
    for (Index s = 0; s < batch; ++s) decoder.Rewind(context, s);
    const auto begin = Clock::now();
    for (Index i = 0; i < kNew; ++i) {
      for (Index s = 0; s < batch; ++s) one(s, 0) = prompt(s, i % context);
      (void)decoder.Append(one.view());
    }
    if (run > 0) seconds.push_back(Seconds(begin) / kNew);
  }
  const double step = Median(seconds);
  std::printf(
      "%s %d bits, %td layers, batch %td, context %td%s: %.0f us a step, %.0f tokens a second, "
      "%.1f %% of %.0f MB over copy (%.0f GB/s)\n",
      std::string(shape.name).c_str(), bits, config.layers, batch, context, plain ? ", plain" : "",
      step * 1e6, static_cast<double>(batch) / step, 100 * bytes / copied / step, bytes / 1e6,
      copied / 1e9);
}

int Run(std::span<const std::string_view> words) {
  ThreadPool pool(static_cast<int>(std::thread::hardware_concurrency()));
  if (!words.empty() && words[0] == "products") {
    Products(pool, words.subspan(1));
  } else if (words.size() >= 5 && words[0] == "generate") {
    Generate(pool, words.subspan(1));
  } else {
    std::fputs(
        "usage: cuda_bench products [SHAPE [BITS [ROWS [LINEAR]]]]\n"
        "       cuda_bench generate SHAPE BITS BATCH CONTEXT [packed|plain] [LAYERS]\n",
        stderr);
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int count, char** words) {
  try {
    const std::vector<std::string_view> all(words + 1, words + count);
    return lieq::Run(all);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
