#include "lieq/text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/text/byte_map.h"
#include "tests/text/tiny_tokenizer.h"

namespace lieq {
namespace {

using Ids = std::vector<TokenId>;

/// BPE as it is defined: look at all neighbours, merge the leftmost pair of lowest rank, repeat.
Ids MergeNaively(const std::vector<std::string>& merges, const std::string& word,
                 const Vocabulary& vocabulary) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  while (true) {
    std::pair<std::size_t, std::size_t> best{merges.size(), 0};  // rank, position
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      for (std::size_t rank = 0; rank < best.first; ++rank) {
        if (merges[rank] == parts[i] + " " + parts[i + 1]) best = {rank, i};
      }
    }
    if (best.first == merges.size()) break;
    parts[best.second] += parts[best.second + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best.second) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(vocabulary.Find(part).value());
  return ids;
}

/// Merges over a, b and c: each of two tokens made before, in random order of rank.
std::vector<std::string> RandomMerges(Rng& rng) {
  std::vector<std::string> tokens{"a", "b", "c"};
  std::map<std::string, bool> known;
  std::vector<std::string> merges;
  for (int i = 0; i < 40; ++i) {
    const auto draw = [&] { return tokens[rng.Below(static_cast<std::uint32_t>(tokens.size()))]; };
    const std::string left = draw();
    const std::string right = draw();
    if (!known.emplace(left + " " + right, true).second || left.size() + right.size() > 9) continue;
    const auto place = rng.Below(static_cast<std::uint32_t>(merges.size()) + 1);
    merges.insert(merges.begin() + place, left + " " + right);
    tokens.push_back(left + right);
  }
  return merges;
}

class BpeProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(BpeProperty, AgreesWithTheDefinitionOnShortAndLongWords) {
  Rng rng(GetParam());
  const std::vector<std::string> merges = RandomMerges(rng);
  const Json document = TinyTokenizer(merges);
  const JsonObject root(document, "tiny");
  const Vocabulary vocabulary(root, NormalForm(root), TokenDecoder(root));
  const Bpe bpe(root.Object("model"), vocabulary, true);
  BpeEncoder encoder(bpe);

  for (const std::uint32_t length : {1u, 2u, 3u, 8u, 30u, 47u, 48u, 49u, 64u, 65u, 200u}) {
    std::string word;
    for (std::uint32_t i = 0; i < length; ++i) word += "abc"[rng.Below(3)];
    const Ids expected = MergeNaively(merges, word, vocabulary);
    for (int round = 0; round < 2; ++round) {  // anew, then remembered
      Ids ids;
      encoder.Encode(word, ids);
      EXPECT_EQ(ids, expected) << word;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, BpeProperty, testing::Range(std::uint64_t{0}, std::uint64_t{100}));

TEST(ByteMap, NumbersKeysInOrderAndFindsThemAll) {
  Rng rng(7);
  ByteMap map;
  std::map<std::string, std::int32_t> expected;
  EXPECT_EQ(map.Find("anything"), -1);
  for (int i = 0; i < 20000; ++i) {
    std::string key;
    for (std::uint32_t left = rng.Below(20); left > 0; --left) {
      key += static_cast<char>(rng.Below(3));  // many keys are alike, or parts of one another
    }
    const auto [entry, is_new] = expected.emplace(key, static_cast<std::int32_t>(map.size()));
    ASSERT_EQ(map.Find(key), is_new ? -1 : entry->second);
    if (is_new) map.Add(key);
  }
  ASSERT_EQ(map.size(), expected.size());
  for (const auto& [key, number] : expected) {
    EXPECT_EQ(map.Find(key), number);
    EXPECT_EQ(map.key(static_cast<std::size_t>(number)), key);
  }
}

TEST(ByteLevel, EveryByteHasACharacterOfItsOwn) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character = CharacterOfByte(static_cast<unsigned char>(byte));
    EXPECT_EQ(BytesOfToken(character), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(BytesOfToken("Ġthe"), " the");
  EXPECT_EQ(BytesOfToken("two words"), std::nullopt);  // a space is not of the alphabet
  EXPECT_EQ(BytesOfToken("日"), std::nullopt);
}

}  // namespace
}  // namespace lieq
