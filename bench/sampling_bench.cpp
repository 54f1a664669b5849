// Choosing a token from logits: microseconds of Sampler beside those of sorting all tokens.
//
//   sampling_bench [VOCABULARY] [ROUNDS]
//
// Logits are normal with a standard deviation of 2.5, and some tokens lie far above the rest, as
// where a text goes on. Medians over the rounds, which take turns.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/model/sampling.h"
#include "tests/support/plain_sampler.h"

namespace lieq {
namespace {

double Median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

template <class Choose>
double Microseconds(const Choose& choose) {
  const auto begin = std::chrono::steady_clock::now();
  choose();
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - begin;
  return spent.count();
}

void Run(std::size_t vocabulary, int rounds) {
  const std::pair<const char*, SamplingOptions> cases[] = {
      {"the likeliest", {}},
      {"temperature 0.6, top-k 20, top-p 0.95", {.temperature = 0.6, .top_k = 20, .top_p = 0.95}},
      {"temperature 0.6, top-p 0.9", {.temperature = 0.6, .top_p = 0.9}},
      {"temperature 1, min-p 0.05", {.temperature = 1, .min_p = 0.05}},
      {"temperature 1", {.temperature = 1}},
      {"temperature 0.6, top-k 20, penalty 1.1",
       {.temperature = 0.6, .top_k = 20, .repetition_penalty = 1.1}},
  };
  std::printf("%-42s %10s %10s\n", "microseconds a token", "Sampler", "sorting");
  for (const auto& [name, options] : cases) {
    Rng rng(1);
    std::vector<float> logits(vocabulary);
    Sampler sampler(options, 1);
    PlainSampler plain(options, 1);
    std::vector<double> ours, sorting;
    for (int round = 0; round < rounds; ++round) {
      for (float& logit : logits) logit = static_cast<float>(2.5 * rng.Normal());
      TokenId found = 0, expected = 0;
      for (int i = 0; i < 20; ++i) {
        const auto token = rng.Below(static_cast<std::uint32_t>(vocabulary));
        logits[token] = static_cast<float>(14 + 2 * rng.Normal());
      }
      ours.push_back(Microseconds([&] { found = sampler.Next(logits); }));
      sorting.push_back(Microseconds([&] { expected = plain.Next(logits); }));
      if (options.repetition_penalty == 1 && found != expected) {
        std::fprintf(stderr, "%s: token %d, not %d\n", name, found, expected);
        std::exit(1);
      }
    }
    std::printf("%-42s %10.0f %10.0f\n", name, Median(ours), Median(sorting));
  }
}

}  // namespace
}  // namespace lieq

int main(int count, char** arguments) {
  const auto vocabulary = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 151936;
  const int rounds = count > 2 ? std::atoi(arguments[2]) : 21;
  if (count > 3 || vocabulary == 0 || rounds < 1) {
    std::fprintf(stderr, "usage: sampling_bench [VOCABULARY] [ROUNDS]\n");
    return 2;
  }
  lieq::Run(vocabulary, rounds);
  return 0;
}
