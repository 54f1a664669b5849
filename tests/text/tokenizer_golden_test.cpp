// Equality with Hugging Face's tokenizers: on the cases beside the shared tokenizers and models, on
// every option that is supported, and on every code point (tools/make_tokenizer_golden.py).

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/utf8.h"
#include "tests/support/places.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = LIEQ_SOURCE_DIR;

using Ids = std::vector<TokenId>;

Ids IdsOf(const Json& ids) {
  return ids.get<Ids>();
}

const Json& Golden() {
  static const Json golden = ReadJson(kSource / "tests/text/tokenizer.golden.json");
  return golden;
}

#define SKIP_WITHOUT(path) \
  if (!fs::exists(path)) GTEST_SKIP() << "not on this machine: " << (path)

struct SharedCase {
  const char* name;
  const char* folder;
  const char* cases;
};

class SharedTokenizer : public testing::TestWithParam<SharedCase> {};

TEST_P(SharedTokenizer, GivesTheIdsOfTheReference) {
  const fs::path folder = kSource / "../shared" / GetParam().folder;
  SKIP_WITHOUT(folder / "tokenizer.json");
  const Tokenizer tokenizer = Tokenizer::Open(folder / "tokenizer.json");
  const Json cases = ReadJson(folder / GetParam().cases);
  ASSERT_EQ(cases["cases"].size(), 264u);

  for (const Json& one : cases["cases"]) {
    const auto text = one["text"].get<std::string>();
    SCOPED_TRACE(text);
    EXPECT_EQ(tokenizer.Encode(text), IdsOf(one["ids"]));
    EXPECT_EQ(tokenizer.Encode(text, true), IdsOf(one["ids_with_special"]));
    EXPECT_EQ(tokenizer.Decode(IdsOf(one["ids"])), one["decoded"].get<std::string>());
  }
}

class SharedModel : public testing::TestWithParam<SharedCase> {};

TEST_P(SharedModel, GivesTheIdsThatItWasCheckedWith) {
  const fs::path folder = kSource / "../shared" / GetParam().folder;
  SKIP_WITHOUT(folder / "golden.json");
  const Tokenizer tokenizer = Tokenizer::Open(folder / "tokenizer.json");

  const Json golden = ReadJson(folder / "golden.json");
  for (const Json& one : golden["cases"]) {
    const auto text = one["text"].get<std::string>();
    SCOPED_TRACE(text);
    EXPECT_EQ(tokenizer.Encode(text, true), IdsOf(one["ids"]));
    EXPECT_EQ(tokenizer.Encode(text), IdsOf(one["ids_without_special"]));
    EXPECT_EQ(tokenizer.Decode(IdsOf(one["greedy"])), one["greedy_text"].get<std::string>());
  }
}

template <class Param>
std::string NameOf(const testing::TestParamInfo<Param>& test) {
  return test.param.name;
}

constexpr SharedCase kTokenizers[] = {
    {"llama3", "tokenizers/llama3", "cases.json"},
    {"qwen3", "tokenizers/qwen3", "cases.json"},
    {"smollm2", "tokenizers/smollm2", "cases.json"},
};
constexpr SharedCase kModels[] = {
    {"llama_tiny", "models/llama-tiny", "token_cases.json"},
    {"qwen2_tiny", "models/qwen2-tiny", "token_cases.json"},
    {"qwen3_tiny", "models/qwen3-tiny", "token_cases.json"},
    {"qwen3_24l", "models/qwen3-24l", "token_cases.json"},
};
INSTANTIATE_TEST_SUITE_P(Tokenizers, SharedTokenizer, testing::ValuesIn(kTokenizers),
                         NameOf<SharedCase>);
INSTANTIATE_TEST_SUITE_P(Models, SharedTokenizer, testing::ValuesIn(kModels), NameOf<SharedCase>);
INSTANTIATE_TEST_SUITE_P(Models, SharedModel, testing::ValuesIn(kModels), NameOf<SharedCase>);

TEST(TokenizerGolden, EveryOptionGivesTheIdsOfTheReference) {
  for (const Json& feature : Golden()["features"]) {
    SCOPED_TRACE(feature["name"].get<std::string>());
    const Tokenizer tokenizer = Tokenizer::Parse(feature["tokenizer"].dump(), "golden");
    for (const Json& one : feature["cases"]) {
      const auto text = one["text"].get<std::string>();
      SCOPED_TRACE(text);
      const Ids with_special = IdsOf(one["ids_with_special"]);
      EXPECT_EQ(tokenizer.Encode(text), IdsOf(one["ids"]));
      EXPECT_EQ(tokenizer.Encode(text, true), with_special);
      EXPECT_EQ(tokenizer.Decode(with_special), one["decoded"].get<std::string>());
      EXPECT_EQ(tokenizer.Decode(with_special, true),
                one["decoded_without_special"].get<std::string>());
    }
  }
}

constexpr char32_t kBlock = 0x1000;

/// Each code point of the block among letters, digits, spaces, itself and marks.
std::string SweepText(char32_t first) {
  std::string text;
  for (char32_t c = first; c < first + kBlock; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string one;
    AppendUtf8(one, c);
    text += "x" + one + "y" + one + one + " " + one + "1" + one + "\u0301\u0327" + one + "\u0316\n";
  }
  return text;
}

/// FNV-1a over the ids as little-endian 32-bit integers.
std::string HashOf(const Ids& ids) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<std::uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3u;
    }
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[hash >> shift & 0xF];
  return text;
}

struct Sweep {
  const char* name;
  std::size_t number;  // in the golden file
};

class EveryCodePoint : public testing::TestWithParam<Sweep> {};

TEST_P(EveryCodePoint, GivesTheIdsOfTheReference) {
  const Json& sweep = Golden()["sweeps"][GetParam().number];
  const fs::path file = kSource / sweep["tokenizer"].get<std::string>() / "tokenizer.json";
  SKIP_WITHOUT(file);
  const Tokenizer tokenizer = Tokenizer::Open(file);
  const Json& blocks = Golden()["sweep_blocks"];
  ASSERT_EQ(sweep["hashes"].size(), blocks.size());

  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::string text = SweepText(blocks[i].get<char32_t>());
    EXPECT_EQ(HashOf(tokenizer.Encode(text)), sweep["hashes"][i].get<std::string>())
        << "code points from " << std::hex << blocks[i].get<std::uint32_t>();
  }
}

constexpr Sweep kSweeps[] = {{"sample", 0}, {"llama3", 1}, {"qwen3", 2}, {"smollm2", 3}};
INSTANTIATE_TEST_SUITE_P(Tokenizers, EveryCodePoint, testing::ValuesIn(kSweeps), NameOf<Sweep>);

}  // namespace
}  // namespace lieq
