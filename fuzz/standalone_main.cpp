// Runs a fuzz target without libFuzzer: every seed as it is, then mutations of them, the same ones
// on every machine.
//
// usage: TARGET [-runs=N] [FOLDER | FILE]...
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/base/rng.h"

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace lieq {
namespace {

constexpr std::size_t kMostBytes = 1 << 16;
constexpr std::array<std::string_view, 24> kSnippets{"0",
                                                     "1",
                                                     "-1",
                                                     "255",
                                                     "4294967296",
                                                     "9223372036854775807",
                                                     "18446744073709551615",
                                                     "1e308",
                                                     "null",
                                                     "true",
                                                     "false",
                                                     "\"\"",
                                                     "[]",
                                                     "{}",
                                                     "[",
                                                     "]",
                                                     "{",
                                                     "}",
                                                     ",",
                                                     ":",
                                                     "\"",
                                                     "\\",
                                                     "\x80",
                                                     "\xFF"};

std::vector<std::string> ReadSeeds(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      if (std::filesystem::exists(path)) files.emplace_back(path);  // a target may have no seeds
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> seeds;
  for (const auto& file : files) seeds.push_back(ReadText(file));
  return seeds;
}

/// One small change; the empty text can only grow.
void Mutate(std::string& text, const std::vector<std::string>& seeds, Rng& rng) {
  const auto below = [&](std::size_t bound) {
    return static_cast<std::size_t>(rng.Below(static_cast<std::uint32_t>(bound)));
  };
  const std::size_t at = below(text.size() + 1);
  const std::size_t length = 1 + below(1 + below(32));
  const std::size_t kind = text.empty() ? 6 : below(8);
  char* const byte = text.empty() ? nullptr : &text[std::min(at, text.size() - 1)];
  switch (kind) {
    case 0:
      *byte = static_cast<char>(*byte ^ (1 << below(8)));
      break;
    case 1:
      *byte = static_cast<char>(below(256));
      break;
    case 2:
      *byte = static_cast<char>(*byte + static_cast<int>(below(9)) - 4);
      break;
    case 3:
      text.erase(at, length);
      break;
    case 4:  // again, elsewhere
      text.insert(below(text.size() + 1), text.substr(at, length));
      break;
    case 5: {  // a part of another seed
      const std::string& other = seeds[below(seeds.size())];
      const std::size_t from = below(other.size() + 1);
      text.replace(at, below(length + 1), other.substr(from, below(256)));
      break;
    }
    case 6:
      text.insert(at, kSnippets[below(kSnippets.size())]);
      break;
    default:  // a number or word in place of one
      text.replace(at, length, kSnippets[below(kSnippets.size())]);
      break;
  }
  if (text.size() > kMostBytes) text.resize(kMostBytes);
}

void Run(const std::string& text) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
}

int Main(const std::vector<std::string>& arguments) {
  std::uint64_t runs = 10'000;
  std::vector<std::string> paths;
  for (const std::string& argument : arguments) {
    constexpr std::string_view kRuns = "-runs=";
    if (argument.starts_with(kRuns)) {
      std::from_chars(argument.data() + kRuns.size(), argument.data() + argument.size(), runs);
    } else {
      paths.push_back(argument);
    }
  }
  std::vector<std::string> seeds = ReadSeeds(paths);
  if (seeds.empty()) seeds.emplace_back();
  for (const std::string& seed : seeds) Run(seed);
  for (std::uint64_t i = 0; i < runs; ++i) {
    Rng rng(1, i);  // a stream for each run, so that any of them can be repeated alone
    std::string text = seeds[rng.Below(static_cast<std::uint32_t>(seeds.size()))];
    for (std::uint32_t change = 0; change <= rng.Below(8); ++change) Mutate(text, seeds, rng);
    Run(text);
  }
  std::printf("%zu seeds and %llu mutations of them\n", seeds.size(),
              static_cast<unsigned long long>(runs));
  return 0;
}

}  // namespace
}  // namespace lieq

int main(int argc, char** argv) {
  try {
    return lieq::Main({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
