// BPE over characters with bytes to fall back to: what the golden file (tokenizer_golden_test.cpp)
// does not hold.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/text/text_stream.h"
#include "tests/text/tiny_tokenizer.h"

namespace lieq {
namespace {

using Ids = std::vector<TokenId>;

constexpr TokenId kFirstByte = 3;

/// <unk>, <s> and </s>, the bytes, some letters, and the results of `merges`.
Json CharacterTokenizer(const std::vector<std::string>& merges = {"▁ a", "▁a b", "< s", "<s >"}) {
  Json document = ParseJson(R"({
    "version": "1.0",
    "added_tokens": [{"id": 1, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
      "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2}, "merges": []}})",
                            "characters");
  Json& vocab = document["model"]["vocab"];
  const auto add = [&](const std::string& name) {
    const std::size_t next = vocab.size();
    if (!vocab.contains(name)) vocab[name] = next;
  };
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (unsigned byte = 0; byte < 256; ++byte) {
    add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
  }
  for (const char* letter : {"▁", "a", "b", "c", "<", "s", ">"}) add(letter);
  for (const std::string& merge : merges) {
    document["model"]["merges"].push_back(merge);
    std::string merged = merge;
    merged.erase(merged.find(' '), 1);
    add(merged);
  }
  return document;
}

Ids BytesOf(std::string_view text) {
  Ids ids;
  for (const char c : text) ids.push_back(kFirstByte + static_cast<unsigned char>(c));
  return ids;
}

TEST(CharacterBpe, ShowsWholeCharactersOfARunOfBytesAtOnce) {
  const Tokenizer tokenizer = ParseTokenizer(CharacterTokenizer());
  TextStream stream(tokenizer);
  std::vector<std::string> pieces;
  for (const TokenId id : BytesOf("é😀")) pieces.push_back(stream.Add(id));
  const std::vector<std::string> expected{"", "é", "", "", "", "😀"};
  EXPECT_EQ(pieces, expected);
  EXPECT_EQ(stream.Finish(), "");
}

TEST(CharacterBpe, ReplacesABrokenRunByteByByte) {
  const Tokenizer tokenizer = ParseTokenizer(CharacterTokenizer());
  const TokenId a = tokenizer.Find("a").value();
  Ids ids = BytesOf("\xF0\x9F\x98");
  ids.push_back(a);
  EXPECT_EQ(tokenizer.Decode(ids), "\uFFFD\uFFFD\uFFFDa");
  TextStream stream(tokenizer);
  std::string text;
  for (const TokenId id : ids) text += stream.Add(id);
  EXPECT_EQ(text + stream.Finish(), "\uFFFD\uFFFD\uFFFDa");

  // The reference looks at a run as a whole; what was shown of it stays.
  ids = BytesOf("é\xF0");
  EXPECT_EQ(tokenizer.Decode(ids), "\uFFFD\uFFFD\uFFFD");
  TextStream shown(tokenizer);
  text.clear();
  for (const TokenId id : ids) text += shown.Add(id);
  EXPECT_EQ(text + shown.Finish(), "é\uFFFD");
}

TEST(CharacterBpe, StripsTheBeginningOfATextAndNotOfOneThatGoesOn) {
  const Tokenizer tokenizer = ParseTokenizer(CharacterTokenizer());
  const Ids ids{tokenizer.Find("▁a").value(), tokenizer.Find("▁ab").value()};
  EXPECT_EQ(tokenizer.Decode(ids), "a ab");
  TextStream begins(tokenizer), goes_on(tokenizer, false);
  EXPECT_EQ(begins.Add(ids[0]), "a");
  EXPECT_EQ(begins.Add(ids[1]), " ab");
  EXPECT_EQ(goes_on.Add(ids[0]), " a");
}

TEST(CharacterBpe, StreamsWhatDecodeGivesForWholeCharacters) {
  const Tokenizer tokenizer = ParseTokenizer(CharacterTokenizer());
  Rng rng(1);
  for (int trial = 0; trial < 500; ++trial) {
    Ids ids;
    for (int i = 0; i < 6; ++i) {
      const Ids more = BytesOf(std::vector<std::string>{"é", "😀", "\n"}[rng.Below(3)]);
      if (rng.Below(2) == 0) ids.insert(ids.end(), more.begin(), more.end());
      ids.push_back(static_cast<TokenId>(259 + rng.Below(9)));
    }
    TextStream stream(tokenizer);
    std::string text;
    for (const TokenId id : ids) text += stream.Add(id);
    ASSERT_EQ(text + stream.Finish(), tokenizer.Decode(ids)) << "trial " << trial;
  }
}

TEST(CharacterBpe, PlacesTokensInTheTextBeforeItsSpacesBecameMarks) {
  const Tokenizer tokenizer = ParseTokenizer(CharacterTokenizer());
  const PlacedTokens placed = tokenizer.EncodePlaced("a ab é<s> b", {});
  std::vector<std::pair<std::string, std::size_t>> names;
  for (std::size_t i = 0; i < placed.ids.size(); ++i) {
    names.emplace_back(tokenizer.Name(placed.ids[i]), placed.begins[i]);
  }
  const std::vector<std::pair<std::string, std::size_t>> expected{
      {"▁a", 0},  {"▁ab", 1}, {"▁", 4},  {"<0xC3>", 5}, {"<0xA9>", 6},
      {"<s>", 7}, {"▁", 10},  {"▁", 10}, {"b", 11}};
  EXPECT_EQ(names, expected);
}

TEST(CharacterBpe, MakesNoSpecialTokenOfPlainText) {
  const Tokenizer tokenizer = ParseTokenizer(CharacterTokenizer());
  const TokenId special = tokenizer.Find("<s>").value();
  const std::string text = "a<s>b";
  EXPECT_TRUE(std::ranges::count(tokenizer.Encode(text), special) == 1);
  const std::vector<PlainSpan> plain{{.begin = 0, .end = text.size()}};
  const PlacedTokens placed = tokenizer.EncodePlaced(text, plain);
  EXPECT_EQ(std::ranges::count(placed.ids, special), 0);  // though merges lead to it
  EXPECT_EQ(tokenizer.Decode(placed.ids), text);
  EXPECT_EQ(placed.begins.size(), placed.ids.size());
}

/// BPE as it is defined, over ids.
Ids MergeNaively(const Tokenizer& tokenizer, const std::vector<std::string>& merges, Ids ids) {
  while (true) {
    std::pair<std::size_t, std::size_t> best{merges.size(), 0};
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::string pair =
          std::string(tokenizer.Name(ids[i])) + " " + std::string(tokenizer.Name(ids[i + 1]));
      const auto rank = static_cast<std::size_t>(std::ranges::find(merges, pair) - merges.begin());
      if (rank < best.first) best = {rank, i};
    }
    if (best.first == merges.size()) return ids;
    const auto at = ids.begin() + static_cast<std::ptrdiff_t>(best.second);
    *at = tokenizer.Find(std::string(tokenizer.Name(*at)) + std::string(tokenizer.Name(*(at + 1))))
              .value();
    ids.erase(at + 1);
  }
}

class CharacterBpeProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(CharacterBpeProperty, CutsATextWhereNoMergeJoinsAndGivesTheSame) {
  Rng rng(GetParam());
  std::vector<std::string> tokens{"▁", "a", "b", "c"}, merges;
  for (int i = 0; i < 12; ++i) {
    const auto draw = [&] { return tokens[rng.Below(static_cast<std::uint32_t>(tokens.size()))]; };
    const std::string left = draw(), right = draw();
    const std::string merge = left + " " + right;
    if (left.size() + right.size() > 12 || std::ranges::count(merges, merge) > 0) continue;
    merges.push_back(merge);
    tokens.push_back(left + right);
  }
  Json document = CharacterTokenizer(merges);
  document["normalizer"] = nullptr;
  const Tokenizer tokenizer = ParseTokenizer(document);
  for (const std::uint32_t length : {1u, 5u, 40u, 100u}) {
    std::string text;
    Ids letters;
    for (std::uint32_t i = 0; i < length; ++i) {
      const std::string letter = std::vector<std::string>{"▁", "a", "b", "c", "é"}[rng.Below(5)];
      text += letter;
      const Ids more = letter == "é" ? BytesOf(letter) : Ids{tokenizer.Find(letter).value()};
      letters.insert(letters.end(), more.begin(), more.end());
    }
    EXPECT_EQ(tokenizer.Encode(text), MergeNaively(tokenizer, merges, letters)) << text;
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, CharacterBpeProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{40}));

TEST(CharacterBpe, TakesAQuarterMegabyteWithoutAPlaceToCut) {
  const Tokenizer tokenizer =
      ParseTokenizer(CharacterTokenizer({"a a", "aa aa", "aaaa aaaa", "b b", "a b", "b a"}));
  std::string text;
  Rng rng(1);
  while (text.size() < (1u << 18u)) text += "ab"[rng.Below(2)];
  const Ids ids = tokenizer.Encode(text);
  EXPECT_GT(ids.size(), text.size() / 8);
  EXPECT_EQ(tokenizer.Decode(ids), text);
}

}  // namespace
}  // namespace lieq
