#include "lieq/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/text/utf8.h"
#include "tests/support/error_of.h"
#include "tests/support/places.h"
#include "tests/text/tiny_tokenizer.h"

namespace lieq {
namespace {

using Ids = std::vector<TokenId>;

Tokenizer Sample() {
  return Tokenizer::Open(std::string(LIEQ_SOURCE_DIR) + "/models/sample/tokenizer.json");
}

std::string Repeated(std::string_view part, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

/// Words, marks, white space and any code points, in NFC order or not.
std::string RandomText(Rng& rng, int pieces) {
  std::string text;
  for (int i = 0; i < pieces; ++i) {
    switch (rng.Below(5)) {
      case 0:
        text += " ";
        break;
      case 1:
        text += "the";
        break;
      case 2:
        AppendUtf8(text, 'a' + rng.Below(26));
        break;
      case 3:
        AppendUtf8(text, 0x300 + rng.Below(0x70));
        break;
      default:
        if (const char32_t c = rng.Below(0x110000); c < 0xD800 || c > 0xDFFF) AppendUtf8(text, c);
    }
  }
  return text;
}

class TokenizerProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(TokenizerProperty, DecodesWhatItEncodedWhereNothingIsNormalized) {
  Rng rng(GetParam());
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer({"t h", "th e", "Ġ the", "Ì ģ"}));
  const std::string text = RandomText(rng, 500);

  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
}

TEST_P(TokenizerProperty, ReadsAnyBytesAsTheirRepairedText) {
  Rng rng(GetParam());
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());
  std::string bytes;
  for (int i = 0; i < 300; ++i) bytes += static_cast<char>(rng.Below(256));
  std::string storage;

  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(bytes)), ToValidUtf8(bytes, storage));
}

TEST_P(TokenizerProperty, NormalizingAgainChangesNothing) {
  Rng rng(GetParam());
  Json document = TinyTokenizer();
  document["normalizer"] = {{"type", "NFC"}};
  const Tokenizer tokenizer = ParseTokenizer(document);
  const Ids ids = tokenizer.Encode(RandomText(rng, 500));

  EXPECT_EQ(tokenizer.Encode(tokenizer.Decode(ids)), ids);
}
INSTANTIATE_TEST_SUITE_P(Seeds, TokenizerProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{20}));

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer tokenizer = Sample();

  EXPECT_EQ(tokenizer.vocab(), 4096);
  EXPECT_EQ(tokenizer.Find("<|endoftext|>"), 4093);
  EXPECT_EQ(tokenizer.Find("Ġ"), 220);
  EXPECT_EQ(tokenizer.Find("no such token"), std::nullopt);
}

TEST(Tokenizer, EncodesTheSample) {
  const Tokenizer tokenizer = Sample();

  EXPECT_EQ(tokenizer.Encode("Hello, world!"), (Ids{39, 556, 78, 11, 1266, 0}));
  EXPECT_EQ(tokenizer.Encode("<|im_start|>a"), (Ids{4094, 64}));
  EXPECT_EQ(tokenizer.Encode(""), Ids{});
}

TEST(Tokenizer, LeavesOutSpecialTokensOnDemand) {
  const Tokenizer tokenizer = Sample();
  const Ids ids{4094, 64, 4095};

  EXPECT_EQ(tokenizer.Decode(ids), "<|im_start|>a<|im_end|>");
  EXPECT_EQ(tokenizer.Decode(ids, true), "a");
}

TEST(Tokenizer, RefusesToDecodeAnIdThatIsNoToken) {
  const Tokenizer tokenizer = Sample();

  EXPECT_THAT(ErrorOf([&] { return tokenizer.Decode({0, 4096}); }),
              testing::HasSubstr("found:    4096"));
  EXPECT_THAT(ErrorOf([&] { return tokenizer.Decode({-1}); }), testing::HasSubstr("out of range"));
}

TEST(Tokenizer, WritesPartsOfCharactersAsReplacements) {
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());

  EXPECT_EQ(tokenizer.Decode({0xE4, 0xB8, 0xAD}), "中");
  EXPECT_EQ(tokenizer.Decode({0xE4, 0xB8, 'a'}), "\uFFFDa");
  EXPECT_EQ(tokenizer.Decode({0xFF, 0xC0, 'a', 0xE4}), "\uFFFD\uFFFDa\uFFFD");
}

TEST(Tokenizer, MovesAndLeavesTheRestToTheNewOne) {
  Tokenizer first = Sample();
  Tokenizer second = std::move(first);
  first = ParseTokenizer(TinyTokenizer());

  EXPECT_EQ(second.vocab(), 4096);
  EXPECT_EQ(first.vocab(), 258);
}

TEST(Tokenizer, IsSharedByThreads) {
  const Tokenizer tokenizer = Sample();
  const std::string text = Repeated("Several threads split “this” text é\u0301 at once.\n", 20000);
  const Ids expected = tokenizer.Encode(text);

  std::vector<Ids> results(4);
  {
    std::vector<std::jthread> threads;
    for (Ids& ids : results) threads.emplace_back([&] { ids = tokenizer.Encode(text); });
  }

  for (const Ids& ids : results) EXPECT_EQ(ids, expected);
}

class LongRun : public testing::TestWithParam<const char*> {};

// One word, one match or one run of marks, where a quadratic step would take minutes.
TEST_P(LongRun, IsEncodedInTime) {
  const Tokenizer tokenizer = Sample();
  const std::string text = Repeated(GetParam(), 1 << 19) + "x";

  const auto begin = std::chrono::steady_clock::now();
  const Ids ids = tokenizer.Encode(text);

  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_TRUE(tokenizer.Decode(ids).ends_with("x"));
}
INSTANTIATE_TEST_SUITE_P(Parts, LongRun,
                         testing::Values("a", " ", "\n", " \n", "1", "!", "ab", "\u0301",
                                         "\u0315\u0327", "中", "<|im_st", "<|im_start|>", "<", "'s",
                                         "\xFF", "ᄒ"));

// More spaces than the steps back that PCRE2 allows unless it is told otherwise.
TEST(Tokenizer, TakesTensOfMegabytes) {
  const std::string text = Repeated(" ", 12 << 20) + "\n" + Repeated("words of a text, ", 8 << 20);
  Json document = TinyTokenizer({});
  document["pre_tokenizer"] = ParseJson(
      R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "behavior": "Isolated", "invert": false,
         "pattern": {"Regex": "\\p{L}+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})",
      "pre-tokenizer");

  EXPECT_EQ(ParseTokenizer(document).Encode(text).size(), text.size());
}

}  // namespace
}  // namespace lieq
