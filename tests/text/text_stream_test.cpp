#include "lieq/text/text_stream.h"

#include <gtest/gtest.h>

#include "lieq/base/rng.h"
#include "lieq/text/utf8.h"
#include "tests/text/tiny_tokenizer.h"

namespace lieq {
namespace {

/// Ids 0 to 255 are the bytes.
std::vector<TokenId> BytesOf(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

TEST(TextStream, HoldsACharacterBackUntilItIsWhole) {
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());
  TextStream stream(tokenizer);
  std::vector<std::string> pieces;
  for (const TokenId id : BytesOf("aé€😀b")) pieces.push_back(stream.Add(id));
  const std::vector<std::string> expected{"a", "", "é", "", "", "€", "", "", "", "😀", "b"};
  EXPECT_EQ(pieces, expected);
  EXPECT_EQ(stream.Finish(), "");
}

TEST(TextStream, ReplacesWhatStaysCutAtTheEnd) {
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());
  TextStream stream(tokenizer);
  for (const TokenId id : BytesOf("\xF0\x9F\x98")) EXPECT_EQ(stream.Add(id), "");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(TextStream, GivesInPiecesWhatDecodeGivesForAnyBytes) {
  // Bytes at which rules change, so that ill-formed and cut sequences of all kinds come up.
  constexpr unsigned char kBytes[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                      0xC1, 0xC2, 0xDF, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xF5};
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());
  Rng rng(1);
  for (int trial = 0; trial < 5000; ++trial) {
    std::vector<TokenId> ids;
    TextStream stream(tokenizer);
    std::string text;
    for (int i = 0; i < 12; ++i) {
      ids.push_back(kBytes[rng.Below(sizeof(kBytes))]);
      const std::string piece = stream.Add(ids.back());
      std::string storage;
      ASSERT_EQ(ToValidUtf8(piece, storage), piece) << "trial " << trial;
      text += piece;
    }
    text += stream.Finish();
    ASSERT_EQ(text, tokenizer.Decode(ids)) << "trial " << trial;
  }
}

TEST(TextStream, KnowsTheBytesThatMoreCouldMakeWhole) {
  EXPECT_EQ(WholeCharacters(""), 0u);
  EXPECT_EQ(WholeCharacters("ab"), 2u);
  EXPECT_EQ(WholeCharacters("a\xE2\x82"), 1u);
  EXPECT_EQ(WholeCharacters("a\xE2\x82\xAC"), 4u);
  EXPECT_EQ(WholeCharacters("\xFF"), 1u);          // begins no character
  EXPECT_EQ(WholeCharacters("\x80\x80\x80"), 3u);  // nor do these
  EXPECT_EQ(WholeCharacters("\xE0\x80"), 2u);      // overlong: nothing makes it whole
}

}  // namespace
}  // namespace lieq
